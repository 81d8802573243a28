"""The nodes of an `.onnx` file, read without the `onnx` package, which the agent does not have. Weights are skipped, not read.

Field numbers are those of onnx.proto. ModelProto: 7 graph. GraphProto: 1 node, 5 initializer, 11 input, 15 sparse_initializer.
NodeProto: 1 input, 2 output, 3 name, 4 op_type, 5 attribute. AttributeProto: 1 name, 4 s. TensorProto: 8 name. ValueInfoProto:
1 name. SparseTensorProto: 1 values.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxNode:
    """A node of the main graph. `activation` is what the runtime fused into it, by its attribute of that name."""

    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    activation: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxGraph:
    """The main graph: nodes in the order of the file, names of the inputs that are no constants, and of the constants."""

    nodes: tuple[OnnxNode, ...]
    inputs: frozenset[str]
    constants: frozenset[str]


def read_graph(path: Path) -> OnnxGraph:
    """Return the graph of a file. ValueError for what is no ONNX file, OSError by the disk."""
    with path.open("rb") as file:
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return _graph(next((body for number, body in _fields(view) if number == 7), view[:0]))


def _graph(data: memoryview) -> OnnxGraph:
    nodes: list[OnnxNode] = []
    inputs: set[str] = set()
    constants: set[str] = set()
    for number, body in _fields(data):
        if number == 1:
            nodes.append(_node(body))
        elif number == 5:
            constants.add(_text(body, 8))
        elif number == 11:
            inputs.add(_text(body, 1))
        elif number == 15:
            constants.add(_text(next(one for field, one in _fields(body) if field == 1), 8))
    return OnnxGraph(nodes=tuple(nodes), inputs=frozenset(inputs - constants), constants=frozenset(constants))


def _node(data: memoryview) -> OnnxNode:
    inputs: list[str] = []
    outputs: list[str] = []
    name = op_type = ""
    activation = None
    for number, body in _fields(data):
        if number == 1:
            inputs.append(_string(body))
        elif number == 2:
            outputs.append(_string(body))
        elif number == 3:
            name = _string(body)
        elif number == 4:
            op_type = _string(body)
        elif number == 5 and _text(body, 1) == "activation":
            activation = _text(body, 4)
    return OnnxNode(
        name=name, op_type=op_type, inputs=tuple(inputs), outputs=tuple(outputs), activation=activation or None
    )


def _text(data: memoryview, wanted: int) -> str:
    return next((_string(body) for number, body in _fields(data) if number == wanted), "")


def _string(data: memoryview) -> str:
    return bytes(data).decode(errors="replace")


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield (number, body) of the length-delimited fields of a message; numbers and fixed-size values are passed over."""
    place, end = 0, len(data)
    while place < end:
        key, place = _varint(data, place)
        kind = key & 7
        if kind == 0:
            _, place = _varint(data, place)
        elif kind in (1, 5):
            place += 8 if kind == 1 else 4
        elif kind == 2:
            size, place = _varint(data, place)
            if place + size > end:
                raise ValueError(f"a field of {size} bytes at byte {place} goes beyond its message of {end}")
            yield key >> 3, data[place : place + size]
            place += size
        else:
            raise ValueError(f"byte {place} has wire type {kind}, which protobuf does not use here")


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if place >= len(data) or shift > 63:
            raise ValueError(f"the number at byte {place} does not end")
        byte = data[place]
        value |= (byte & 127) << shift
        place += 1
        if byte < 128:
            return value, place
        shift += 7
