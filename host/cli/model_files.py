"""From MODEL on the command line to a file that a runtime can load."""

from __future__ import annotations

from pathlib import Path

from device_agent.contract.device import DeviceInfo
from device_agent.contract.errors import InvalidRequest

#: Every ONNX Runtime since 1.12 takes it, and it has all that convolutional nets need.
PREFERRED_OPSET = 17


def model_file(model: str, folder: Path, device: DeviceInfo) -> tuple[Path, str]:
    """Return a file and its name. A zoo name or package.module:factory is exported to ONNX into `folder`, as
    `device` takes it.

    Raises InvalidRequest for files that are missing or cannot be measured, and the errors of the zoo and of
    the export.
    """
    path = Path(model)
    suffix = path.suffix.lower()
    if suffix in (".onnx", ".tflite"):
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
    return _exported(model, folder, device)


def _exported(model: str, folder: Path, device: DeviceInfo) -> tuple[Path, str]:
    from host.zoo.registry import load_model

    runtime = next((each for each in device.runtimes if each.name == "onnxruntime"), None)
    opset = PREFERRED_OPSET
    ir_version = None
    if runtime is not None:
        opset = min(opset, runtime.max_onnx_opset or opset)
        ir_version = runtime.max_onnx_ir
    loaded = load_model(model)
    from host.compress.export import export_onnx

    name = f"{model.rpartition(':')[2]}.onnx"
    path = folder / name
    export_onnx(loaded.module, loaded.input_shape, path, opset=opset, ir_version=ir_version)
    return path, name
