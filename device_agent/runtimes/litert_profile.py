"""Times per operator from LiteRT: a twin of the model that runs in its CompiledModel, through the C API.

The twin is another engine object than the interpreter that is timed, built from the same sources with the same kernels. So the
sum of its operators is compared with the plain total, as with every runtime. Its profiler keeps half a million events and takes
about 60 MB for them, whatever the model.
"""

from __future__ import annotations

import ctypes as c
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from device_agent.contract.artifact import TensorSpec
from device_agent.contract.errors import ModelRejected
from device_agent.contract.measurement import NodeTime
from device_agent.runtimes import litert_file, litert_nodes
from device_agent.runtimes.base import LoadedModel
from device_agent.runtimes.litert_c_api import (
    CPU_ACCELERATOR,
    DELEGATED_OPERATOR,
    LOCK_READ,
    LOCK_WRITE,
    OPERATOR,
    Event,
    Layout,
    Library,
    NotSupported,
    RankedTensorType,
)
from device_agent.runtimes.litert_nodes import RanOperator
from device_agent.runtimes.profiling import NoProfile, median_ns

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from device_agent.runtimes.base import Arrays

#: LiteRtElementType -> numpy, of those that numpy has.
_DTYPES = {
    1: "float32", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 8: "complex64",
    9: "int8", 10: "float16", 11: "float64", 12: "complex128", 13: "uint64", 16: "uint32", 17: "uint16",
}  # fmt: skip

_Operators = tuple[RanOperator, ...]


class ProfiledModel(LoadedModel):
    """A file compiled with profiling on. Construction and `bind` raise NoProfile with LiteRT's status.

    The file must have passed the interpreter's checks, as a plain model's has: on one that is cut short the C API crashes.
    """

    def __init__(self, library: Library, path: Path, *, threads: int, built_in: bool) -> None:
        self._library = library
        self._handles: list[tuple[str, c.c_void_p]] = []
        self._buffers: list[c.c_void_p] = []
        self._runs: list[tuple[_Operators, list[int]]] = []
        self._built_in = built_in
        try:
            self._load(path, threads)
        except NotSupported as error:
            self.close()
            raise NoProfile(f"LiteRT's profiler cannot load this file: {error}") from error

    def _load(self, path: Path, threads: int) -> None:
        library = self._library
        self._environment = self._keep("Environment", library.handle("CreateEnvironment", 0, None))
        self._model = self._keep("Model", library.handle("CreateModelFromFile", self._environment, str(path).encode()))
        options = self._keep("Options", library.handle("CreateOptions"))
        library.call("SetOptionsHardwareAccelerators", options, CPU_ACCELERATOR)
        # The identifiers are those under which the library looks its options up; their texts are TOML.
        library.call("AddOpaqueOptions", options, library.option("runtime_options_string", "enable_profiling = true\n"))
        mode = "builtin" if self._built_in else "delegate"
        text = f'num_threads = {threads}\nkernel_mode = "{mode}"\n'
        library.call("AddOpaqueOptions", options, library.option("xnnpack", text))
        self._compiled = self._keep(
            "CompiledModel", library.handle("CreateCompiledModel", self._environment, self._model, options)
        )
        signature = library.handle("GetModelSignature", self._model, 0)
        count = library.number("GetNumSignatureInputs", signature)
        tensors = [library.handle("GetSignatureInputTensorByIndex", signature, place) for place in range(count)]
        self._input_types = [litert_file.tensor_type(library, tensor) for tensor in tensors]
        self.inputs = tuple(_spec(library, tensor) for tensor in tensors)
        count = library.number("GetNumSignatureOutputs", signature)
        tensors = [library.handle("GetSignatureOutputTensorByIndex", signature, place) for place in range(count)]
        self._output_types = [litert_file.tensor_type(library, tensor) for tensor in tensors]
        self.outputs = tuple(_spec(library, tensor) for tensor in tensors)
        self._operators = litert_file.operators(library, library.handle("GetSignatureSubgraph", signature))

    def _keep(self, kind: str, handle: c.c_void_p) -> c.c_void_p:
        self._handles.append((kind, handle))
        return handle

    def bind(self, arrays: Arrays) -> None:
        """Copy the inputs into buffers of the runtime's own, and run once. NoProfile if that cannot be done."""
        self._free_buffers()
        try:
            inputs = [self._input(place, arrays[spec.name]) for place, spec in enumerate(self.inputs)]
            outputs = self._bind_outputs()
            self._arguments = (
                self._compiled, 0,
                len(inputs), (c.c_void_p * len(inputs))(*(one.value for one in inputs)),
                len(outputs), (c.c_void_p * len(outputs))(*(one.value for one in outputs)),
            )  # fmt: skip
            self._library.call("RunCompiledModel", *self._arguments)
            self._profiler = self._library.handle("CompiledModelGetProfiler", self._compiled)
        except NotSupported as error:
            raise NoProfile(f"LiteRT's profiler cannot run this file: {error}") from error
        try:
            self._profiled_run()
        except NotSupported as error:
            raise NoProfile(
                "LiteRT's profiler cannot run this file twice, as happens where sizes of outputs are found at run time"
                f" ({error}); convert the model with fixed sizes"
            ) from error
        self._runs.clear()
        self._output_buffers = outputs

    def _input(self, place: int, array: NDArray[np.generic]) -> c.c_void_p:
        kind = self._input_types[place]
        dimensions = list(kind.layout.dimensions[: kind.layout.rank])
        if dimensions != list(array.shape):
            sizes = (c.c_int * array.ndim)(*array.shape)
            self._library.call("CompiledModelResizeInputTensorNonStrict", self._compiled, 0, place, sizes, array.ndim)
            kind = RankedTensorType(element_type=kind.element_type)
            kind.layout.rank = array.ndim
            for axis, size in enumerate(array.shape):
                kind.layout.dimensions[axis] = size
        requirements = self._library.handle("GetCompiledModelInputBufferRequirements", self._compiled, 0, place)
        buffer = self._buffer(kind, requirements)
        source = np.ascontiguousarray(array)
        with _Locked(self._library, buffer, LOCK_WRITE, source.nbytes) as address:
            c.memmove(address, source.ctypes.data, source.nbytes)
        return buffer

    def _bind_outputs(self) -> list[c.c_void_p]:
        layouts = (Layout * len(self.outputs))()
        self._library.call("GetCompiledModelOutputTensorLayouts", self._compiled, 0, len(layouts), layouts, True)
        buffers = []
        for place, layout in enumerate(layouts):
            kind = RankedTensorType(element_type=self._output_types[place].element_type, layout=layout)
            requirements = self._library.handle("GetCompiledModelOutputBufferRequirements", self._compiled, 0, place)
            buffers.append(self._buffer(kind, requirements))
        self._layouts = layouts
        return buffers

    def _buffer(self, kind: RankedTensorType, requirements: c.c_void_p) -> c.c_void_p:
        buffer = self._library.handle(
            "CreateManagedTensorBufferFromRequirements", self._environment, c.byref(kind), requirements
        )
        self._buffers.append(buffer)
        return buffer

    def run(self) -> None:
        """Run once and keep the events of this run. ModelRejected if it fails."""
        try:
            self._profiled_run()
        except NotSupported as error:
            raise ModelRejected(f"LiteRT's profiler: {error}; measure without times of layers") from error

    def _profiled_run(self) -> None:
        library = self._library
        library.call("StartProfiler", self._profiler)  # forgets the events before
        library.call("RunCompiledModel", *self._arguments)
        library.call("StopProfiler", self._profiler)
        count = c.c_int()
        library.call("GetNumProfilerEvents", self._profiler, c.byref(count))
        events = (Event * count.value)()
        library.call("GetProfilerEvents", self._profiler, count.value, events)
        self._runs.append(_operators_of(events))

    def results(self) -> dict[str, NDArray[np.generic]]:
        found: dict[str, NDArray[np.generic]] = {}
        for spec, layout, buffer in zip(self.outputs, self._layouts, self._output_buffers, strict=True):
            shape = tuple(layout.dimensions[: layout.rank])
            size = math.prod(shape) * np.dtype(spec.dtype).itemsize
            with _Locked(self._library, buffer, LOCK_READ, size) as address:
                found[spec.name] = np.frombuffer(c.string_at(address, size), spec.dtype).reshape(shape)
        return found

    def provider(self) -> tuple[str, float | None]:
        return ("CPU", 1.0) if self._built_in else ("XNNPACK", None)

    def node_times(self, *, skip: int) -> tuple[NodeTime, ...]:
        """Return the operators in the order in which they ran. NoProfile if no two runs were alike."""
        runs = self._runs[skip:] or self._runs
        usual, count = Counter(operators for operators, _ in runs).most_common(1)[0] if runs else ((), 0)
        if not usual or 2 * count < len(runs):
            raise NoProfile("LiteRT's profiler reported other operators in each run")
        durations = zip(*(each for operators, each in runs if operators == usual), strict=True)
        medians = [
            median_ns(each, truncated=operator.delegated) for operator, each in zip(usual, durations, strict=True)
        ]
        total = sum(medians)
        found = []
        for operator, median, places in zip(usual, medians, litert_nodes.match(usual, self._operators), strict=True):
            sources = [self._operators[place] for place in places]
            found.append(
                NodeTime(
                    name=f"{operator.tag} #{operator.number}",
                    op_type=operator.kind,
                    median_ns=median,
                    share=median / total if total else 0.0,
                    runs=count,
                    input_shapes=sources[0].input_shapes if sources else (),
                    output_shapes=sources[-1].output_shapes if sources else (),
                    sources=tuple(source.name for source in sources),
                )
            )
        return tuple(found)

    def close(self) -> None:
        self._free_buffers()
        while self._handles:
            kind, handle = self._handles.pop()
            self._library.destroy(kind, handle)

    def _free_buffers(self) -> None:
        while self._buffers:
            self._library.destroy("TensorBuffer", self._buffers.pop())


class _Locked:
    """`with _Locked(...) as address:` maps a buffer of at least `size` bytes into memory."""

    def __init__(self, library: Library, buffer: c.c_void_p, mode: int, size: int) -> None:
        self._library, self._buffer, self._mode, self._size = library, buffer, mode, size

    def __enter__(self) -> int:
        room = self._library.number("GetTensorBufferSize", self._buffer)
        if room < self._size:
            raise NotSupported(f"a buffer of {room} bytes does not hold {self._size}")
        address = c.c_void_p()
        self._library.call("LockTensorBuffer", self._buffer, c.byref(address), self._mode)
        return address.value or 0

    def __exit__(self, *_: object) -> None:
        self._library.call("UnlockTensorBuffer", self._buffer)


def _spec(library: Library, tensor: c.c_void_p) -> TensorSpec:
    kind = litert_file.tensor_type(library, tensor)
    name = litert_file.tensor_name(library, tensor)
    if kind.element_type not in _DTYPES:
        raise NotSupported(f"tensor {name!r} has element type {kind.element_type}, which numpy has not")
    shape = tuple(None if size < 0 else size for size in kind.layout.dimensions[: kind.layout.rank])
    return TensorSpec(name=name, dtype=_DTYPES[kind.element_type], shape=shape)


def _operators_of(events: c.Array[Event]) -> tuple[_Operators, list[int]]:
    """Return what ran and how long it took, in microseconds. A delegate's own event is the sum of its operators: left out."""
    operators: list[RanOperator] = []
    durations: list[int] = []
    for event in events:
        tag = event.tag.decode(errors="replace")
        delegated = event.type == DELEGATED_OPERATOR
        if delegated or (event.type == OPERATOR and "delegate" not in tag.lower()):
            if not delegated and event.metadata2:
                raise NoProfile(
                    "the file has control flow, and LiteRT's profiler does not keep apart the operators of its branches"
                )
            operators.append(RanOperator(tag=tag, number=event.metadata1, delegated=delegated))
            durations.append(event.elapsed_us)
    return tuple(operators), durations
