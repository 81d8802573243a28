"""The proof of a cut: a network with channels taken out must do what the network with these channels masked
does.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.utils import _pytree

from host.compress.cuts import Cut, mask_consumers, restore_weights, slice_channels
from host.compress.depth import drop_branches, fit_norms
from host.search.network import Branch, Group

#: Largest difference allowed between a cut and a masked network, as a share of the largest output (float32).
TOLERANCE = 1e-4


class Refused(Exception):
    """A group cannot be pruned; the message is the reason, for a user."""


def make_probe(module: nn.Module, example: Tensor) -> tuple[nn.Module, Tensor]:
    """A copy with random weights, so that a wrong cut shows: trained or freshly made weights may be zero
    where it matters.
    """
    generator = torch.Generator().manual_seed(0)

    def uniform(like: Tensor, low: float, high: float) -> Tensor:
        return torch.rand(like.shape, generator=generator) * (high - low) + low

    probe = copy.deepcopy(module).cpu().float().eval()
    with torch.no_grad():
        for layer in probe.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                if layer.running_mean is not None and layer.running_var is not None:
                    layer.running_mean.copy_(uniform(layer.running_mean, -0.3, 0.3))
                    layer.running_var.copy_(uniform(layer.running_var, 0.5, 1.5))
                if layer.affine:
                    layer.weight.copy_(uniform(layer.weight, 0.5, 1.5))
                    layer.bias.copy_(uniform(layer.bias, -0.3, 0.5))
            elif isinstance(layer, (nn.Conv2d, nn.Linear)):
                fan_in = layer.weight[0].numel()
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * math.sqrt(2 / fan_in))
                if layer.bias is not None:
                    layer.bias.copy_(uniform(layer.bias, -0.1, 0.3))
    for parameter in probe.parameters():
        parameter.requires_grad_(True)
    images = torch.randn((1, *example.shape[1:]), generator=generator)
    return probe, images


def _some_channels(group: Group, seed: int) -> list[int]:
    """About a quarter of the channels, at random, as many in each block."""
    size = group.channels // group.multiple
    count = min(size - 1, max(1, size // 4))
    generator = torch.Generator().manual_seed(seed)
    return [
        block * size + int(index)
        for block in range(group.multiple)
        for index in torch.randperm(size, generator=generator)[:count]
    ]


def outputs_of(module: nn.Module, images: Tensor) -> list[Tensor]:
    """All tensors that the module returns, in whatever tuples or dicts."""
    return [leaf for leaf in _pytree.tree_leaves(module(images)) if isinstance(leaf, Tensor)]


@torch.no_grad()
def disagreement(
    probe: nn.Module,
    images: Tensor,
    whole: Sequence[Tensor],
    cuts: Mapping[str, Sequence[Cut]],
    groups: Sequence[Group],
    seed: int = 0,
) -> str | None:
    """Cut some channels of all `groups` at once, and hold the outputs against those of the masked network.

    `whole` are the outputs of the whole one. Return in words what went wrong, None if nothing did; raise Refused if an output
    itself became smaller. `probe` is as before afterwards.
    """
    removed = {group.name: _some_channels(group, seed + place) for place, group in enumerate(groups)}
    former = mask_consumers(probe, cuts, removed)
    masked = outputs_of(probe, images)
    restore_weights(probe, former)
    try:
        smaller = copy.deepcopy(probe)
        slice_channels(smaller, cuts, removed)
        cut = outputs_of(smaller, images)
    except Exception as failure:
        return f"the network does not run without some of them: {first_line(failure)}"
    if [value.shape for value in cut] != [value.shape for value in whole]:
        raise Refused("it produces the network's output")
    error, effect = _difference(cut, masked), _difference(masked, whole)
    if not error <= TOLERANCE:
        return f"without some of them the outputs are off by {error:.2g} of the largest"
    if not effect > TOLERANCE:
        return "removing its channels has no effect on the outputs, so the cut cannot be checked"
    return None


@torch.no_grad()
def vanish(
    probe: nn.Module,
    images: Tensor,
    whole: Sequence[Tensor],
    cuts: Mapping[str, Sequence[Cut]],
    branches: Sequence[Branch],
) -> bool:
    """Whether the network without `branches` yields what it yields with their groups masked, and not what the whole one does.

    `probe` is as before afterwards.
    """
    removed = {branch.group: range(len(cuts[branch.group][0].indices)) for branch in branches}
    former, means = mask_consumers(probe, cuts, removed), fit_norms(probe, branches)
    try:
        masked = outputs_of(probe, images)
    finally:
        restore_weights(probe, former)
        for name, mean in means.items():
            norm = probe.get_submodule(name)
            assert isinstance(norm, nn.modules.batchnorm._BatchNorm)
            assert norm.running_mean is not None
            norm.running_mean.copy_(mean)
    try:
        without = copy.deepcopy(probe)
        drop_branches(without, cuts, branches)
        dropped = outputs_of(without, images)
    except Exception:
        return False
    if [value.shape for value in dropped] != [value.shape for value in whole]:
        return False
    return _difference(dropped, masked) <= TOLERANCE < _difference(masked, whole)


def _difference(left: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    return max(float((a - b).abs().max() / b.abs().max().clamp_min(1e-12)) for a, b in zip(left, right, strict=True))


def first_line(error: BaseException) -> str:
    """An error of a library, short enough to stand in a sentence."""
    return (str(error).strip().partition("\n")[0] or type(error).__name__)[:200]
