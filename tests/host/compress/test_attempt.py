"""Which of several trained candidates is the result."""

from __future__ import annotations

import pytest
from torch import nn

from host.compress.attempt import Attempt, nearest
from host.compress.rounds import Candidate
from host.compress.session import State
from host.search.meeting import Found, Tried
from host.search.network import Plan


def attempt(ratio: float, reason: str | None = None) -> Attempt:
    plan = Plan(kept={"a": 1})
    tried = Tried(plan=plan, ratio=ratio, low=ratio, high=ratio)
    found = Found(best=tried, tried=(tried,), reason=reason)
    state = State(module=nn.Identity(), plan=plan, kept={"a": (0,)})
    candidate = Candidate(method="latency", found=found, predicted=ratio, state=state, accuracy=0.9)
    return Attempt(candidate=candidate, comparison={"latency_ratio": ratio}, target=0.5)


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
