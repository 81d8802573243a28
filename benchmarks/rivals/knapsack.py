"""HALP's augmented knapsack (Shen et al. 2022, arXiv 2110.10811): channels in blocks, each block only after the better ones.

Taking a group's blocks in the order of their importance is the same as choosing one width per group, so the
problem is a multiple-choice knapsack, solved exactly by dynamic programming over rounded latencies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

#: Steps into which the budget is divided; costs are rounded up, so that no choice exceeds it.
STEPS = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A width of a group, with the importance that it keeps and its latency in any unit."""

    width: int
    value: float
    cost: float


def knapsack(choices: Mapping[str, Sequence[Item]], budget: float, steps: int = STEPS) -> dict[str, int] | None:
    """Return one width per group of the greatest total value at a total cost of at most `budget`; None where none fits.

    Costs may be negative, as look-up tables have it: a constant per group is taken off first.
    """
    base = {group: min(item.cost for item in items) for group, items in choices.items()}
    room = budget - sum(base.values())
    if room < 0:
        return None
    unit = room / steps if room > 0 else 1.0
    best = np.zeros(steps + 1)
    taken: list[tuple[str, np.ndarray]] = []
    for group, items in choices.items():
        values = np.full(steps + 1, -np.inf)
        picked = np.zeros(steps + 1, dtype=np.int64)
        for index, item in enumerate(items):
            weight = math.ceil((item.cost - base[group]) / unit - 1e-9)
            if weight > steps:
                continue
            candidate = np.full(steps + 1, -np.inf)
            candidate[weight:] = best[: steps + 1 - weight] + item.value
            better = candidate > values
            values[better], picked[better] = candidate[better], index
        best = values
        taken.append((group, picked))
    left, kept = int(np.argmax(best)), {}
    for group, picked in reversed(taken):
        item = choices[group][int(picked[left])]
        kept[group] = item.width
        left -= math.ceil((item.cost - base[group]) / unit - 1e-9)
    return kept
