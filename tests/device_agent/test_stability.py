"""The tests for drift and for two modes, against series whose truth is known. benchmarks/verdicts.py counts errors at length."""

from __future__ import annotations

import random

import pytest

from device_agent.contract.stability import drift, modes
from device_agent.contract.verdicts import MODE_SHARE, VALLEY_DEPTH

SHARE, DEEP = MODE_SHARE, VALLEY_DEPTH


def gaussian(rng: random.Random, count: int, centre: float = 1e6, spread: float = 1e4) -> list[float]:
    return [rng.gauss(centre, spread) for _ in range(count)]


def test_drift_has_a_size_and_a_significance() -> None:
    found = drift([1.0] * 30 + [1.05] * 30 + [1.1] * 30)
    assert found.change == pytest.approx(0.1)
    assert found.sigmas > 6
    found = drift([1.0, 1.1] * 45)
    assert (found.change, found.sigmas) == (pytest.approx(0.0), pytest.approx(0.0))
    assert drift([1.0] * 8).sigmas == 0.0


def test_the_standard_score_is_that_of_the_textbook() -> None:
    scipy_stats = pytest.importorskip("scipy.stats")
    rng = random.Random(2)
    # Rounded, so that there are ties; few enough that the autocorrelation comes out as none.
    values = [round(rng.gauss(100, 3)) for _ in range(30)]
    third = 10
    asymptotic = scipy_stats.mannwhitneyu(values[-third:], values[:third], method="asymptotic", use_continuity=False)
    sigma = (third * third * (2 * third + 1) / 12) ** 0.5
    expected = (asymptotic.statistic - third * third / 2) / sigma
    assert 0 < abs(drift(values).sigmas) <= abs(expected) + 1e-9


def test_autocorrelation_is_no_drift() -> None:
    rng = random.Random(4)
    worst = 0.0
    for _ in range(200):
        value, series = 0.0, []
        for _ in range(300):
            value = 0.9 * value + 0.436 * rng.gauss(0, 1)
            series.append(1e6 + 1e4 * value)
        worst = max(worst, abs(drift(series).sigmas))
    assert 2 < worst < 5.5, "taken as independent, such series reach 14 sigmas"


def test_two_modes_have_a_deep_valley() -> None:
    rng = random.Random(1)
    series = [rng.gauss(1e6 if rng.random() < 0.7 else 1.1e6, 1e4) for _ in range(500)]
    found = modes(series, SHARE)
    assert found is not None
    assert found.depth > DEEP
    assert found.apart == pytest.approx(0.1, abs=0.01)
    assert found.slow_share == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize("count", [100, 300, 1000])
def test_one_mode_has_none(count: int) -> None:
    rng = random.Random(count + 1)
    shapes = (
        gaussian(rng, count),
        [rng.uniform(1e6, 1.2e6) for _ in range(count)],
        [1e6 + 1e5 * rng.expovariate(1) for _ in range(count)],
        [1e6 + 1e4 * rng.paretovariate(1.1) for _ in range(count)],
        [1e6 * rng.lognormvariate(0, 1) for _ in range(count)],
        [1e6 + 500 * number for number in range(count)],
    )
    for series in shapes:
        found = modes(series, SHARE)
        assert found is not None
        assert found.depth < DEEP


@pytest.mark.parametrize("tick", [1e3, 1e4, 3e4])
def test_a_coarse_clock_makes_no_modes(tick: float) -> None:
    rng = random.Random(7)
    found = modes([round(value / tick) * tick for value in gaussian(rng, 500)], SHARE)
    assert found is None or found.depth < DEEP


def test_a_few_slow_runs_are_no_mode() -> None:
    rng = random.Random(3)
    series = gaussian(rng, 450) + gaussian(rng, 50, centre=2e6)
    found = modes(series, SHARE)
    assert found is not None
    assert found.depth < DEEP


def test_few_or_equal_values_have_no_modes() -> None:
    assert modes([1.0, 2.0] * 49, SHARE) is None
    assert modes([5.0] * 500, SHARE) is None
