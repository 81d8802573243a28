"""The layers of a module as it runs: order, kinds, pixels, calls; and how the planner sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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


@torch.no_grad()
def executed_layers(module: nn.Module, images: Tensor) -> dict[str, Executed]:
    """Run `module` on images (N, C, H, W) and return its nn.Conv2d and nn.Linear by name in the order of
    first execution.
    """
    found: dict[str, Executed] = {}
    names = {layer: name for name, layer in module.named_modules()}

    def record(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        name = names[layer]
        before = found.get(name, Executed(input_pixels=0, output_pixels=0, calls=0))
        found[name] = Executed(
            input_pixels=before.input_pixels + _pixels(layer, inputs[0]),
            output_pixels=before.output_pixels + _pixels(layer, output),
            calls=before.calls + 1,
        )

    handles = [
        layer.register_forward_hook(record) for layer in module.modules() if isinstance(layer, (nn.Conv2d, nn.Linear))
    ]
    try:
        module(images)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _pixels(layer: nn.Module, value: Tensor) -> int:
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
    outputs: dict[str, str] = {}
    inputs: dict[str, list[tuple[Part, int]]] = {}
    for group, those in cuts.items():
        for cut in those:
            if cut.side is Side.OUTPUT:
                outputs[cut.module] = group
            else:
                part = Part(group=group, features=len(cut.indices[0]))
                inputs.setdefault(cut.module, []).append((part, part.features * len(cut.indices)))
    views = []
    for name, seen in executed.items():
        layer = module.get_submodule(name)
        assert isinstance(layer, (nn.Conv2d, nn.Linear))
        kind = layer_kind(layer)
        output_group = outputs.get(name)
        parts = inputs.get(name, [])
        if kind is LayerKind.DEPTHWISE and output_group is not None:
            parts = [(Part(group=output_group), layer.weight.shape[0])]
        views.append(
            Layer(
                name=name,
                kind=kind,
                inputs=tuple(part for part, _ in parts),
                input_fixed=width(layer, Side.INPUT) - sum(count for _, count in parts),
                output_group=output_group,
                output_channels=width(layer, Side.OUTPUT),
                kernel=1 if isinstance(layer, nn.Linear) else layer.kernel_size[0] * layer.kernel_size[1],
                input_pixels=seen.input_pixels,
                output_pixels=seen.output_pixels,
                groups=1 if isinstance(layer, nn.Linear) else layer.groups,
                bias=layer.bias is not None,
            )
        )
    return tuple(views)
