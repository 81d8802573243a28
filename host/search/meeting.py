"""Meeting a latency: solve, measure on the device, correct the budget, until the measured ratio lies in the window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from host.search.budgets import Try, correct, within
from host.search.network import Plan
from host.search.solution import Infeasible

#: Proposals in all; those that repeat a measured plan cost no device time.
MOST_PROPOSALS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A plan and its measured ratio to the baseline's latency, with the interval (None: too few blocks)."""

    plan: Plan
    ratio: float
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The best plan tried, and all of them. `reason` is None if `best` lies in the window, else it says why none does.

    `best` is then the slowest at or under the target (or the window, where that reaches further), or the fastest of all.
    """

    best: Tried
    tried: tuple[Tried, ...]
    reason: str | None


def find_plan(
    propose: Callable[[float], Plan],
    measure: Callable[[Plan], Tried],
    *,
    target: float,
    window: tuple[float, float],
    tries: int = 6,
    confirm: Callable[[Plan], Tried] | None = None,
) -> Found:
    """Return a plan whose measured ratio lies in `window` (shares of `target`), after at most `tries` measurements.

    `propose(budget)` solves for a predicted ratio of at most `budget`. It may raise Infeasible, which is passed on at the first
    budget; later it ends the search, as a cut connection does not: errors of `measure` are the caller's. Where no plan lies in a
    window that ends below the target, the slowest under the target may be there by luck: `confirm` measures it at length before
    it is taken, and the next one is looked at if it turns out to be over the target.
    """
    measured: dict[tuple[tuple[str, int], ...], Tried] = {}
    history: list[Try] = []
    budget = correct(history, target, window)
    reason = f"no plan measured within {window[0]:.2f} - {window[1]:.2f} of the target in {tries} tries"
    for _ in range(MOST_PROPOSALS):
        if budget is None:
            break
        try:
            plan = propose(budget)
        except Infeasible as error:
            if not measured:
                raise
            reason = str(error)
            break
        key = plan.key()
        if key not in measured:
            if len(measured) == tries:
                break
            measured[key] = measure(plan)
            if within(measured[key].ratio, target, window):
                return Found(best=measured[key], tried=tuple(measured.values()), reason=None)
        history.append(Try(budget=budget, measured=measured[key].ratio))
        budget = correct(history, target, window)
    else:
        reason = "no other allowed width lies between the plans that were measured"
    every = tuple(measured.values())
    under = [each for each in every if each.ratio <= max(window[1], 1.0) * target]
    best = _confirmed(under, confirm, target, window) or min(every, key=lambda each: each.ratio)
    return Found(best=best, tried=every, reason=f"{reason}; the nearest is at {best.ratio / target:.3f} of the target")


def _confirmed(
    under: Sequence[Tried], confirm: Callable[[Plan], Tried] | None, target: float, window: tuple[float, float]
) -> Tried | None:
    """Return the slowest of the plans `under` the target that stays there when it is measured again; None if none does."""
    for each in sorted(under, key=lambda each: -each.ratio):
        if confirm is None or each.ratio <= window[1] * target:
            return each
        again = confirm(each.plan)
        if again.ratio <= target:
            return again
    return None
