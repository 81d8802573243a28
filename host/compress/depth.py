"""Dropping residual branches: what stands in their place, in the module and in its checkpoint.

A branch without channels yields one value per channel of its stream. Behind a batch norm that is the norm's bias: fitted to a
single value it subtracts that value. So the branch becomes a constant that is added, which no exporter computes anything for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from host.compress.cuts import NORMS, Cut, Side
from host.search.network import Branch

#: Dimensions behind the channels of what a branch's last layer made: pixels of a convolution, none of a linear layer.
_PIXELS = 2


class Vanished(nn.Module):
    """In the place of a layer whose channels are all gone: what is left of the branch does not read its output.

    That is a copy, since activations work in place, and the input belongs to the stream.
    """

    def forward(self, x: Tensor) -> Tensor:
        return x.clone()


class _AddedTo(Tensor):
    """A tensor for code that writes a sum over it (`y += x`), which would not fit: the sum becomes a tensor of its own."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]  # as in torch's own Parameter

    def __iadd__(self, other: Tensor) -> Tensor:  # type: ignore[override,misc]  # torch's own is not typed for subclasses
        return other + self


class ConstantChannels(nn.Module):
    """In the place of a branch's last layer, or the norm behind it: one trained value per channel, whatever the input.

    `dimensions` are those behind the channels, over which the value is spread; `in_place` as in Branch.
    """

    def __init__(self, value: Tensor, dimensions: int, in_place: bool) -> None:
        super().__init__()
        self.value = nn.Parameter(value.detach().clone())
        self.dimensions = dimensions
        self.in_place = in_place

    def forward(self, _x: Tensor) -> Tensor:
        spread = self.value.view(-1, *([1] * self.dimensions))
        return spread.as_subclass(_AddedTo) if self.in_place else spread


@torch.no_grad()
def drop_branches(module: nn.Module, cuts: Mapping[str, Sequence[Cut]], branches: Iterable[Branch]) -> None:
    """Replace the layers of `branches`, in place, by what they come to without channels and with batch norm fitted to it."""
    for branch in branches:
        last = module.get_submodule(branch.layers[-1])
        value = _value(last, None if branch.norm is None else module.get_submodule(branch.norm))
        gone = {cut.module for cut in cuts[branch.group] if cut.side is Side.OUTPUT} | {branch.layers[-1]}
        for name in gone:
            module.set_submodule(name, Vanished())
        dimensions = 0 if isinstance(last, nn.Linear) else _PIXELS
        constant = ConstantChannels(value, dimensions, branch.in_place)
        module.set_submodule(branch.norm or branch.layers[-1], constant)


def _value(last: nn.Module, norm: nn.Module | None) -> Tensor:
    """What a branch yields: its norm's bias, else its last layer's, else zeros."""
    assert isinstance(last, (nn.Conv2d, nn.Linear))
    bias = last.bias
    if norm is not None:
        assert isinstance(norm, NORMS)
        bias = norm.bias
    return torch.zeros(last.weight.shape[0], device=last.weight.device) if bias is None else bias


@torch.no_grad()
def fit_norms(module: nn.Module, branches: Iterable[Branch]) -> dict[str, Tensor]:
    """Fit the norms of `branches`, whose groups are masked, to what they then see; return their former means by name."""
    former = {}
    for branch in branches:
        norm = None if branch.norm is None else module.get_submodule(branch.norm)
        if branch.norm is not None and isinstance(norm, NORMS) and norm.running_mean is not None:
            former[branch.norm] = norm.running_mean.clone()
            bias = module.get_submodule(branch.layers[-1]).bias
            norm.running_mean.copy_(bias if isinstance(bias, Tensor) else torch.zeros_like(norm.running_mean))
    return former


def dropped_of(module: nn.Module) -> dict[str, Any]:
    """Return what a checkpoint keeps of the replaced layers, by name: None, or what builds a constant."""
    found: dict[str, Any] = {}
    for name, layer in module.named_modules():
        if isinstance(layer, Vanished):
            found[name] = None
        elif isinstance(layer, ConstantChannels):
            found[name] = {
                "channels": len(layer.value),
                "dimensions": layer.dimensions,
                "in_place": layer.in_place,
            }
    return found


def drop_again(module: nn.Module, dropped: Mapping[str, Any]) -> None:
    """Replace the layers that `dropped_of` noted, in place; the constants are to be loaded."""
    for name, note in dropped.items():
        layer: nn.Module = Vanished()
        if note is not None:
            layer = ConstantChannels(torch.zeros(note["channels"]), note["dimensions"], note["in_place"])
        module.set_submodule(name, layer)
