"""What the loss says about channels: the gradient of each channel's gate, at the layers that read it.

A gate is a factor on everything that a channel hands to its readers: 1 keeps it, 0 removes it. Read there, one number per image
covers residual streams and depthwise layers, and no batch norm behind a producer cancels it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from host.compress.cuts import PrunableNetwork, Side
from host.compress.evaluation import device_of
from host.compress.per_channel import per_channel

Loss = Callable[[Tensor, Tensor], Tensor]
#: Batches of images (N, C, H, W) and labels (N,).
Batches = Iterable[tuple[Tensor, Tensor]]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateGradients:
    """By group, per channel (channels,): `first` is the mean over batches of |gradient of the batch's mean loss|, `square` the
    mean over images of the squared gradient of the image's loss. Both in the loss's unit per gate.
    """

    first: Mapping[str, Tensor]
    square: Mapping[str, Tensor]


def gate_gradients(network: PrunableNetwork, module: nn.Module, batches: Batches, loss: Loss) -> GateGradients:
    """Return the gradients over `batches`; `loss` (outputs, labels) -> scalar has to be a mean over images.

    The module is not changed. Raises ValueError without a batch.
    """
    probe = copy.deepcopy(module).eval()
    for parameter in probe.parameters():
        parameter.requires_grad_(False)
    device = device_of(probe)
    readers = {cut.module for cuts in network.cuts.values() for cut in cuts if cut.side is Side.INPUT}
    taps: dict[str, list[Tensor]] = {name: [] for name in readers}

    def tap(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
        def replace(_layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            # A tensor of its own, so that the gradient is that of this reader alone.
            own = inputs[0] * 1 if inputs[0].requires_grad else inputs[0].detach().clone().requires_grad_(True)
            taps[name].append(own)
            return (own, *inputs[1:])

        return replace

    for name in readers:
        probe.get_submodule(name).register_forward_pre_hook(tap(name))
    groups = network.network.groups
    first = {group.name: torch.zeros(group.channels, dtype=torch.float64) for group in groups}
    square = {name: torch.zeros_like(total) for name, total in first.items()}
    count, images_seen = 0, 0
    for images, labels in batches:
        for found in taps.values():
            found.clear()
        with torch.enable_grad():
            value = loss(probe(images.to(device)), labels.to(device)) * len(images)
            flat = [(name, own) for name, found in taps.items() for own in found]
            slopes = torch.autograd.grad(value, [own for _, own in flat])
        gates: dict[str, Tensor] = {}
        for (name, own), slope in zip(flat, slopes, strict=True):
            gate = _per_feature(probe.get_submodule(name), own.detach() * slope, len(images))
            gates[name] = gates[name] + gate if name in gates else gate
        for group, cuts in network.cuts.items():
            terms = [per_channel(cut, gates[cut.module].T).T for cut in cuts if cut.side is Side.INPUT]
            each = torch.stack(terms).sum(0).double().cpu()  # (N, channels)
            first[group] += each.mean(0).abs()
            square[group] += each.square().sum(0)
        count, images_seen = count + 1, images_seen + len(images)
    if not count:
        raise ValueError("the criterion got no batch of images")
    return GateGradients(
        first={name: total / count for name, total in first.items()},
        square={name: total / images_seen for name, total in square.items()},
    )


def _per_feature(layer: nn.Module, product: Tensor, images: int) -> Tensor:
    """Sum a product of the input's shape to (N, input features): over pixels, or over what a linear layer maps one by one."""
    if isinstance(layer, nn.Conv2d):
        return product.sum((2, 3))
    return product.reshape(images, -1, product.shape[-1]).sum(1)
