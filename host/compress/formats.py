"""The file formats that a compression works with: what a runtime runs decides which one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from torch import nn

from device_agent.contract.artifact import ArtifactFormat
from device_agent.contract.device import RuntimeInfo
from host.compress.cuts import PrunableNetwork
from host.compress.export import export_onnx
from host.compress.layers_probe import layer_model
from host.compress.nodes import ExportedModel
from host.search.network import LayerKind, Plan

#: The newest opset that is asked for: it has all that convolutional nets need.
PREFERRED_OPSET = 17


class Format(Protocol):
    """Makes the files of one network in one format. `name` is the record's word for the file, `suffix` its ending."""

    name: str
    suffix: str

    def export(self, module: nn.Module, path: Path) -> ExportedModel:
        """Write `module` for one image. Raises ExportFailed, CannotWrite; `path` is then as it was."""
        ...

    def begin(self, module: nn.Module, network: PrunableNetwork, baseline: ExportedModel) -> None:
        """Say what variants are variants of: the whole network, its analysis and its file."""
        ...

    def variant(self, module: nn.Module, plan: Plan, path: Path) -> ExportedModel:
        """Write a file as fast as that of `module`, the whole network pruned to `plan`: for timing. Raises what `export` does."""
        ...

    def layer_model(
        self, kind: LayerKind, *, width_in: int, width_out: int, side: int, kernel: int, path: Path
    ) -> Path:
        """Write a model of a few equal layers, as `host.compress.layers_probe.layer_model` does."""
        ...


class OnnxFormat:
    """ONNX, of the opset and IR version that the runtime takes. An export takes some tenths of a second, so a variant is one."""

    name, suffix = "onnx", ".onnx"

    def __init__(self, input_shape: tuple[int, int, int], runtime: RuntimeInfo) -> None:
        self._input_shape = input_shape
        self._opset = min(PREFERRED_OPSET, runtime.max_onnx_opset or PREFERRED_OPSET)
        self._ir_version = runtime.max_onnx_ir

    def export(self, module: nn.Module, path: Path) -> ExportedModel:
        return export_onnx(module, self._input_shape, path, opset=self._opset, ir_version=self._ir_version)

    def begin(self, module: nn.Module, network: PrunableNetwork, baseline: ExportedModel) -> None:
        pass

    def variant(self, module: nn.Module, plan: Plan, path: Path) -> ExportedModel:
        return self.export(module, path)

    def layer_model(
        self, kind: LayerKind, *, width_in: int, width_out: int, side: int, kernel: int, path: Path
    ) -> Path:
        return layer_model(kind, width_in=width_in, width_out=width_out, side=side, kernel=kernel, path=path)


def format_for(
    runtime: RuntimeInfo, input_shape: tuple[int, int, int], folder: Path, note: Callable[[str], None]
) -> Format:
    """Return the format that a device's runtime takes. `folder` is for exports that are slow to repeat; `note` tells the user."""
    if ArtifactFormat.ONNX in runtime.formats:
        return OnnxFormat(input_shape, runtime)
    from host.compress.tflite.format import TfliteFormat

    return TfliteFormat(input_shape, folder, note)
