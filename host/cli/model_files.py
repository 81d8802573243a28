"""From MODEL on the command line to a file that a runtime can load."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from device_agent.contract.device import DeviceInfo
from device_agent.contract.errors import InvalidRequest
from host.fleet.benchmark import ModelFile

#: Every ONNX Runtime since 1.12 takes it, and it has all that convolutional nets need.
PREFERRED_OPSET = 17


def model_files(models: Sequence[str], folder: Path, device: DeviceInfo) -> tuple[ModelFile, ...]:
    """Return a file for every MODEL, under names that differ where the files do. Raises what `model_file` raises."""
    found = []
    for place, model in enumerate(models):
        own = folder / str(place)
        own.mkdir()
        found.append((model, *model_file(model, own, device)))
    count = Counter(name for name, _ in {(name, path.resolve()) for _, path, name in found})
    return tuple(
        ModelFile(path=path, name=name if count[name] == 1 else _longer_name(model, path))
        for model, path, name in found
    )


def _longer_name(model: str, path: Path) -> str:
    """Return a file with its folder, an exported module with its whole name."""
    return f"{path.resolve().parent.name}/{path.name}" if Path(model).name == path.name else f"{model}.onnx"


def model_file(model: str, folder: Path, device: DeviceInfo | None) -> tuple[Path, str]:
    """Return a file and its name. A zoo name or package.module:factory is exported to ONNX into `folder`, as
    `device` takes it; None stands for any.

    Raises InvalidRequest for files that are missing or cannot be measured, and the errors of the zoo and of
    the export.
    """
    path = Path(model)
    suffix = path.suffix.lower()
    if suffix in (".onnx", ".tflite"):
        if path.is_dir():
            raise InvalidRequest(f"{model} is a folder; give a model file in it, such as {_first_model(path)}")
        if not path.is_file():
            raise InvalidRequest(f"there is no model file {model} (looked in {Path.cwd()})")
        return path, path.name
    if suffix == ".pt2":
        raise InvalidRequest(
            f"{model}: exported programs cannot be measured yet. Export the module to ONNX with "
            "torch.onnx.export, or give package.module:factory, and measure that."
        )
    if path.is_file():
        raise InvalidRequest(f"{model} is a file of another type than .onnx and .tflite")
    if path.is_dir() and ":" not in model and model not in _zoo_names():
        raise InvalidRequest(f"{model} is a folder; give a model file in it, such as {_first_model(path)}")
    return _exported(model, folder, device)


def _zoo_names() -> tuple[str, ...]:
    from host.zoo.registry import names

    return names()


def _first_model(folder: Path) -> Path:
    """Return a model file of the folder; one that could be there if it has none."""
    return min(
        (path for path in folder.iterdir() if path.suffix in (".onnx", ".tflite")), default=folder / "model.onnx"
    )


def _exported(model: str, folder: Path, device: DeviceInfo | None) -> tuple[Path, str]:
    from host.zoo.registry import load_model

    runtime = None if device is None else device.runtime("onnxruntime")
    opset = PREFERRED_OPSET
    ir_version = None
    if runtime is not None:
        opset = min(opset, runtime.max_onnx_opset or opset)
        ir_version = runtime.max_onnx_ir
    import torch

    from host.compress.export import export_onnx

    # The same file each time, so that its measurements are of one artifact.
    with torch.random.fork_rng():
        torch.manual_seed(0)
        loaded = load_model(model)

    name = f"{model.rpartition(':')[2]}.onnx"
    path = folder / name
    export_onnx(loaded.module, loaded.input_shape, path, opset=opset, ir_version=ir_version)
    return path, name
