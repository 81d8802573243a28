"""A `.tflite` file in memory: operators, tensors and constants of its one graph. The schema comes with ai-edge-litert."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from device_agent.contract.errors import StableError
from host.files import write_whole

Array = npt.NDArray[Any]
Shape = tuple[int, ...]

#: TensorType -> numpy, of those that constants of a float or 8-bit network have.
DTYPES = {0: np.float32, 1: np.float16, 2: np.int32, 3: np.uint8, 4: np.int64, 6: np.bool_, 7: np.int16, 9: np.int8}
FLOAT32 = 0


class TfliteUnavailable(StableError):
    """A package that TFLite files are read or made with is missing; the message says how to install it."""


class BadTflite(StableError):
    """A file is no `.tflite` file, or one that is not handled; the message names it and says why."""


def schema() -> Any:
    """Return the module of the schema's classes. TfliteUnavailable without ai-edge-litert."""
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError as error:
        raise TfliteUnavailable(
            "TFLite files are read with ai-edge-litert, which is not installed on this host; "
            "install it with: pip install 'boardfit[litert]'"
        ) from error
    return schema_py_generated


class Graph:
    """The one graph of a file. Tensors go by their numbers; an operator's missing inputs are left out of `inputs`."""

    def __init__(self, model: Any, name: str) -> None:
        if len(model.subgraphs) != 1:
            raise BadTflite(f"{name} has {len(model.subgraphs)} graphs; only files without control flow are handled")
        self.model, self._graph = model, model.subgraphs[0]
        self.operators: list[Any] = self._graph.operators

    @classmethod
    def read(cls, path: Path) -> Graph:
        """Read a file. Raises BadTflite, TfliteUnavailable, OSError."""
        return cls.parse(path.read_bytes(), str(path))

    @classmethod
    def parse(cls, content: bytes, name: str) -> Graph:
        """Read the bytes of a file; `name` is for messages."""
        if content[4:8] != b"TFL3":
            raise BadTflite(f"{name} is not a TFLite file (no TFL3 mark in its head)")
        return cls(schema().ModelT.InitFromPackedBuf(content, 0), name)

    def write(self, path: Path) -> None:
        """Write the file whole, without the constants that nothing uses. Raises CannotWrite."""
        import flatbuffers

        used = {0} | {entry.buffer for entry in self.model.metadata or []}
        used |= {self._graph.tensors[number].buffer for number in self._used()}
        for number, buffer in enumerate(self.model.buffers):
            if number not in used:
                buffer.data = None
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        write_whole(path, bytes(builder.Output()))

    def code(self, operator: Any) -> int:
        """Return the builtin code; files for old runtimes keep small ones in another place."""
        entry = self.model.operatorCodes[operator.opcodeIndex]
        return int(max(entry.builtinCode, entry.deprecatedBuiltinCode))

    def inputs(self, operator: Any) -> list[int]:
        """Return the numbers of the operator's input tensors."""
        return [int(number) for number in operator.inputs if number >= 0]

    def outputs(self, operator: Any) -> list[int]:
        """Return the numbers of the operator's output tensors."""
        return [int(number) for number in operator.outputs]

    @property
    def graph_inputs(self) -> list[int]:
        """Return the numbers of the graph's input tensors."""
        return [int(number) for number in self._graph.inputs]

    @property
    def graph_outputs(self) -> list[int]:
        """Return the numbers of the graph's output tensors."""
        return [int(number) for number in self._graph.outputs]

    def name(self, tensor: int) -> str:
        """Return the tensor's name, by which runtimes call it."""
        return bytes(self._graph.tensors[tensor].name or b"").decode(errors="replace")

    def type(self, tensor: int) -> int:
        """Return the tensor's TensorType."""
        return int(self._graph.tensors[tensor].type)

    def shape(self, tensor: int) -> Shape:
        """Return the tensor's sizes; () for a scalar."""
        found = self._graph.tensors[tensor].shape
        return () if found is None else tuple(int(size) for size in found)

    def set_shape(self, tensor: int, shape: Shape) -> None:
        """Give a tensor other sizes, all of them fixed."""
        entry = self._graph.tensors[tensor]
        entry.shape, entry.shapeSignature = np.array(shape, np.int32), None

    def values(self, tensor: int) -> Array | None:
        """Return a constant's values, None for a tensor that is computed. BadTflite for a type that numpy has not."""
        entry = self._graph.tensors[tensor]
        data = self.model.buffers[entry.buffer].data
        if data is None or len(data) == 0:
            return None
        if entry.type not in DTYPES:
            raise BadTflite(f"constant {self.name(tensor)!r} has type {entry.type}, which is not handled")
        return np.frombuffer(bytes(data), DTYPES[entry.type]).reshape(self.shape(tensor))

    def set_values(self, tensor: int, values: Array) -> None:
        """Give a constant other values and their sizes, in a buffer of its own."""
        buffer = schema().BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        self._graph.tensors[tensor].buffer = len(self.model.buffers) - 1
        self.set_shape(tensor, values.shape)

    def part_constants(self) -> None:
        """Give each operator constants of its own: converters let equal ones share a tensor."""
        seen: set[int] = set()
        for operator in self.operators:
            operator.inputs = np.array(operator.inputs, np.int32)
            for place, number in enumerate(operator.inputs):
                if number >= 0 and self.values(number) is not None:
                    if number in seen:
                        self._graph.tensors.append(copy.copy(self._graph.tensors[number]))
                        operator.inputs[place] = len(self._graph.tensors) - 1
                    seen.add(int(number))

    def tensors(self) -> range:
        """Return the numbers of all tensors."""
        return range(len(self._graph.tensors))

    def _used(self) -> Iterator[int]:
        yield from self.graph_inputs
        yield from self.graph_outputs
        for operator in self.operators:
            yield from self.inputs(operator)
            yield from self.outputs(operator)
