"""The worker's wire: frames of a JSON header and a binary payload over a pipe.

A frame is two big-endian 32-bit lengths, the header (UTF-8 JSON object with a `type`), and the payload. Runs travel as the
columns of `contract.runs`. Standard library only: the supervisor imports this too.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterable, Mapping
from typing import Any

from device_agent.contract.artifact import Tensor

PREFIX = struct.Struct("!II")
MAX_HEADER_BYTES = 16 << 20
MAX_PAYLOAD_BYTES = (1 << 32) - 1


def encode(header: Mapping[str, Any], payload: bytes = b"") -> bytes:
    """Return the bytes of one frame."""
    text = json.dumps(header, separators=(",", ":")).encode()
    if len(text) > MAX_HEADER_BYTES or len(payload) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"frame with a header of {len(text)} and a payload of {len(payload)} bytes is too large")
    return PREFIX.pack(len(text), len(payload)) + text + payload


def lengths(prefix: bytes) -> tuple[int, int]:
    """Return (header bytes, payload bytes) from a frame's first eight bytes; ValueError if the header is absurd."""
    header_bytes, payload_bytes = PREFIX.unpack(prefix)
    if header_bytes > MAX_HEADER_BYTES:
        raise ValueError(f"frame header of {header_bytes} bytes is over {MAX_HEADER_BYTES}")
    return header_bytes, payload_bytes


def write_frame(fd: int, header: Mapping[str, Any], payload: bytes = b"") -> None:
    """Write one whole frame to a blocking descriptor; OSError (EPIPE) when the reader is gone."""
    view = memoryview(encode(header, payload))
    while view:
        view = view[os.write(fd, view) :]


def read_frame(fd: int) -> tuple[dict[str, Any], bytes] | None:
    """Read one frame from a blocking descriptor. None when the writer closed it between two frames."""
    prefix = _read_exactly(fd, PREFIX.size)
    if prefix is None:
        return None
    header_bytes, payload_bytes = lengths(prefix)
    header = _read_exactly(fd, header_bytes)
    payload = _read_exactly(fd, payload_bytes)
    if header is None or payload is None:
        raise EOFError("the pipe closed inside a frame")
    return json.loads(header), payload


def _read_exactly(fd: int, count: int) -> bytes | None:
    """Return `count` bytes; None at an immediate end of file; EOFError at an end within them."""
    parts: list[bytes] = []
    missing = count
    while missing:
        part = os.read(fd, min(missing, 1 << 20))
        if not part:
            if missing == count:
                return None
            raise EOFError(f"the pipe closed {missing} bytes before the end of a frame")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def tensors_frame(kind: str, tensors: Iterable[Tensor]) -> tuple[dict[str, Any], bytes]:
    """Return (header, payload) of a frame of type `kind` that carries tensors, their data one after the other."""
    listed = list(tensors)
    specs = [[tensor.name, tensor.dtype, list(tensor.shape), len(tensor.data)] for tensor in listed]
    return {"type": kind, "tensors": specs}, b"".join(tensor.data for tensor in listed)


def tensors_of(header: Mapping[str, Any], payload: bytes) -> tuple[Tensor, ...]:
    """Return the tensors of a frame made by `tensors_frame`."""
    found: list[Tensor] = []
    offset = 0
    for name, dtype, shape, size in header["tensors"]:
        found.append(Tensor(name=name, dtype=dtype, shape=tuple(shape), data=payload[offset : offset + size]))
        offset += size
    return tuple(found)
