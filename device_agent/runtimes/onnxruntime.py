"""ONNX Runtime. `onnxruntime`, `onnxruntime-gpu` and NVIDIA's build for Jetson share the import name.

Timed with IO binding: inputs and, where their shapes are known, outputs stay in the same memory from run to run.
Threads of the intra-op pool spin for a while after a run (ONNX Runtime's default) unless models share the worker.
"""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from device_agent.contract.artifact import ArtifactFormat, TensorSpec
from device_agent.contract.device import RuntimeInfo
from device_agent.contract.errors import ModelRejected, RuntimeUnavailable
from device_agent.contract.measurement import NodeTime
from device_agent.contract.settings import GraphOptimization
from device_agent.runtimes import onnxruntime_limits, onnxruntime_options, onnxruntime_profile
from device_agent.runtimes.base import LoadedModel, LoadOptions, Runtime
from device_agent.runtimes.words import shorten

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from device_agent.runtimes.base import Arrays

CPU_PROVIDER = "CPUExecutionProvider"

_LEVELS = {
    GraphOptimization.DISABLED: "ORT_DISABLE_ALL",
    GraphOptimization.BASIC: "ORT_ENABLE_BASIC",
    GraphOptimization.EXTENDED: "ORT_ENABLE_EXTENDED",
    GraphOptimization.ALL: "ORT_ENABLE_ALL",
}
_DTYPES = {
    "float": "float32",
    "double": "float64",
    "string": "str",
}


class OnnxRuntime(Runtime):
    """Runs `.onnx` files. The default provider is the CPU, also where a GPU build is installed."""

    name: ClassVar[str] = "onnxruntime"
    formats: ClassVar[tuple[ArtifactFormat, ...]] = (ArtifactFormat.ONNX,)
    options: ClassVar[frozenset[str]] = frozenset({"graph_optimization", "memory_arena", "provider_options"})

    def info(self) -> RuntimeInfo:
        try:
            module = _import()
            limits = onnxruntime_limits.probe(module)
        except RuntimeUnavailable as error:
            return RuntimeInfo(name=self.name, version=None, formats=self.formats, providers=(), unavailable=str(error))
        return RuntimeInfo(
            name=self.name,
            version=module.__version__,
            formats=self.formats,
            providers=tuple(module.get_available_providers()),
            max_onnx_opset=limits.opset,
            max_onnx_ir=limits.ir,
        )

    def version(self) -> str:
        # `info` creates some twenty sessions, whose freed memory would hide a part of a model's own.
        return str(_import().__version__)

    def load(self, path: Path, options: LoadOptions) -> LoadedModel:
        module = _import()
        provider = options.provider or CPU_PROVIDER
        available = module.get_available_providers()
        if provider not in available:
            raise RuntimeUnavailable(
                f"execution provider {provider!r} is not in ONNX Runtime {module.__version__} here;"
                f" available: {', '.join(available)}"
            )
        with path.open("rb") as file:
            if file.read(8)[4:] == b"TFL3":
                raise ModelRejected("this is a TFLite file, not ONNX; measure it with runtime litert or tflite-runtime")
        if options.provider_options and provider == CPU_PROVIDER:
            onnxruntime_options.refuse_for_cpu(options.provider_options)
        try:
            session = _session(module, path, provider, options)
        except Exception as error:
            if options.provider_options:
                onnxruntime_options.check_taken(module, provider, options.provider_options)
            raise _rejected(module, error) from error
        if options.provider_options:
            onnxruntime_options.check_known(module, provider, options.provider_options, session.get_provider_options())
        return _Model(module, session, path, provider, options)


class _Model(LoadedModel):
    def __init__(self, module: Any, session: Any, path: Path, provider: str, options: LoadOptions) -> None:
        self._module = module
        self._session = session
        self._path = path
        self._asked = provider
        self._options = options
        self._inputs: dict[str, NDArray[np.generic]] = {}
        self._folder = options.profile_folder
        self._symbols = {node.name: tuple(node.shape) for node in session.get_inputs()}
        self._output_shapes = {node.name: tuple(node.shape) for node in session.get_outputs()}
        self.inputs = tuple(_spec(node) for node in session.get_inputs())
        self.outputs = tuple(_spec(node) for node in session.get_outputs())
        self._binding: Any = None
        self._arrays: dict[str, NDArray[np.generic]] = {}
        self._run: Any = None

    def bind(self, arrays: Arrays) -> None:
        binding = self._session.io_binding()
        self._inputs = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        sizes: dict[str, int] = {}
        try:
            for spec in self.inputs:
                array = self._inputs[spec.name]
                binding.bind_cpu_input(spec.name, array)
                for symbol, size in zip(self._symbols[spec.name], array.shape, strict=True):
                    if isinstance(symbol, str):
                        sizes[symbol] = size
            self._arrays = {}
            for spec in self.outputs:
                shape = _resolve(self._output_shapes[spec.name], sizes)
                dtype = _numpy_dtype(spec.dtype)
                if shape is None or dtype is None:
                    binding.bind_output(spec.name)  # its shape depends on the data: allocated by the runtime
                    continue
                output = np.empty(shape, dtype)
                self._arrays[spec.name] = output
                binding.bind_output(spec.name, "cpu", 0, output.dtype.type, shape, output.ctypes.data)
        except Exception as error:
            raise _rejected(self._module, error) from error
        self._binding = binding
        # The public wrapper checks for graph capture on every call; a partial of it is what a user's own loop costs.
        self._run = partial(self._session.run_with_iobinding, binding)

    def run(self) -> None:
        try:
            self._run()
        except Exception as error:
            raise _rejected(self._module, error) from error

    def runner(self) -> Callable[[], object]:
        runner: Callable[[], object] = self._run
        return runner

    def results(self) -> dict[str, NDArray[np.generic]]:
        values = self._binding.get_outputs()
        return {
            spec.name: np.array(self._arrays[spec.name] if spec.name in self._arrays else value.numpy())
            for spec, value in zip(self.outputs, values, strict=True)
        }

    def provider(self) -> tuple[str, float | None]:
        """The provider that holds most nodes; ONNX Runtime moves what a provider cannot do to the CPU without a word."""
        if list(self._session.get_providers()) == [CPU_PROVIDER]:
            return CPU_PROVIDER, 1.0
        counts = self._assigned() or self.profiled_providers()
        total = sum(counts.values())
        if not total:
            return CPU_PROVIDER, None
        if counts.get(self._asked):
            return self._asked, counts[self._asked] / total
        winner = max(counts, key=lambda name: counts[name])
        return winner, counts[winner] / total

    def _assigned(self) -> dict[str, int] | None:
        """Return nodes per provider as the session recorded them; None before ONNX Runtime 1.24, which has no such call."""
        try:
            parts = self._session.get_provider_graph_assignment_info()
        except Exception:
            return None
        return {part.ep_name: len(part.get_nodes()) for part in parts}

    def profiled_providers(self) -> dict[str, int]:
        """Return nodes per provider from the trace of one run in a session of its own, with the inputs bound last."""
        with tempfile.TemporaryDirectory() as folder:
            options = replace(self._options, profile_folder=Path(folder))
            session = _session(self._module, self._path, self._asked, options)
            session.run(None, self._inputs)
            return onnxruntime_profile.providers(Path(session.end_profiling()))

    def node_times(self, *, skip: int) -> tuple[NodeTime, ...] | None:
        if self._folder is None:
            return None
        path = Path(self._session.end_profiling())
        try:
            return onnxruntime_profile.read(path, skip=skip, file=self._path, folder=self._folder)
        finally:
            path.unlink(missing_ok=True)


@cache
def _import() -> Any:
    """Import ONNX Runtime. RuntimeUnavailable with what to do."""
    if importlib.util.find_spec("onnxruntime") is None:
        raise RuntimeUnavailable(
            "onnxruntime is not installed; in the agent's environment run: pip install 'boardfit[onnxruntime]'"
        )
    try:
        import onnxruntime

        onnxruntime.InferenceSession  # noqa: B018 - a broken wheel leaves an empty package behind
    except Exception as error:
        raise RuntimeUnavailable(
            f"onnxruntime is installed but fails to import: {shorten(error)}; reinstall it in the agent's environment"
        ) from error
    return onnxruntime


def _session(module: Any, path: Path, provider: str, options: LoadOptions) -> Any:
    first = (provider, dict(options.provider_options)) if options.provider_options else provider
    providers = [first] if provider == CPU_PROVIDER else [first, CPU_PROVIDER]

    def create(made: Any, *, fallback: bool) -> Any:
        return module.InferenceSession(str(path), made, providers=providers, enable_fallback=int(fallback))

    if options.profile_folder is not None:
        session = onnxruntime_profile.keeping_graph(
            _session_options(module, options), options.profile_folder, lambda made: create(made, fallback=False)
        )
        if session is not None:
            return session
    # A provider that refuses its options would be replaced by the CPU, with a word on stdout only.
    return create(_session_options(module, options), fallback=not options.provider_options)


def _session_options(module: Any, options: LoadOptions) -> Any:
    made = module.SessionOptions()
    made.intra_op_num_threads = options.threads
    made.inter_op_num_threads = 1
    made.log_severity_level = 3
    made.add_session_config_entry("session.load_model_format", "ONNX")
    made.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if options.graph_optimization is not None:
        made.graph_optimization_level = getattr(module.GraphOptimizationLevel, _LEVELS[options.graph_optimization])
    if options.memory_arena is not None:
        made.enable_cpu_mem_arena = options.memory_arena
        made.enable_mem_pattern = options.memory_arena
    if options.shares_worker:
        made.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if options.profile_folder is not None:
        made.enable_profiling = True
        made.profile_file_prefix = str(options.profile_folder / "profile")
    return made


def _spec(node: Any) -> TensorSpec:
    """ONNX Runtime says `tensor(float)`; numpy says float32."""
    inner = node.type.partition("(")[2].rstrip(")")
    shape = tuple(size if isinstance(size, int) and size >= 0 else None for size in node.shape)
    if not node.type.startswith("tensor("):
        return TensorSpec(name=node.name, dtype=node.type, shape=shape)
    return TensorSpec(name=node.name, dtype=_DTYPES.get(inner, inner), shape=shape)


def _numpy_dtype(name: str) -> np.dtype[Any] | None:
    """Return numpy's type, None for strings, bfloat16 and others that numpy keeps in no buffer of their own."""
    try:
        dtype = np.dtype(name)
    except TypeError:
        return None
    return dtype if dtype.kind in "biufc" else None


def _resolve(shape: Sequence[int | str | None], sizes: dict[str, int]) -> tuple[int, ...] | None:
    """Return the output shape with the symbols that the inputs fixed, None if one stays open."""
    found: list[int] = []
    for size in shape:
        value = sizes.get(size) if isinstance(size, str) else size
        if value is None or value < 0:
            return None
        found.append(value)
    return tuple(found)


def _rejected(module: Any, error: Exception) -> Exception:
    """Return the error to raise for an exception of ONNX Runtime: its words and what to do about them."""
    words = shorten(error)
    lowered = words.lower()
    if isinstance(error, MemoryError) or "bad_alloc" in lowered or "failed to allocate memory" in lowered:
        return MemoryError(words)
    version = module.__version__
    if "not_implemented" in lowered or "is not a registered function/op" in lowered:
        advice = "replace that operator or export for another opset; `info` of the device lists the opsets it takes"
    elif "external data" in lowered or "external_data" in lowered:
        advice = "an artifact is one file: save the model with its weights inside"
    elif "protobuf" in lowered:
        advice = "the file is damaged or no ONNX model: export it again"
    elif "opset" in lowered or "ir version" in lowered:
        advice = "export for an opset and IR version that this runtime takes; `info` of the device lists them"
    else:
        advice = "run onnx.checker.check_model on the file and export it again"
    return ModelRejected(f"ONNX Runtime {version}: {words}; {advice}")
