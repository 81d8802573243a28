"""The layers of a module as it runs: order, kinds, pixels, calls; and how the planner sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor, nn

from host.compress.cuts import Cut, Side, is_depthwise, width
from host.search.network import Layer, LayerKind, Part


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """What one run showed of a layer: pixels (H*W; tokens for linear layers) summed over its calls, and their
    number.
    """

    input_pixels: int
    output_pixels: int
    calls: int


def pixels(layer: nn.Module, value: Tensor) -> int:
    """Positions per image: H*W of (N, C, H, W), the middle dimensions of (N, ..., features) multiplied."""
    positions = value.shape[-2:] if isinstance(layer, nn.Conv2d) else value.shape[1:-1]
    return int(torch.Size(positions).numel())


def layer_kind(layer: nn.Module) -> LayerKind:
    """The kind of an nn.Conv2d or nn.Linear."""
    if isinstance(layer, nn.Linear):
        return LayerKind.LINEAR
    assert isinstance(layer, nn.Conv2d)
    if is_depthwise(layer):
        return LayerKind.DEPTHWISE
    if layer.groups > 1:
        return LayerKind.GROUPED
    return LayerKind.POINTWISE if layer.kernel_size == (1, 1) else LayerKind.CONV


def layer_views(
    module: nn.Module, executed: Mapping[str, Executed], cuts: Mapping[str, Sequence[Cut]]
) -> tuple[Layer, ...]:
    """The planner's view of the executed layers, with the groups that `cuts` ties to their inputs and
    outputs.
    """
    sides: dict[tuple[str, Side], list[tuple[Part, int]]] = {}
    for group, those in cuts.items():
        for cut in those:
            total = sum(len(indices) for indices in cut.indices)
            share = Fraction(total, len(cut.indices))
            part = Part(group=group, features=share.numerator, per=share.denominator)
            sides.setdefault((cut.module, cut.side), []).append((part, total))
    views = []
    for name, seen in executed.items():
        layer = module.get_submodule(name)
        assert isinstance(layer, (nn.Conv2d, nn.Linear))
        kind = layer_kind(layer)
        outputs = sides.get((name, Side.OUTPUT), [])
        inputs = outputs if kind is LayerKind.DEPTHWISE else sides.get((name, Side.INPUT), [])
        views.append(
            Layer(
                name=name,
                kind=kind,
                inputs=tuple(part for part, _ in inputs),
                input_fixed=width(layer, Side.INPUT) - sum(count for _, count in inputs),
                outputs=tuple(part for part, _ in outputs),
                output_fixed=width(layer, Side.OUTPUT) - sum(count for _, count in outputs),
                kernel=1 if isinstance(layer, nn.Linear) else layer.kernel_size[0] * layer.kernel_size[1],
                input_pixels=seen.input_pixels,
                output_pixels=seen.output_pixels,
                groups=1 if isinstance(layer, nn.Linear) else layer.groups,
                bias=layer.bias is not None,
            )
        )
    return tuple(views)
