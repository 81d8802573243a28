"""Latency budgets: split over rounds, and corrected by what was measured until the target is met.

Budgets and measurements are ratios to the baseline's latency; a budget is what the planner is asked for, a
measurement what the device then said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: A result counts as met between these shares of the target.
WINDOW = (0.97, 1.0)
#: Where the next try aims: the window's middle, so that noise of 1.5 % on either side is still met.
AIM = 0.985
#: The largest factor between two budgets in a row. A model off by more is wrong, and needs the new probe
#: first.
BOUND = 1.3
#: A guess this close (in log budget, as a share of the bracket) to a known end is moved inwards.
INSET = 0.15


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """The budget that the planner was given, and the paired ratio that its plan measured."""

    budget: float
    measured: float

    def __post_init__(self) -> None:
        if not (self.budget > 0 and self.measured > 0 and math.isfinite(self.budget * self.measured)):
            raise ValueError(f"budget and measured ratio must be positive: {self.budget}, {self.measured}")


def within(measured: float, target: float) -> bool:
    """Return whether a measured ratio meets `target` without wasting more than 3 % of it."""
    return WINDOW[0] * target <= measured <= WINDOW[1] * target


def round_budgets(target: float, rounds: int, start: float = 1.0) -> tuple[float, ...]:
    """Return the budgets of `rounds` rounds from `start` to `target`, in equal factors: B0^(1-t/T)
    B^(t/T).
    """
    if not 0 < target <= start or rounds < 1:
        raise ValueError(f"need 0 < target <= start and a round, got {target}, {start}, {rounds} rounds")
    steps = (start ** (1 - turn / rounds) * target ** (turn / rounds) for turn in range(1, rounds))
    return (*steps, target)


def correct(tries: Sequence[Try], target: float) -> float | None:
    """Return the next budget after `tries` (oldest first); None if the last one met `target`.

    The error of the last try is taken as a factor and divided out, by at most 30 %. Once a budget that
    measured too slow and a lower one that measured too fast are known, the next lies between them: by
    interpolation in the logarithms, kept off the ends, and by bisection where the same end moved twice in a
    row.
    """
    if not tries:
        return target
    last = tries[-1]
    if within(last.measured, target):
        return None
    aim = AIM * target
    proposal = last.budget * min(max(aim / last.measured, 1 / BOUND), BOUND)
    slow = [each for each in tries if each.measured > WINDOW[1] * target]
    if not slow:
        return max(proposal, last.budget) if last.measured < aim else proposal
    over = min(slow, key=lambda each: each.budget)
    fast = [each for each in tries if each.measured < WINDOW[0] * target and each.budget < over.budget]
    if not fast:
        return min(proposal, over.budget / (1 + INSET / 10))
    under = max(fast, key=lambda each: each.budget)
    low, high = math.log(under.budget), math.log(over.budget)
    place = (math.log(aim) - math.log(under.measured)) / (math.log(over.measured) - math.log(under.measured))
    sides = [each.measured > aim for each in tries[-3:]]
    if len(sides) == 3 and len(set(sides)) == 1:
        place = 0.5
    return math.exp(low + (high - low) * min(max(place, INSET), 1 - INSET))
