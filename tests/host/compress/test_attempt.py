"""Which of several candidates is taken, before and after training."""

from __future__ import annotations

import pytest
from torch import nn

from host.compress.attempt import Attempt, nearest
from host.compress.rounds import Candidate, Round, best_of
from host.compress.session import State
from host.search.meeting import Found, Tried
from host.search.network import Plan


def attempt(ratio: float, reason: str | None = None, accuracy: float = 0.9) -> Attempt:
    plan = Plan(kept={"a": 1})
    tried = Tried(plan=plan, ratio=ratio, low=ratio, high=ratio)
    found = Found(best=tried, tried=(tried,), reason=reason)
    state = State(module=nn.Identity(), plan=plan, kept={"a": (0,)})
    candidate = Candidate(method="latency", found=found, predicted=ratio, state=state, accuracy=accuracy)
    return Attempt(candidate=candidate, comparison={"latency_ratio": ratio}, target=0.5, float32={})


@pytest.mark.parametrize(
    ("ratios", "best"),
    [((0.46, 0.52, 0.51), 0.46), ((0.46, 0.49), 0.49), ((0.52, 0.49, 0.45), 0.49), ((0.6, 0.53, 0.54), 0.53)],
)
def test_what_met_the_target_is_not_thrown_away(ratios: tuple[float, ...], best: float) -> None:
    assert nearest([attempt(ratio) for ratio in ratios]).comparison["latency_ratio"] == best


def test_what_does_not_meet_it_says_why() -> None:
    reason = nearest([attempt(0.53), attempt(0.52), attempt(0.51)]).candidate.found.reason
    assert reason is not None
    assert "after 2 corrections" in reason
    assert nearest([attempt(0.53, reason="no other width")]).candidate.found.reason == "no other width"
    assert nearest([attempt(0.49)]).candidate.found.reason is None


@pytest.mark.parametrize(
    ("candidates", "taken"),
    [
        (((0.499, 0.87), (0.49, 0.71)), 0.499),  # under the target, though outside the narrower window of the check
        (((0.52, 0.9), (0.49, 0.71)), 0.49),
        (((0.53, 0.9), (0.51, 0.71)), 0.51),
    ],
)
def test_the_most_accurate_at_or_under_the_ratio_is_trained(
    candidates: tuple[tuple[float, float], ...], taken: float
) -> None:
    wanted = Round(name="last", ratio=0.5, window=(0.97, 0.993), tries=6, epochs=1)
    found = best_of([attempt(ratio, accuracy=accuracy).candidate for ratio, accuracy in candidates], wanted)
    assert found.found.best.ratio == taken
