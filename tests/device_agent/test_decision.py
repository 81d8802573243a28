"""Decisions on paired ratios: what is claimed when, what to do about the rest, and how often they are wrong (simulated)."""

from __future__ import annotations

import re

import numpy as np
import pytest

from benchmarks.coverage import Paired, decisions
from benchmarks.series import paired_runs, paired_series
from device_agent.contract.decision import Decision, DecisionCode, code_of, decide, decide_all
from device_agent.contract.errors import InvalidRequest
from device_agent.contract.measurement import Run
from device_agent.contract.pairs import PairedRatio

FASTER, SLOWER, EQUAL, UNDECIDED = (
    DecisionCode.FASTER,
    DecisionCode.SLOWER,
    DecisionCode.NO_DIFFERENCE,
    DecisionCode.UNDECIDED,
)
#: Twenty blocks under a shared drift and shared, strongly autocorrelated noise.
CASE = Paired(title="", blocks=20, common=0.1, common_rho=0.98, drift=0.2)


def ratio(low: float | None, high: float | None, blocks: int = 20) -> PairedRatio:
    middle = 1.0 if low is None or high is None else (low * high) ** 0.5
    return PairedRatio(ratio=middle, low=low, high=high, blocks=blocks)


def runs(true: float, *, blocks: int = 30, own: float = 0.01, artifacts: int = 2) -> tuple[Run, ...]:
    latencies, places = paired_series(
        np.random.default_rng(1), 1, blocks, true, artifacts=artifacts, own=own, drift=0.1
    )
    return paired_runs(latencies[0], places)


@pytest.mark.parametrize(
    ("low", "high", "code"),
    [
        (0.90, 0.95, FASTER),
        (0.97, 0.999, FASTER),
        (1.001, 1.2, SLOWER),
        (0.99, 1.01, EQUAL),
        (0.985, 0.995, EQUAL),  # surely faster, and surely by less than anybody asked about
        (1.002, 1.018, EQUAL),
        (0.97, 1.01, UNDECIDED),
        (0.99, 1.03, UNDECIDED),
        (0.5, 2.0, UNDECIDED),
        (None, None, UNDECIDED),
    ],
)
def test_the_interval_decides(low: float | None, high: float | None, code: DecisionCode) -> None:
    assert code_of(ratio(low, high), 0.02) is code
    if low is not None and high is not None:
        mirrored = {FASTER: SLOWER, SLOWER: FASTER}.get(code, code)
        assert code_of(ratio(1 / high, 1 / low), 0.02) is mirrored, "swapping the two must not change what is found"


def test_decisions_on_runs() -> None:
    assert decide(runs(0.8)).code is FASTER
    assert decide(runs(1.25)).code is SLOWER
    assert decide(runs(1.0)).code is EQUAL
    swapped = decide(runs(0.8), baseline=1, candidate=0)
    assert swapped.code is SLOWER
    assert swapped.ratio.ratio == pytest.approx(1.25, rel=0.01)
    assert all(decide(runs(true)).hint is None for true in (0.8, 1.0, 1.25))


def test_an_undecided_pair_is_told_what_to_do_and_it_helps() -> None:
    blocks, found = 8, decide(runs(1.0, blocks=8, own=0.05))
    assert found.code is UNDECIDED
    for _ in range(4):
        asked = re.search(r"--precision ([\d.]+)% and some (\d+) times", found.hint or "")
        if asked is None:
            break
        assert float(asked[1]) == pytest.approx(1.0, rel=0.02)
        blocks *= int(asked[2])
        found = decide(runs(1.0, blocks=blocks, own=0.05))
    assert found.code is EQUAL


def test_too_few_blocks_are_undecided_and_say_so() -> None:
    found = decide(runs(0.5, blocks=4))
    assert found.code is UNDECIDED
    assert (found.ratio.low, found.ratio.high) == (None, None)
    assert "4 blocks" in (found.hint or "")


def test_several_candidates_share_the_error_rate() -> None:
    made = runs(0.9, artifacts=4)
    together = decide_all(made, 4, error_rate=0.06)
    assert [one.code for one in together] == [FASTER] * 3
    for candidate, one in enumerate(together, start=1):
        alone = decide(made, 0, candidate, error_rate=0.06)
        assert one.error_rate == alone.error_rate == 0.06
        assert (one.comparisons, alone.comparisons) == (3, 1)
        assert one.ratio.confidence == pytest.approx(0.98)
        assert width(one) > width(alone)


def width(decision: Decision) -> float:
    assert decision.ratio.low is not None
    assert decision.ratio.high is not None
    return decision.ratio.high - decision.ratio.low


def test_a_smaller_error_rate_takes_a_wider_interval() -> None:
    made = runs(1.0)
    widths = [width(decide(made, error_rate=rate)) for rate in (0.2, 0.05, 0.01)]
    assert widths == sorted(widths)
    assert len(set(widths)) == 3


@pytest.mark.parametrize(("difference", "rate"), [(0.0, 0.05), (1.0, 0.05), (-0.1, 0.05), (0.02, 0.0), (0.02, 1.0)])
def test_what_makes_no_sense_is_refused(difference: float, rate: float) -> None:
    with pytest.raises(InvalidRequest, match="between 0 and 1"):
        decide(runs(1.0, blocks=6), difference=difference, error_rate=rate)


@pytest.mark.parametrize(
    ("true", "artifacts", "wrong", "most"),
    [
        (1.0, 2, {FASTER, SLOWER}, 0.05),
        (1.0, 5, {FASTER, SLOWER}, 0.05),  # any of the four
        (1.01, 2, {FASTER}, 0.025),
        (0.99, 2, {SLOWER}, 0.025),
        (1.02, 2, {EQUAL}, 0.025),
        (1 / 1.02, 2, {EQUAL}, 0.025),
    ],
)
def test_wrong_decisions_are_as_rare_as_stated(
    true: float, artifacts: int, wrong: set[DecisionCode], most: float
) -> None:
    draws = 1000 if artifacts > 2 else 4000
    found = decisions(CASE, draws, 7, true, artifacts=artifacts)
    share = sum(count for codes, count in found.items() if codes & wrong) / draws
    assert share <= most + 2 * (most * (1 - most) / draws) ** 0.5


def test_a_pair_measured_to_half_the_difference_is_decided() -> None:
    long = Paired(title="", blocks=300, common=0.1, common_rho=0.98, drift=0.2)
    for true, right in ((1.0, EQUAL), (0.95, FASTER), (1.05, SLOWER)):
        found = decisions(long, 200, 8, true, stopped=True)
        assert found[frozenset({right})] >= 0.95 * 200
        assert found[frozenset({UNDECIDED})] <= 0.02 * 200
