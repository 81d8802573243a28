"""TFLite as a format of compressions: exports by litert-torch are kept, variants are cut from the baseline's file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import nn

from host.compress.cuts import PrunableNetwork
from host.compress.nodes import ExportedModel
from host.compress.surgery import prune
from host.compress.tflite.describe import describe_tflite
from host.compress.tflite.drops import CannotSlice
from host.compress.tflite.export import check_converter, export_tflite
from host.compress.tflite.layer_models import tflite_layer_model
from host.compress.tflite.matching import match_file
from host.compress.tflite.slicing import Slicer, one_per_block
from host.files import write_whole
from host.search.network import LayerKind, Plan


class TfliteFormat:
    """`folder` is where exports are kept: each takes half a minute or more, and a run that is resumed asks for the same ones."""

    name, suffix = "tflite", ".tflite"

    def __init__(self, input_shape: tuple[int, int, int], folder: Path, note: Callable[[str], None]) -> None:
        self._input_shape, self._folder, self._note = input_shape, folder, note
        self._slicer: Slicer | None = None
        self._network: PrunableNetwork | None = None

    def export(self, module: nn.Module, path: Path) -> ExportedModel:
        """Raises TfliteUnavailable besides."""
        kept = self._folder / f"{fingerprint(module)}.tflite"
        if not kept.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            check_converter()
            self._note(f"converting {path.name} with litert-torch; this takes half a minute or more")
            export_tflite(module, self._input_shape, kept)
        write_whole(path, kept.read_bytes())
        return describe_tflite(path, match_file(path, module, self._input_shape))

    def begin(self, module: nn.Module, network: PrunableNetwork, baseline: ExportedModel) -> None:
        """Cut one variant as a trial: what its outputs show holds for all others."""
        self._network = network
        halved = {each.name: each.multiple * -(-each.channels // each.multiple // 2) for each in network.network.groups}
        kept = one_per_block(network, Plan(kept=halved))
        trial = baseline.path.with_name("variant.tflite")
        try:
            slicer = Slicer(baseline.path, module, network)
            exact = slicer.cut(kept, prune(network, module, kept), trial, exact=True)
        except CannotSlice as error:
            self._note(
                f"variants cannot be cut from {baseline.path.name} ({error}): each is converted anew, which is slow"
            )
            return
        finally:
            trial.unlink(missing_ok=True)
        self._slicer = slicer
        if not exact:
            self._note(
                f"variants cut from {baseline.path.name} have the right widths, but not all constants: good for timing only"
            )

    def variant(self, module: nn.Module, plan: Plan, path: Path) -> ExportedModel:
        if self._slicer is None or self._network is None or 0 in plan.kept.values():  # a dropped branch is no slice
            return self.export(module, path)
        try:
            self._slicer.cut(one_per_block(self._network, plan), module, path)
        except CannotSlice as error:
            self._note(f"a variant cannot be cut from the baseline's file ({error}); it is converted anew")
            return self.export(module, path)
        return describe_tflite(path, self._slicer.layers)

    def layer_model(
        self, kind: LayerKind, *, width_in: int, width_out: int, side: int, kernel: int, path: Path
    ) -> Path:
        return tflite_layer_model(kind, width_in=width_in, width_out=width_out, side=side, kernel=kernel, path=path)


def fingerprint(module: nn.Module) -> str:
    """Return a hash of the module's structure and weights."""
    found = hashlib.sha256(repr(module).encode())
    for name, value in module.state_dict().items():
        found.update(f"{name} {tuple(value.shape)}".encode())
        found.update(np.ascontiguousarray(value.detach().cpu().numpy()).tobytes())
    return found.hexdigest()[:16]
