"""Intervals cover the truth as often as they say, counted on 10,000 seeded draws of series whose truth is known.

The same simulation, and what the stopping rule leaves of it, is a table in benchmarks/verdicts.py.
"""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.coverage import (
    ALONE,
    PAIRED,
    STOPPED_ALONE,
    STOPPED_PAIRED,
    Alone,
    Paired,
    cover_alone,
    cover_paired,
    cover_stopped_alone,
    cover_stopped_paired,
)
from benchmarks.series import TRUE_NS, block_ratios, flipping, heavy, lognormal, noise, paired_runs, paired_series
from device_agent.contract.pairs import block_log_ratios
from device_agent.contract.statistics import interval_rank

DRAWS = 10_000


@pytest.mark.parametrize("case", ALONE, ids=lambda case: case.title)
def test_95_percent_intervals_of_a_median_cover_it(case: Alone) -> None:
    found = cover_alone(case, DRAWS, seed=101)
    assert found.given > 0.95 * DRAWS
    assert 0.935 <= found.share <= 0.97


@pytest.mark.parametrize("case", PAIRED, ids=lambda case: case.title)
def test_95_percent_intervals_of_a_paired_ratio_cover_it(case: Paired) -> None:
    found = cover_paired(case, DRAWS, seed=102)
    assert found.given > 0.95 * DRAWS
    assert 0.935 <= found.share <= 0.97


@pytest.mark.parametrize("case", STOPPED_ALONE, ids=lambda case: case.title)
def test_looking_until_a_median_is_known_costs_little_coverage(case: Alone) -> None:
    found = cover_stopped_alone(case, 1000, seed=103)
    assert found.given == found.draws
    assert 0.91 <= found.share <= 0.98


@pytest.mark.parametrize("case", STOPPED_PAIRED, ids=lambda case: case.title)
def test_looking_until_a_ratio_is_known_costs_little_coverage(case: Paired) -> None:
    found = cover_stopped_paired(case, 1000, seed=104)
    assert found.given == found.draws
    assert 0.91 <= found.share <= 0.98


def test_the_naive_interval_would_not_cover() -> None:
    """The reason for blocks: order statistics of single runs at rho 0.9 cover a third of the time."""
    rank = interval_rank(400)
    assert rank is not None
    values = np.sort(noise(np.random.default_rng(3), 1000, 400, 0.9), axis=1)
    assert np.mean((values[:, rank - 1] <= 0) & (values[:, -rank] >= 0)) < 0.5


@pytest.mark.parametrize("rho", [0.0, 0.5, 0.9])
def test_the_series_have_the_median_and_the_correlation_that_they_claim(rho: float) -> None:
    rng = np.random.default_rng(5)
    values = noise(rng, 200, 2000, rho)
    assert np.mean(values[:, 1:] * values[:, :-1]) == pytest.approx(rho, abs=0.02)
    assert np.median(lognormal(values, 0.1)) == pytest.approx(TRUE_NS, rel=0.005)
    assert np.median(heavy(values, 0.1)) == pytest.approx(TRUE_NS, rel=0.005)


def test_a_flipping_series_is_slow_for_the_share_that_it_claims() -> None:
    rng = np.random.default_rng(6)
    flat = np.full((200, 1000), TRUE_NS)
    for share, stretch in ((0.5, None), (0.3, None), (0.3, 4), (0.5, 40)):
        slow = flipping(rng, flat, 0.1, share, stretch) > TRUE_NS * 1.05
        assert slow.mean() == pytest.approx(share, abs=0.03)


def test_the_ratios_of_a_series_are_those_of_its_runs() -> None:
    latencies, places = paired_series(np.random.default_rng(7), 3, 9, 0.8, artifacts=3, drift=0.1)
    for candidate in (1, 2):
        expected = block_ratios(latencies, places, candidate)
        for draw in range(3):
            runs = paired_runs(latencies[draw], places)
            assert block_log_ratios(runs, 0, candidate) == pytest.approx(expected[draw].tolist(), abs=1e-6)
