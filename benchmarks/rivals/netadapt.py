"""NetAdapt (Yang et al., ECCV 2018, arXiv 1804.03230), written from the paper.

Each iteration takes a step off the latency, as the look-up table has it. Every group of coupled layers makes one proposal:
the widest width that alone gives the step, with the filters of the largest l2 norms. The most accurate one goes on. Three
things differ from the paper:

- proposals are judged after batch norm is refitted, and only the winner gets the short-term fine-tuning: divided among all
  proposals the budget would give each less than a batch. One pass over the training images is for that, the rest for the long
  term;
- a step that no single group can give is halved, where the paper ends;
- the table's sum is corrected by a measurement of the whole net, and the search ends at what is measured.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.rivals.lookup import Lookup, shape_of
from benchmarks.rivals.meeting import WINDOW
from benchmarks.rivals.planned import STEP, stepped
from benchmarks.rivals.trial import LEARNING_RATE, OutOfReach, Pruned, Trial, accuracy_of
from host.compress.evaluation import recalibrate_batch_norm
from host.compress.groups import analyse
from host.compress.importance import scores
from host.compress.surgery import channels_to_keep, prune
from host.search.network import Layer, Network, Plan

#: Share of the baseline's latency that an iteration takes off, per group that could give it: about half a group's worth.
STEP_PER_GROUP = 0.36
#: From this multiple of the target on every iteration is measured, lest the table's error carries it past the target.
NEAR = 1.3
#: Steps smaller than this end the search.
LEAST_STEP = 0.001
JUDGED_IMAGES, RECALIBRATION_IMAGES = 256, 128

Widths = Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """One group's way to give the step."""

    group: str
    width: int
    latency: float


def proposals(
    widths: Mapping[str, tuple[int, ...]], kept: Widths, latency: Callable[[Widths], float], step: float
) -> list[Proposal]:
    """Return for every group that can give `step` alone the widest of its `widths` that does."""
    limit, found = latency(kept) - step, []
    for group, choices in widths.items():
        for width in sorted((each for each in choices if each < kept[group]), reverse=True):
            reached = latency({**kept, group: width})
            if reached <= limit:
                found.append(Proposal(group=group, width=width, latency=reached))
                break
    return found


def steps(
    widths: Mapping[str, tuple[int, ...]], kept: Widths, latency: Callable[[Widths], float], step: float
) -> tuple[float, list[Proposal]]:
    """Return the step, halved as often as it takes for any group to give it, and the proposals; none below LEAST_STEP."""
    while step >= LEAST_STEP:
        found = proposals(widths, kept, latency, step)
        if found:
            return step, found
        step /= 2
    return step, []


def netadapt(trial: Trial, target: float) -> Pruned:
    """Iterations until the measured latency is at the target, then long-term fine-tuning. The module comes back trained."""
    network, widths = trial.analysed.network, stepped(trial.analysed.network)
    table = _table(network, Lookup(trial), widths)
    module, kept = copy.deepcopy(trial.baseline), dict(network.full_plan().kept)
    split = trial.data.validation.take(slice(0, JUDGED_IMAGES))
    judged = ((torch.from_numpy(split.images), torch.from_numpy(split.labels)),)
    correction, path, proposed = 1.0, [], 0
    regular = STEP_PER_GROUP / len(network.groups)
    short = _ShortTerm(trial, iterations=max(1, round((1 - target) / regular)))
    while True:
        predicted = table(kept) * correction
        if predicted <= NEAR * target:
            shot = trial.measure(module)
            correction, predicted = shot.ratio / table(kept), shot.ratio
            if shot.ratio <= WINDOW[1] * target and trial.measure(module, final=True).ratio <= target:
                break
        # The last step is only as long as what is left.
        wanted = min(regular, max(predicted - WINDOW[1] * target, LEAST_STEP)) / correction
        step, found = steps(widths, kept, table, wanted)
        if not found:
            raise OutOfReach(f"no group can give a further step at {trial.measure(module).ratio:.3f}x", module)
        best, module = _most_accurate(trial, module, kept, found, judged)
        proposed += len(found)
        kept[best.group] = best.width
        short.tune(module)
        path.append({"group": best.group, "width": best.width, "step": step, "proposals": len(found)})
        trial.say(
            f"iteration {len(path)}: {best.group} to {best.width} of {len(found)} proposals, {predicted:.3f}x before"
        )
    trial.tune(module, trial.net.epochs - 1)
    return Pruned(module=module, notes={"iterations": len(path), "proposals": proposed, "path": path})


def _table(network: Network, lookup: Lookup, widths: Mapping[str, tuple[int, ...]]) -> Callable[[Widths], float]:
    """Return a function from widths to the share of the baseline's latency, as the sum of the table's entries."""
    lookup.prepare(shape_of(layer, *pair) for layer in network.layers for pair in _pairs(layer, network, widths))
    whole = sum(lookup.latency_ns(shape_of(layer, *layer.widths(network.full_plan().kept))) for layer in network.layers)

    def latency(kept: Widths) -> float:
        return sum(lookup.latency_ns(shape_of(layer, *layer.widths(kept))) for layer in network.layers) / whole

    return latency


def _pairs(layer: Layer, network: Network, widths: Mapping[str, tuple[int, ...]]) -> set[tuple[int, int]]:
    names = sorted({part.group for part in (*layer.inputs, *layer.outputs)})
    full = network.full_plan().kept
    return {
        layer.widths({**full, **dict(zip(names, chosen, strict=True))})
        for chosen in product(*(widths[name] for name in names))
    }


def _most_accurate(
    trial: Trial,
    module: nn.Module,
    kept: Widths,
    found: list[Proposal],
    judged: tuple[tuple[Tensor, Tensor], ...],
) -> tuple[Proposal, nn.Module]:
    current = analyse(module, trial.example)
    ranked = scores(current, module, "l2", seed=trial.seed)
    here = {group.name for group in current.network.groups}
    images = trial.data.train.images[:RECALIBRATION_IMAGES]
    best: tuple[float, Proposal, nn.Module] | None = None
    for each in found:
        plan = Plan(kept={name: width for name, width in {**kept, each.group: each.width}.items() if name in here})
        smaller = prune(current, module, channels_to_keep(current, ranked, plan))
        recalibrate_batch_norm(smaller, images, 1)
        accuracy = accuracy_of(smaller, judged)
        if best is None or accuracy > best[0]:
            best = (accuracy, each, smaller)
    assert best is not None
    return best[1], best[2]


class _ShortTerm:
    """A few steps of SGD for the winner of each iteration, one pass over the training images in all."""

    def __init__(self, trial: Trial, *, iterations: int, batch: int = 32) -> None:
        self._trial, self._batch = trial, batch
        self._left = len(trial.data.train) // batch
        self._each = max(1, self._left // iterations)
        self._order = torch.randperm(len(trial.data.train), generator=torch.Generator().manual_seed(trial.seed))
        self._next = 0

    def tune(self, module: nn.Module) -> None:
        split = self._trial.data.train
        optimizer = torch.optim.SGD(module.parameters(), lr=LEARNING_RATE / 4, momentum=0.9, weight_decay=5e-4)
        with self._trial.timed("tuning_s"):
            module.train()
            for _ in range(min(self._each, self._left)):
                chosen = self._order[self._next : self._next + self._batch]
                loss = F.cross_entropy(
                    module(torch.from_numpy(split.images[chosen])), torch.from_numpy(split.labels[chosen])
                )
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                self._next += self._batch
                self._left -= 1
                self._trial.images_seen += self._batch
            module.eval()


__all__ = ["STEP", "Proposal", "netadapt", "proposals", "steps"]
