"""The precision that plans are made in: every variant is built, and so priced, in the one that the result will have.

A plan made at float32 prices gains nothing from int8: kernels of int8 like other widths, and thin layers pay for quantizing what
they take (docs/precision.md). Ratios are to the float32 baseline in every precision, so a target means the same.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from host.compress.cuts import PrunableNetwork
from host.compress.formats import Format
from host.compress.nodes import ExportedModel, describe
from host.compress.quantization import CALIBRATIONS, Scheme, input_shape_of, prepare, quantize_static
from host.compress.variants import FLOAT32, INT8_STATIC, Variant
from host.datasets.dataset import Images
from host.search.network import LayerKind, Plan

#: Ranges of activations decide accuracy and no times, so a few images do for what is only timed.
TIMING_IMAGES = 2
FLOAT_BYTES, INT8_BYTES = 4, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Pricing:
    """`files` makes the variants. `whole` is the unpruned network as a file of this precision, `full_ratio` its latency over the
    float32 baseline's. `variant` says which int8 it is, None for float32; `size` (height, width) of the images, None for the
    baseline's own.
    """

    files: Format
    whole: ExportedModel
    full_ratio: float = 1.0
    variant: Variant | None = None
    size: tuple[int, int] | None = None

    @property
    def of_baseline(self) -> bool:
        """Whether the baseline's own file is the whole network of this pricing."""
        return self.variant is None and self.size is None

    @property
    def precision(self) -> str:
        """The record's word."""
        return FLOAT32 if self.variant is None else self.variant.precision

    @property
    def prefix(self) -> str:
        """What the journal's keys and the rounds' names begin with, so that one pricing's steps are not taken for another's."""
        size = "" if self.size is None else f"{self.size[0]}x{self.size[1]} "
        return size if self.variant is None else f"{size}int8 "

    @property
    def label(self) -> str:
        """What is told of it beside a stage; nothing for float32 at the baseline's own resolution."""
        said = ([] if self.size is None else [f"{self.size[0]}x{self.size[1]}"]) + (
            [] if self.variant is None else ["int8"]
        )
        return f" ({', '.join(said)})" if said else ""

    @property
    def key(self) -> str:
        """The precision in what must be equal for times to be comparable."""
        types = None if self.variant is None else self.variant.scheme
        return FLOAT32 if types is None else f"{INT8_STATIC} {types.slug}"

    @property
    def bytes_per_parameter(self) -> int:
        """Bytes that a weight takes in the file."""
        return FLOAT_BYTES if self.variant is None else INT8_BYTES


class QuantizedFormat:
    """Files of `inner` in static int8 of `scheme`, for timing: their activations' ranges come from a few images only.

    Exports stay as `inner` makes them. Raises QuantizationFailed beside what `inner` raises.
    """

    def __init__(self, inner: Format, scheme: Scheme, images: Images) -> None:
        self.name, self.suffix = inner.name, inner.suffix
        self._inner, self._scheme, self._images = inner, scheme, images[:TIMING_IMAGES]

    def export(self, module: nn.Module, path: Path) -> ExportedModel:
        return self._inner.export(module, path)

    def begin(self, module: nn.Module, network: PrunableNetwork, baseline: ExportedModel) -> None:
        self._inner.begin(module, network, baseline)

    def variant(self, module: nn.Module, plan: Plan, path: Path) -> ExportedModel:
        with tempfile.TemporaryDirectory(prefix="boardfit-") as folder:
            source = self._inner.variant(module, plan, Path(folder) / path.name)
            return self.quantized(source, path)

    def layer_model(
        self, kind: LayerKind, *, width_in: int, width_out: int, side: int, kernel: int, path: Path
    ) -> Path:
        with tempfile.TemporaryDirectory(prefix="boardfit-") as folder:
            source = self._inner.layer_model(
                kind,
                width_in=width_in,
                width_out=width_out,
                side=side,
                kernel=kernel,
                path=Path(folder) / path.name,
            )
            shape = (TIMING_IMAGES, *input_shape_of(source)[1:])
            images = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
            return self._quantize(source, path, images).path

    def quantized(self, source: ExportedModel, path: Path) -> ExportedModel:
        """Write `source` in int8 to `path`; its nodes belong to the layers that they belonged to."""
        made = self._quantize(source.path, path, self._images)
        present = set(made.layer_nodes)
        return describe(path, {node: layer for node, layer in source.layer_nodes.items() if node in present})

    def _quantize(self, source: Path, path: Path, images: Images) -> ExportedModel:
        with tempfile.TemporaryDirectory(prefix="boardfit-") as folder:
            prepared = prepare(source, Path(folder) / source.name)
            return quantize_static(prepared, path, images, scheme=self._scheme, calibration=CALIBRATIONS[0])
