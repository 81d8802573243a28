"""A moving average of a network in training."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from host.compress.recipe import Ema


class AveragedNetwork:
    """`module` is a copy of the network, in evaluation mode, that follows its weights and its statistics of batch norm.

    Counts, such as batch norm's number of batches, are copied.
    """

    def __init__(self, source: nn.Module, recipe: Ema) -> None:
        self.recipe, self.steps = recipe, 0
        self.module = copy.deepcopy(source).eval().requires_grad_(False)
        self._pairs = _tensors(self.module), _tensors(source)

    @torch.no_grad()
    def update(self) -> None:
        """Follow the source after one more step."""
        self.steps += 1
        (averages, own_counts), (weights, counts) = self._pairs
        torch._foreach_lerp_(averages, weights, 1 - self.recipe.decay_at(self.steps))
        for own, count in zip(own_counts, counts, strict=True):
            own.copy_(count)


def _tensors(module: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """Parameters and buffers that have an average, and those that are counts or flags."""
    both = [each.detach() for each in (*module.parameters(), *module.buffers())]
    return [each for each in both if each.is_floating_point()], [each for each in both if not each.is_floating_point()]
