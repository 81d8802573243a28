"""The TFLite interpreter, which LiteRT and tflite-runtime offer under two names with the same methods."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from device_agent.contract.artifact import TensorSpec
from device_agent.contract.errors import InvalidRequest, ModelRejected, RuntimeUnavailable
from device_agent.runtimes.base import LoadedModel, LoadOptions
from device_agent.runtimes.words import shorten

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from device_agent.runtimes.base import Arrays

#: XNNPACK is the interpreter's default on a CPU; CPU asks for the built-in kernels alone.
XNNPACK, BUILT_IN = "XNNPACK", "CPU"
PROVIDERS = (XNNPACK, BUILT_IN)
#: What the interpreter lets callers choose about its default delegate, each true or false; older wheels have fewer of them.
_DELEGATE_OPTIONS = ("default_delegate_latest_features", "disable_delegate_clustering", "disable_delegate_node_fusion")
OPTIONS = frozenset({"provider_options"})
REFUSALS: Mapping[str, str] = {
    "graph_optimization": "a .tflite file was optimised when it was converted, and the interpreter has no levels",
    "memory_arena": "the interpreter plans one arena per model when it allocates tensors, and always keeps it",
}


def load(module: Any, title: str, path: Path, options: LoadOptions) -> LoadedModel:
    """Load a file with `module.Interpreter`. `title` is the runtime's name and version, for messages."""
    provider = options.provider or XNNPACK
    if provider not in PROVIDERS:
        raise RuntimeUnavailable(f"{title} has no delegate {provider!r} here; available: {', '.join(PROVIDERS)}")
    with path.open("rb") as file:
        # A flatbuffer names its schema in bytes 4 to 8.
        if file.read(8)[4:] != b"TFL3":
            raise ModelRejected(
                f"{title}: this is not a TFLite file (no TFL3 mark in its head); an ONNX file runs with runtime onnxruntime"
            )
    chosen = _delegate_options(module, title, provider, options.provider_options)
    resolvers = module.OpResolverType
    resolver = resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES if provider == BUILT_IN else resolvers.AUTO
    try:
        interpreter = module.Interpreter(
            model_path=str(path), num_threads=options.threads, experimental_op_resolver_type=resolver, **chosen
        )
        interpreter.allocate_tensors()
        return InterpretedModel(interpreter, title)
    except (ValueError, RuntimeError, TypeError) as error:
        raise rejected(title, error) from error


def _delegate_options(module: Any, title: str, provider: str, options: tuple[tuple[str, str], ...]) -> dict[str, bool]:
    """Return the interpreter's keywords for the options. InvalidRequest names those that this wheel takes."""
    if not options:
        return {}
    if provider == BUILT_IN:
        raise InvalidRequest(
            f"{title}: the built-in kernels have no options; leave provider_options out, or ask for {XNNPACK}"
        )
    keywords = inspect.signature(module.Interpreter.__init__).parameters
    taken = [name for name in _DELEGATE_OPTIONS if f"experimental_{name}" in keywords]
    chosen: dict[str, bool] = {}
    for name, value in options:
        if name not in taken or value.lower() not in ("true", "false"):
            raise InvalidRequest(
                f"{title}: {name}={value} is no option of {XNNPACK} here; it takes {', '.join(taken)}, each true or false"
            )
        chosen[f"experimental_{name}"] = value.lower() == "true"
    return chosen


def rejected(title: str, error: Exception) -> Exception:
    """Return the error to raise for an exception of the interpreter."""
    words = shorten(error)
    lowered = words.lower()
    if "custom op" in lowered or "select tensorflow op" in lowered or "unresolved" in lowered:
        advice = "replace that operator: only the built-in TFLite operators run here"
    elif "didn't find op" in lowered or "not supported" in lowered:
        advice = "export with an older converter, or install a newer runtime on the device"
    else:
        advice = "the file is damaged or does not fit: export it again"
    return ModelRejected(f"{title}: {words}; {advice}")


class InterpretedModel(LoadedModel):
    """A model in an interpreter. `bind` copies the inputs into the interpreter's tensors; a run is `invoke`."""

    def __init__(self, interpreter: Any, title: str) -> None:
        self._interpreter = interpreter
        self._title = title
        self._inputs: list[dict[str, Any]] = interpreter.get_input_details()
        self._outputs: list[dict[str, Any]] = interpreter.get_output_details()
        self.inputs = tuple(_spec(detail) for detail in self._inputs)
        self.outputs = tuple(_spec(detail) for detail in self._outputs)
        self._invoke: Callable[[], None] = interpreter.invoke

    def bind(self, arrays: Arrays) -> None:
        try:
            resized = False
            for detail in self._inputs:
                wanted = arrays[detail["name"]].shape
                if tuple(self._interpreter.get_tensor(detail["index"]).shape) != wanted:
                    self._interpreter.resize_tensor_input(detail["index"], wanted, strict=True)
                    resized = True
            if resized:
                self._interpreter.allocate_tensors()
            for detail in self._inputs:
                self._interpreter.set_tensor(detail["index"], arrays[detail["name"]])
        except (ValueError, RuntimeError) as error:
            raise rejected(self._title, error) from error

    def run(self) -> None:
        try:
            self._invoke()
        except (ValueError, RuntimeError) as error:
            raise rejected(self._title, error) from error

    def runner(self) -> Callable[[], object]:
        return self._invoke

    def results(self) -> dict[str, NDArray[np.generic]]:
        return {detail["name"]: np.array(self._interpreter.get_tensor(detail["index"])) for detail in self._outputs}

    def provider(self) -> tuple[str, float | None]:
        """XNNPACK if the graph has a delegate's node. The wheel does not say how many nodes it took over."""
        try:
            operators = self._interpreter._get_ops_details()
        except (AttributeError, ValueError):
            return BUILT_IN, None
        if any("delegate" in str(one["op_name"]).lower() for one in operators):
            return XNNPACK, None
        return BUILT_IN, 1.0


def _spec(detail: dict[str, Any]) -> TensorSpec:
    """The signature keeps -1 where a size may change; the tensor itself has a size at all times."""
    signature = detail.get("shape_signature")
    sizes = detail["shape"] if signature is None or len(signature) == 0 else signature
    shape = tuple(None if size < 0 else int(size) for size in sizes)
    return TensorSpec(name=detail["name"], dtype=np.dtype(detail["dtype"]).name, shape=shape)
