"""The newest ONNX opset and IR version that an ONNX Runtime loads, found by loading one-node models of rising versions.

ONNX Runtime refuses a model stamped with an opset or IR version newer than it knows (docs/Versioning.md of the project), so
this holds for every version and build, and needs no table that ages. Each try takes well under a millisecond.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

#: Every ONNX Runtime of the last years takes these (1.10 and newer).
OLDEST_IR, OLDEST_OPSET = 7, 13
#: Far ahead of what exists; ends the search if a build takes everything.
NEWEST_IR, NEWEST_OPSET = 64, 200


@dataclass(frozen=True, slots=True, kw_only=True)
class OnnxLimits:
    """The newest versions that were loaded; None if even the oldest was refused."""

    ir: int | None
    opset: int | None


@cache
def probe(module: Any) -> OnnxLimits:
    """Return the limits of an imported `onnxruntime` module."""
    options = module.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1

    def loads(ir: int, opset: int) -> bool:
        try:
            module.InferenceSession(identity_model(ir, opset), options, providers=["CPUExecutionProvider"])
        except Exception:
            return False
        return True

    ir = _newest(lambda version: loads(version, OLDEST_OPSET), OLDEST_IR, NEWEST_IR)
    opset = None if ir is None else _newest(lambda version: loads(ir, version), OLDEST_OPSET, NEWEST_OPSET)
    return OnnxLimits(ir=ir, opset=opset)


def _newest(accepts: Any, oldest: int, newest: int) -> int | None:
    """Return the last version in a row that is accepted."""
    found = None
    for version in range(oldest, newest):
        if not accepts(version):
            break
        found = version
    return found


def identity_model(ir: int, opset: int) -> bytes:
    """Return an ONNX ModelProto with one Identity node, written by hand: the agent does not depend on `onnx`.

    Field numbers are those of onnx.proto: ModelProto 1 ir_version, 7 graph, 8 opset_import; GraphProto 1 node, 2 name,
    11 input, 12 output; NodeProto 1 input, 2 output, 4 op_type; ValueInfoProto 1 name, 2 type.
    """
    tensor = _number(1, 1) + _bytes(2, _bytes(1, _number(1, 1)))  # float, shape [1]
    kind = _bytes(1, tensor)
    node = _bytes(1, b"x") + _bytes(2, b"y") + _bytes(4, b"Identity")
    graph = _bytes(1, node) + _bytes(2, b"g")
    graph += _bytes(11, _bytes(1, b"x") + _bytes(2, kind)) + _bytes(12, _bytes(1, b"y") + _bytes(2, kind))
    return _number(1, ir) + _bytes(7, graph) + _bytes(8, _bytes(1, b"") + _number(2, opset))


def _number(field: int, value: int) -> bytes:
    return bytes([field << 3]) + _varint(value)


def _bytes(field: int, data: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
