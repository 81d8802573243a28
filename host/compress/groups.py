"""Which layers must lose the same channels together, found by following every channel through one run of the network.

The operations say what goes together (`channels`); whether the module's Python code follows smaller
tensors they cannot say. So before groups are used they are tried: the network with a few channels of each cut out must run,
and must yield the outputs of the network with the weights that read these channels set to zero. What fails is left alone,
with the reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from device_agent.contract.errors import StableError
from host.compress.channels.branches import find_branches
from host.compress.channels.grouping import group_channels
from host.compress.channels.liveness import live_tensors
from host.compress.channels.run import trace
from host.compress.channels.trace import Trace
from host.compress.cuts import Cut, PrunableNetwork
from host.compress.layers import layer_views
from host.compress.proof import Refused, disagreement, first_line, make_probe, outputs_of, vanish
from host.search.network import Branch, Group, LeftAlone, Network


class ModelNotPrunable(StableError):
    """The model as a whole cannot be analysed; the message names it and says why."""


def analyse(module: nn.Module, example: Tensor) -> PrunableNetwork:
    """Find the layers and groups of `module` from a run on images like `example` (N, C, H, W). `module` is not changed.

    Groups are named after their first layer in the order of execution. Raises ModelNotPrunable if the module
    doesn't run on `example`, if its graph can't be traced, or if it has no convolution or linear layer.
    """
    title = type(module).__name__
    if example.ndim != 4:
        raise ModelNotPrunable(f"{title}: the example must be images (N, C, H, W), got shape {tuple(example.shape)}")
    probe, images = make_probe(module, example)
    with torch.no_grad():
        try:
            whole = outputs_of(probe, images)
        except Exception as error:
            raise ModelNotPrunable(
                f"{title} does not run on images of shape {tuple(example.shape)}: {first_line(error)}. "
                f"Build it for this input size and number of channels."
            ) from error
    found = _traced(probe, images, title)
    if not found.executed:
        raise ModelNotPrunable(f"{title} runs no nn.Conv2d and no nn.Linear, so there are no channels to prune")
    if not found.followed_outputs:
        raise ModelNotPrunable(
            f"{title} cannot be traced for pruning: its outputs do not depend on its layers by operations that torch sees "
            f"(a step outside of torch). It can still be measured, exported and quantized."
        )
    grouping = group_channels(found)
    proof = _Proof(probe=probe, images=images, whole=whole, cuts=grouping.cuts, notes=grouping.notes)
    groups, refused = proof.sift(grouping.groups)
    reasons = dict(grouping.reasons) | {layer: reason for group, reason in refused for layer in group.layers}
    cuts = {group.name: grouping.cuts[group.name] for group in groups}
    branches = proof.vanishing(find_branches(found, groups, cuts))
    return PrunableNetwork(
        network=Network(
            layers=layer_views(probe, found.executed, cuts),
            groups=groups,
            left_alone=tuple(LeftAlone(layer=name, reason=reasons[name]) for name in found.executed if name in reasons),
            branches=branches,
            tensors=live_tensors(found, {group.name: grouping.atoms[group.name] for group in groups}, branches),
        ),
        cuts=cuts,
        input_shape=(example.shape[1], example.shape[2], example.shape[3]),
    )


def _traced(probe: nn.Module, images: Tensor, title: str) -> Trace:
    try:
        return trace(probe, images)
    except Exception as error:
        raise ModelNotPrunable(
            f"{title} cannot be traced for pruning ({type(error).__name__}: {first_line(error)}). "
            f"It can still be measured, exported and quantized."
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class _Proof:
    """Groups put to the test on a probe."""

    probe: nn.Module
    images: Tensor
    whole: Sequence[Tensor]
    cuts: Mapping[str, Sequence[Cut]] = field(repr=False)
    notes: Mapping[str, tuple[str, ...]]

    def sift(self, groups: Sequence[Group]) -> tuple[tuple[Group, ...], list[tuple[Group, str]]]:
        """Return the groups that can be cut together, and the others with their reasons.

        All at once first, twice with other channels. Where that fails each is tried alone, and then those that passed are
        added one by one.
        """
        if not groups or self._sound(groups):
            return tuple(groups), []
        refused: list[tuple[Group, str]] = []
        alone = self._pick([(group, [group]) for group in groups], refused)
        if self._sound(alone):
            return tuple(alone), refused
        together: list[Group] = []
        for group in alone:
            if not self._pick([(group, [*together, group])], refused):
                continue
            together.append(group)
        return tuple(together), refused

    def vanishing(self, branches: Sequence[Branch]) -> tuple[Branch, ...]:
        """Return the branches that can be dropped: all at once, else those that can alone."""
        if not branches or vanish(self.probe, self.images, self.whole, self.cuts, branches):
            return tuple(branches)
        return tuple(each for each in branches if vanish(self.probe, self.images, self.whole, self.cuts, [each]))

    def _pick(self, trials: Sequence[tuple[Group, Sequence[Group]]], refused: list[tuple[Group, str]]) -> list[Group]:
        passed = []
        for group, trial in trials:
            try:
                problem = disagreement(self.probe, self.images, self.whole, self.cuts, trial)
            except Refused as refusal:
                problem = str(refusal)
            if problem is None:
                passed.append(group)
            else:
                remarks = " and ".join(self.notes[group.name])
                refused.append((group, f"its channels {remarks} ({problem})" if remarks else problem))
        return passed

    def _sound(self, groups: Sequence[Group]) -> bool:
        try:
            return not groups or all(
                disagreement(self.probe, self.images, self.whole, self.cuts, groups, seed) is None for seed in (0, 1000)
            )
        except Refused:
            return False
