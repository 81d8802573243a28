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
#: The largest factor between two budgets in a row. A model off by more is wrong, and needs the new probe
#: first.
BOUND = 1.3
#: A guess this close (in log budget, as a share of the bracket) to a known end is moved inwards.
INSET = 0.1
#: The least relative change of a budget that can ask for another plan.
NUDGE = 0.005
#: Pull of the response to 1: the variance of two ratios (0.5 % each) over that of responses (0.2).
SHRINKAGE = 0.001
#: Powers by which a measurement can sensibly follow the budget; outside them noise spoke.
RESPONSE = (0.7, 1.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """The budget that the planner was given, and the paired ratio that its plan measured.

    Where the latency model was refitted since, `budget` is the refitted model's prediction for that plan:
    budgets of one list must mean the same thing.
    """

    budget: float
    measured: float

    def __post_init__(self) -> None:
        if not (self.budget > 0 and self.measured > 0 and math.isfinite(self.budget * self.measured)):
            raise ValueError(f"budget and measured ratio must be positive: {self.budget}, {self.measured}")


def within(measured: float, target: float, window: tuple[float, float] = WINDOW) -> bool:
    """Return whether a measured ratio lies in `window` (shares of `target`)."""
    return window[0] * target <= measured <= window[1] * target


def round_budgets(target: float, rounds: int, start: float = 1.0) -> tuple[float, ...]:
    """Return the budgets of `rounds` rounds from `start` to `target`, in equal factors: B0^(1-t/T)
    B^(t/T).
    """
    if not 0 < target <= start or rounds < 1:
        raise ValueError(f"need 0 < target <= start and a round, got {target}, {start}, {rounds} rounds")
    steps = (start ** (1 - turn / rounds) * target ** (turn / rounds) for turn in range(1, rounds))
    return (*steps, target)


def correct(tries: Sequence[Try], target: float, window: tuple[float, float] = WINDOW) -> float | None:
    """Return the next budget after `tries` (oldest first); None if the last one lies in `window` (shares of `target`).

    The first aims at the window's middle, so that noise on either side is still met. Then the last try's error is divided
    out, by at most BOUND, with the response that the last two tries showed. Once a budget that measured too slow and a lower
    one that measured too fast are known, the next lies between them: by interpolation in the logarithms, kept off the ends,
    and by bisection where three tries in a row fell on the same side.
    """
    aim = (window[0] + window[1]) / 2 * target
    if not tries:
        return aim
    last = tries[-1]
    if within(last.measured, target, window):
        return None
    slow = [each for each in tries if each.measured > window[1] * target]
    over = min(slow, key=lambda each: each.budget, default=None)
    fast = [
        each for each in tries if each.measured < window[0] * target and (over is None or each.budget < over.budget)
    ]
    under = max(fast, key=lambda each: each.budget, default=None)
    if over is not None and under is not None:
        return _between(under, over, tries, aim)
    factor = math.pow(aim / last.measured, 1 / _response(tries))
    proposal = last.budget * min(max(factor, 1 / BOUND), BOUND)
    if over is not None:  # noise may have put the last try on the other side of a budget known to be too slow
        return min(proposal, over.budget / (1 + NUDGE))
    return proposal if under is None else max(proposal, under.budget * (1 + NUDGE))


def _response(tries: Sequence[Try]) -> float:
    """Return by which power the measurement follows the budget, from the last two tries; 1 if they don't
    tell.
    """
    if len(tries) < 2:
        return 1.0
    before, last = tries[-2:]
    moved = math.log(last.budget / before.budget)
    followed = math.log(last.measured / before.measured)
    low, high = RESPONSE
    return min(max((followed * moved + SHRINKAGE) / (moved**2 + SHRINKAGE), low), high)


def _between(under: Try, over: Try, tries: Sequence[Try], aim: float) -> float:
    low, high = math.log(under.budget), math.log(over.budget)
    span = math.log(over.measured / under.measured)
    place = math.log(aim / under.measured) / span
    sides = {each.measured > aim for each in tries[-3:]}
    if len(tries) >= 3 and len(sides) == 1:
        place = 0.5
    return math.exp(low + (high - low) * min(max(place, INSET), 1 - INSET))
