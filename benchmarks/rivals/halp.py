"""HALP-style pruning from the paper (Shen et al. 2022, arXiv 2110.10811); its code is for non-commercial use and wasn't read.

Importance is the first-order term of batch norm's scale and shift, added over the layers of a group. A block of eight output
channels costs what the look-up table says between two output widths of its layers, at the input widths of the moment. The
paper prunes step by step with training in between: here in as many rounds as `host compress` takes for the target, with
the same split of the fine-tuning budget. Since inputs get narrower as well, a plan is faster than its outputs' costs say; so each
round's budget is bisected on measured latency, which the paper doesn't do.
"""

from __future__ import annotations

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.rivals.knapsack import Item, knapsack
from benchmarks.rivals.lookup import Lookup, shape_of
from benchmarks.rivals.meeting import MEASUREMENTS, bisect
from benchmarks.rivals.planned import STEP
from benchmarks.rivals.trial import Pruned, Trial
from host.compress.cuts import PrunableNetwork
from host.compress.groups import analyse
from host.compress.pipeline import split_epochs
from host.compress.surgery import channels_to_keep, prune
from host.search.network import Network, Plan
from host.search.planner import round_budgets

#: A round per factor of 1.5, as in `host compress`.
PER_ROUND = 1 / 1.5


def rounds_for(target: float, most: int) -> int:
    """Return the number of rounds for a ratio of the latency."""
    return min(most, max(1, math.ceil(math.log(target) / math.log(PER_ROUND) - 1e-9)))


def halp(trial: Trial, target: float) -> Pruned:
    """Rounds of importance, knapsack and fine-tuning. The module comes back trained."""
    rounds = rounds_for(target, trial.net.epochs)
    module, lookup = trial.baseline, Lookup(trial)
    notes: list[dict[str, int]] = []
    for number, (budget, epochs) in enumerate(
        zip(round_budgets(target, rounds), split_epochs(trial.net.epochs, rounds), strict=True), 1
    ):
        current = analyse(module, trial.example)
        importance = batch_norm_taylor(current, module, trial.batches())
        choices, whole = items(current.network, importance, lookup)
        least = {group: min(each, key=lambda item: item.width).width for group, each in choices.items()}
        here = module

        def propose(
            share: float,
            here: nn.Module = here,
            current: PrunableNetwork = current,
            importance: dict[str, Tensor] = importance,
            choices: dict[str, list[Item]] = choices,
            whole: float = whole,
            least: dict[str, int] = least,
        ) -> nn.Module:
            kept = knapsack(choices, share * whole) or least
            return prune(current, here, channels_to_keep(current, importance, Plan(kept=kept)))

        # In between nothing has to be met exactly, so a few measurements do.
        tries = MEASUREMENTS if number == rounds else MEASUREMENTS // 2
        module = bisect(trial, propose, budget, measurements=tries).module
        notes.append({group.name: group.channels for group in current.network.groups})
        trial.tune(module, epochs)
    return Pruned(module=module, notes={"rounds": rounds, "groups_before_each": notes})


def items(network: Network, importance: dict[str, Tensor], lookup: Lookup) -> tuple[dict[str, list[Item]], float]:
    """Return per group its widths in steps of eight with value and cost, and the cost of keeping everything.

    Costs count output channels only: a layer's input stays as wide as it is now. Where several groups make up a layer's output,
    each is priced with the others whole.
    """
    full = network.full_plan().kept
    table = []
    for group in network.groups:
        layers = [layer for layer in network.layers if any(part.group == group.name for part in layer.outputs)]
        for width in sorted({*range(STEP, group.channels, STEP), group.channels}):
            shapes = [
                shape_of(layer, layer.widths(full)[0], layer.widths({**full, group.name: width})[1]) for layer in layers
            ]
            table.append((group.name, width, shapes))
    rest = [layer for layer in network.layers if not layer.outputs]
    fixed = [shape_of(layer, *layer.widths(full)) for layer in rest]
    whole = [shape_of(layer, *layer.widths(full)) for layer in network.layers]
    lookup.prepare([*fixed, *whole, *(shape for _, _, shapes in table for shape in shapes)])
    everything = sum(lookup.latency_ns(shape) for shape in whole)
    choices: dict[str, list[Item]] = {group.name: [] for group in network.groups}
    for name, width, shapes in table:
        best = importance[name].sort(descending=True).values[:width]
        choices[name].append(
            Item(width=width, value=float(best.sum()), cost=sum(lookup.latency_ns(shape) for shape in shapes))
        )
    # A layer of several groups is counted in each; its whole latency is taken off all but the first.
    counted = sum(max(items, key=lambda item: item.width).cost for items in choices.values())
    surplus = counted + sum(lookup.latency_ns(shape) for shape in fixed) - everything
    first = next(iter(choices))
    constant = sum(lookup.latency_ns(shape) for shape in fixed) - surplus
    choices[first] = [Item(width=each.width, value=each.value, cost=each.cost + constant) for each in choices[first]]
    return choices, everything


def batch_norm_taylor(
    network: PrunableNetwork, module: nn.Module, batches: tuple[tuple[Tensor, Tensor], ...]
) -> dict[str, Tensor]:
    """Return by group |scale x its gradient + shift x its gradient|, averaged over batches, added over the group's norms."""
    probe = copy.deepcopy(module).eval()
    norms = {name: layer for name, layer in probe.named_modules() if isinstance(layer, nn.BatchNorm2d)}
    totals = {name: torch.zeros(layer.num_features, dtype=torch.float64) for name, layer in norms.items()}
    for images, labels in batches:
        probe.zero_grad()
        F.cross_entropy(probe(images), labels).backward()  # type: ignore[no-untyped-call]
        for name, layer in norms.items():
            assert layer.weight.grad is not None
            assert layer.bias.grad is not None
            term = layer.weight * layer.weight.grad + layer.bias * layer.bias.grad
            totals[name] += term.detach().abs().double() / len(batches)
    found = {}
    for group in network.network.groups:
        scores = torch.zeros(group.channels, dtype=torch.float64)
        for cut in network.cuts[group.name]:
            if cut.module in totals:
                for channel, indices in enumerate(cut.indices):
                    scores[channel] += totals[cut.module][list(indices)].sum()
        found[group.name] = scores
    return found
