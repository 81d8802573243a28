"""Search for a plan by ask and tell: which plan to look at next, given the scores of those before.

Losses of single groups don't add up when every group is cut hard. So plans are made from losses reweighted by chance and by what
the scores have shown so far; each is the integer program's answer, at the same predicted latency, to a set of losses. Whoever
asks decides what a score is and pays for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from host.search.network import Plan
from host.search.solution import Widths
from host.search.surrogate import Losses, Surrogate

#: Standard deviations of the logarithm of a group's weight, in turns: near the losses and far from them.
REWEIGHTS = (0.5, 1.0, 1.5)
#: Asks between the starting plans and the first use of the surrogate.
REWEIGHTED_ASKS = 5
#: Draws that repeat a told plan before another way is tried; each is wider than the one before.
MOST_REPEATS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A plan to look at; `number` counts the asks from 0, `origin` says in a word or two where the plan comes from."""

    number: int
    origin: str
    plan: Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A proposal with its score; lower is better."""

    proposal: Proposal
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """When to stop: after `most` scores, or when the last `without_gain` have not lowered the best by the share `gain`."""

    most: int
    without_gain: int = 12
    gain: float = 0.01

    def __post_init__(self) -> None:
        if self.most < 1 or self.without_gain < 1 or not 0 <= self.gain < 1:
            raise ValueError(f"most={self.most}, without_gain={self.without_gain}, gain={self.gain}")


class PlanSearch:
    """The state is what was told and nothing else: telling a new search the same proposals and scores rebuilds it.

    `groups` are names with channels in the order of execution. `starts` are plans that compete whatever the losses say (the
    uniform one); `losses` are sets of losses by name that each give a plan to begin with, the first being the one to reweight.
    `solve(losses)` returns the plan of least summed losses within the budgets, or raises Infeasible; `fits(plan)` says whether a
    plan keeps them and uses them well.
    """

    def __init__(
        self,
        groups: Sequence[tuple[str, int]],
        widths: Widths,
        *,
        starts: Mapping[str, Plan],
        losses: Mapping[str, Losses],
        solve: Callable[[Losses], Plan],
        fits: Callable[[Plan], bool],
        patience: Patience,
        seed: int = 0,
    ) -> None:
        if not losses:
            raise ValueError("a search needs losses to begin with")
        self._widths, self._starts, self._losses = widths, dict(starts), dict(losses)
        self._solve, self._fits, self._patience, self._seed = solve, fits, patience, seed
        self._first = next(iter(self._losses.values()))
        self._surrogate = Surrogate(groups, self._first)
        self._asked = 0
        self.told: list[Told] = []

    def ask(self) -> Proposal | None:
        """Return a plan that was not told yet; None when the search no longer pays or has nothing new to propose.

        Raises Infeasible if no plan at all keeps the budgets.
        """
        if self._over():
            return None
        known = {each.proposal.plan.key() for each in self.told}
        beginnings = len(self._starts) + len(self._losses)
        while self._asked < beginnings:
            origin, plan = self._beginning(self._asked)
            if plan is not None and plan.key() not in known:
                return self._proposal(origin, plan)
            self._asked += 1
        rng = np.random.default_rng((self._seed, self._asked))
        turn = self._asked - beginnings
        if turn >= REWEIGHTED_ASKS and len(self.told) >= 2:
            self._surrogate.fit([each.proposal.plan for each in self.told], [each.score for each in self.told])
            ways = (self._expected, self._drawn, self._swapped)
            for way in (*ways[turn % 3 :], *ways[: turn % 3]):
                if (found := way(rng, known)) is not None:
                    return found
            return None
        for attempt in range(2 * MOST_REPEATS):
            spread = REWEIGHTS[(turn + attempt) % len(REWEIGHTS)]
            weights = {name: float(np.exp(spread * rng.standard_normal())) for name in self._first}
            losses = {name: {w: weights[name] * loss for w, loss in row.items()} for name, row in self._first.items()}
            plan = self._solve(losses)
            if plan.key() not in known:
                return self._proposal("reweighted", plan)
        if len(self.told) < 2:
            return None
        self._surrogate.fit([each.proposal.plan for each in self.told], [each.score for each in self.told])
        return self._swapped(rng, known)

    def tell(self, proposal: Proposal, score: float) -> None:
        """Give a proposal its score (finite, lower is better); those of an earlier search, in their order, are taken as well."""
        if not np.isfinite(score):
            raise ValueError(f"the score of proposal {proposal.number} is {score}")
        self.told.append(Told(proposal=proposal, score=float(score)))
        self._asked = proposal.number + 1

    def best(self, count: int = 1) -> list[Told]:
        """Return the told plans of the lowest scores, the best first."""
        return sorted(self.told, key=lambda each: (each.score, each.proposal.number))[:count]

    def learned_losses(self) -> Losses:
        """Return what each width is taken to cost after all scores; the first losses where too few were told."""
        if len(self.told) < 2:
            return self._first
        self._surrogate.fit([each.proposal.plan for each in self.told], [each.score for each in self.told])
        return self._surrogate.losses(self._widths)

    def _over(self) -> bool:
        patience, scores = self._patience, [each.score for each in self.told]
        if len(scores) >= patience.most:
            return True
        beginnings = len(self._starts) + len(self._losses)
        if self._asked < beginnings + REWEIGHTED_ASKS or len(scores) <= patience.without_gain:
            return False
        before = min(scores[: -patience.without_gain])
        return min(scores) > before - patience.gain * abs(before)

    def _beginning(self, place: int) -> tuple[str, Plan | None]:
        if place < len(self._starts):
            return list(self._starts.items())[place]
        name, losses = list(self._losses.items())[place - len(self._starts)]
        return name, self._solve(losses)

    def _proposal(self, origin: str, plan: Plan) -> Proposal:
        return Proposal(number=self._asked, origin=origin, plan=plan)

    def _expected(self, _rng: np.random.Generator, known: set[tuple[tuple[str, int], ...]]) -> Proposal | None:
        plan = self._solve(self._surrogate.losses(self._widths))
        return None if plan.key() in known else self._proposal("expected best", plan)

    def _drawn(self, rng: np.random.Generator, known: set[tuple[tuple[str, int], ...]]) -> Proposal | None:
        for attempt in range(MOST_REPEATS):
            plan = self._solve(self._surrogate.losses(self._widths, rng, scale=1.5**attempt))
            if plan.key() not in known:
                return self._proposal("drawn", plan)
        return None

    def _swapped(self, rng: np.random.Generator, known: set[tuple[tuple[str, int], ...]]) -> Proposal | None:
        """The neighbour of one of the best plans of which most is expected: up to one group wider and one narrower."""
        for told in self.best(3):
            all_near = swaps(told.proposal.plan, self._widths)
            near = [plan for plan in all_near if plan.key() not in known and self._fits(plan)]
            if near:
                return self._proposal("neighbour of the best", min(near, key=self._surrogate.predict))
        return None


def swaps(plan: Plan, widths: Widths) -> list[Plan]:
    """Return the plans one step away from `plan`: one group a step wider, another a step narrower, or only one of the two."""
    steps: dict[str, list[tuple[int, int]]] = {}
    for name, width in plan.kept.items():
        allowed = widths[name]
        steps[name] = [(narrow, wide) for narrow, wide in pairwise(allowed) if width in (narrow, wide)]
    wider = {name: wide for name, pairs in steps.items() for narrow, wide in pairs if plan.kept[name] == narrow}
    narrower = {name: narrow for name, pairs in steps.items() for narrow, wide in pairs if plan.kept[name] == wide}
    single = [{name: width} for name, width in (*wider.items(), *narrower.items())]
    double = [{up: wider[up], down: narrower[down]} for up in wider for down in narrower if up != down]
    return [Plan(kept={**plan.kept, **change}) for change in (*double, *single)]


def anchored(plan: Plan, losses: Losses, widths: Widths) -> Losses:
    """Return losses under which the least change of `plan` that keeps another budget is best, and of equal changes the cheapest.

    A step away from the plan costs as much as the largest step of `losses`, and what it adds to them besides.
    """
    steps = [abs(row[wide] - row[narrow]) for row in losses.values() for narrow, wide in pairwise(sorted(row))]
    price = max(steps, default=0.0) or 1.0
    found: dict[str, dict[int, float]] = {}
    for name, allowed in widths.items():
        place = min(range(len(allowed)), key=lambda index: abs(allowed[index] - plan.kept[name]))
        found[name] = {w: float(losses[name][w]) + price * abs(index - place) for index, w in enumerate(allowed)}
    return found
