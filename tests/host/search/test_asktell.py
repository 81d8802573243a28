"""The search on a problem small enough to know every plan, whose scores do not add up over groups."""

from __future__ import annotations

import math
from itertools import pairwise, product

import numpy as np
import pytest

from host.search.asktell import Patience, PlanSearch, Proposal, anchored, swaps
from host.search.network import Plan
from host.search.solution import Infeasible

GROUPS = [(f"g{place}", 32) for place in range(6)]
WIDTHS = {name: (8, 16, 24, 32) for name, _ in GROUPS}
PLANS = [Plan(kept=dict(zip(WIDTHS, each, strict=True))) for each in product(*WIDTHS.values())]
PRICES = dict(zip(WIDTHS, (3.0, 1.0, 2.0, 1.0, 2.0, 3.0), strict=True))
DRAWN = np.random.default_rng(104)
HARM = dict(zip(WIDTHS, np.exp(DRAWN.normal(size=len(WIDTHS))).tolist(), strict=True))
#: What is measured of single groups is as much chance as truth.
CHANCE = dict(zip(WIDTHS, np.exp(DRAWN.normal(size=len(WIDTHS))).tolist(), strict=True))
LOSSES = {
    name: {width: HARM[name] * CHANCE[name] * math.log(32 / width) for width in row} for name, row in WIDTHS.items()
}


def price(plan: Plan) -> float:
    return sum(PRICES[name] * width for name, width in plan.kept.items()) / (32 * sum(PRICES.values()))


def fits(plan: Plan) -> bool:
    return 0.45 <= price(plan) <= 0.5


FITTING = [plan for plan in PLANS if fits(plan)]


def solve(losses):
    return min(FITTING, key=lambda plan: sum(losses[name][width] for name, width in plan.kept.items()))


def truth(plan: Plan) -> float:
    """Neighbours that are both narrow harm more than the sum of the two."""
    cuts = [math.log(32 / width) for width in plan.kept.values()]
    alone = sum(HARM[name] * cut**1.5 for name, cut in zip(plan.kept, cuts, strict=True))
    return 1 + alone + sum(one * other for one, other in pairwise(cuts))


def search(**changes):
    values = {
        "starts": {"uniform": Plan(kept=dict.fromkeys(WIDTHS, 16))},
        "losses": {
            "least loss": LOSSES,
            "roots": {n: {w: v**0.5 for w, v in row.items()} for n, row in LOSSES.items()},
        },
        "solve": solve,
        "fits": fits,
        "patience": Patience(most=40, without_gain=15),
        **changes,
    }
    return PlanSearch(GROUPS, WIDTHS, **values)


def run(found, limit=None):
    while (limit is None or len(found.told) < limit) and (proposal := found.ask()) is not None:
        found.tell(proposal, truth(proposal.plan))
    return found


def test_the_search_comes_near_the_best_of_all_plans():
    found = run(search())
    scores = sorted(truth(plan) for plan in FITTING)
    assert len(FITTING) > 300
    best = found.best()[0]
    assert best.score <= scores[4]
    beginnings = {each.proposal.origin: each.score for each in found.told}
    assert best.score < min(beginnings["uniform"], beginnings["least loss"])
    assert best.score == truth(best.proposal.plan)


def test_every_proposal_is_new_and_keeps_the_budget():
    found = run(search())
    assert [each.proposal.origin for each in found.told[:3]] == ["uniform", "least loss", "roots"]
    assert len({each.proposal.plan.key() for each in found.told}) == len(found.told)
    assert all(fits(each.proposal.plan) for each in found.told[1:])
    assert {"reweighted", "expected best", "drawn"} < {each.proposal.origin for each in found.told}


def test_a_search_that_was_stopped_goes_on_as_if_it_had_not_been():
    whole = run(search())
    for stop in (1, 4, 13):
        first = run(search(), limit=stop)
        again = search()
        for each in first.told:
            again.tell(each.proposal, each.score)
        assert run(again).told == whole.told


def test_a_search_of_another_seed_is_another_one():
    assert run(search(seed=1)).told != run(search()).told


def test_it_stops_when_it_no_longer_pays():
    found = run(search(patience=Patience(most=200, without_gain=6, gain=0.01)))
    scores = [each.score for each in found.told]
    assert len(scores) < 200
    assert min(scores[:-6]) * 0.99 <= min(scores)
    assert len(run(search(patience=Patience(most=5))).told) == 5


def test_plans_run_out():
    few = FITTING[:3]

    def only(losses):
        return min(few, key=lambda plan: sum(losses[name][width] for name, width in plan.kept.items()))

    found = run(search(starts={}, solve=only, fits=lambda plan: plan in few))
    assert len(found.told) <= 3


def test_no_plan_at_all_is_the_solvers_word():
    def none(_losses):
        raise Infeasible("no plan", fastest_ratio=0.7, fastest_plan=PLANS[0])

    with pytest.raises(Infeasible, match="no plan"):
        search(starts={}, solve=none).ask()


def test_scores_are_numbers():
    found = search()
    with pytest.raises(ValueError, match="proposal 0"):
        found.tell(Proposal(number=0, origin="uniform", plan=PLANS[0]), math.nan)


def test_swaps_are_one_step_away():
    plan = Plan(kept=dict.fromkeys(WIDTHS, 8) | {"g0": 32})
    near = swaps(plan, WIDTHS)
    assert all(each.key() != plan.key() for each in near)
    assert len({each.key() for each in near}) == len(near)
    for each in near:
        changed = {name: (plan.kept[name], width) for name, width in each.kept.items() if width != plan.kept[name]}
        assert all(abs(before - after) == 8 for before, after in changed.values())
        assert len([1 for before, after in changed.values() if after > before]) <= 1
        assert len([1 for before, after in changed.values() if after < before]) <= 1


def test_another_budget_changes_a_plan_as_little_as_it_can():
    plan = run(search()).best()[0].proposal.plan
    losses = anchored(plan, LOSSES, WIDTHS)
    assert solve(losses) == plan
    lower = min(
        (each for each in PLANS if price(each) <= price(plan) - 1e-9),
        key=lambda each: sum(losses[name][width] for name, width in each.kept.items()),
    )
    assert sum(lower.kept[name] != plan.kept[name] for name in WIDTHS) == 1
