"""Judging a bound: the binomial test against exact sums, MLPerf's own figures, and error rates in simulated queues."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from benchmarks.queues import queue_latencies
from device_agent.contract.bound import (
    CONFIDENCE,
    LOOKS,
    binomial_at_most,
    fewest_requests,
    may_still_keep,
    within_bound,
)
from device_agent.contract.statistics import percentile


@pytest.mark.parametrize(
    ("successes", "trials", "share"), [(0, 459, 0.01), (3, 100, 0.02), (40, 60, 0.5), (7, 7, 0.3), (59, 60, 0.99)]
)
def test_the_binomial_tail_is_the_sum(successes: int, trials: int, share: float) -> None:
    terms = (math.comb(trials, k) * share**k * (1 - share) ** (trials - k) for k in range(successes + 1))
    assert binomial_at_most(successes, trials, share) == pytest.approx(math.fsum(terms), rel=1e-9)


def test_counts_that_are_not_whole_lie_between_their_neighbours() -> None:
    low, middle, high = (binomial_at_most(late, 500, 0.01) for late in (2, 2.5, 3))
    assert low < middle < high
    assert binomial_at_most(-1, 10, 0.1) == 0
    assert binomial_at_most(10, 10, 0.1) == 1


def test_the_fewest_requests() -> None:
    assert fewest_requests(99) == 528
    assert binomial_at_most(0, 528, 0.01) <= 0.005 < binomial_at_most(0, 527, 0.01)
    steady = list(range(1, 529))
    random.Random(1).shuffle(steady)
    assert within_bound(steady, 1000, 99) is True
    assert within_bound(steady[:527], 1000, 99) is None


def test_mlperfs_own_figure() -> None:
    """Its early stopping asks for 459 requests where none is late, at 99 % (loadgen/early_stopping.cc, h_min of p99)."""
    assert binomial_at_most(0, 459, 0.01) <= 0.01 < binomial_at_most(0, 458, 0.01)


def test_nothing_and_far_off() -> None:
    assert within_bound([], 1, 99) is None
    assert within_bound([5] * 1000, 4, 99) is False
    spread = [5 if number % 7 == 0 else 1 for number in range(1000)]
    assert within_bound(spread, 4, 99) is False
    assert within_bound(spread, 5, 99) is True
    assert within_bound(spread, 4, 80) is True


def test_a_burst_counts_once() -> None:
    """Ten late requests of a thousand say more where they are apart than where they are one burst."""
    apart = [9 if number % 50 == 0 else 1 for number in range(1000)]
    together = [9] * 20 + [1] * 980
    assert within_bound(apart, 8, 99.5) is False
    assert within_bound(together, 8, 99.5) is None


def deterministic(_: random.Random) -> float:
    return 1.0


def exponential(rng: random.Random) -> float:
    return rng.expovariate(1.0)


@pytest.mark.parametrize(
    ("service", "streams", "busy", "count"),
    [
        (deterministic, 1, 0.6, 700),
        (deterministic, 2, 0.7, 1000),
        (exponential, 1, 0.8, 600),
        (deterministic, 4, 0.9, 500),
    ],
)
def test_the_error_rate_at_the_limit(
    service: Callable[[random.Random], float], streams: int, busy: float, count: int
) -> None:
    """At the rate whose true percentile is the bound, each wrong answer comes with 5 % of trials at most, all looks together."""
    rng = random.Random(7)
    rate = busy * streams

    def latencies(requests: int) -> list[int]:
        found = queue_latencies(rng, rate=rate, streams=streams, service=service, count=requests)
        return [round(1e6 * one) for one in found]

    bound = percentile(latencies(200_000), 99)

    def judged() -> bool | None:
        seen: list[int] = []
        for times in LOOKS:
            seen += latencies(times * count)
            within = within_bound(seen, bound, 99)
            if within is not None or not may_still_keep(seen, bound, 99):
                return within
        return None

    trials = 200
    found = [judged() for _ in range(trials)]
    # Three standard errors above the stated error, as a share of 200 trials wanders.
    most = 1 - CONFIDENCE + 3 * math.sqrt(CONFIDENCE * (1 - CONFIDENCE) / trials)
    assert sum(one is True for one in found) / trials <= most
    assert sum(one is False for one in found) / trials <= most


def test_the_plain_test_would_pass_most_runs_at_the_limit() -> None:
    """Why counts are corrected for bursts: without that, half of the runs at the very limit count as within it."""
    rng = random.Random(5)
    bound = percentile(queue_latencies(rng, rate=0.9, streams=1, service=deterministic, count=200_000), 99)
    passed = 0
    for _ in range(100):
        found = queue_latencies(rng, rate=0.9, streams=1, service=deterministic, count=500)
        passed += binomial_at_most(sum(one > bound for one in found), 500, 0.01) <= 0.01
    assert passed > 50


def test_a_rate_well_under_the_limit_is_found_within_and_well_over_it_not() -> None:
    """M/M/1: the latency is exponential with mean 1 / (1 - rate), so p99 is ln(100) / (1 - rate)."""
    rng = random.Random(3)
    bound = math.log(100) / (1 - 0.6)
    low = queue_latencies(rng, rate=0.4, streams=1, service=exponential, count=4000)
    high = queue_latencies(rng, rate=0.8, streams=1, service=exponential, count=4000)
    scaled = [[round(1e6 * one) for one in latencies] for latencies in (low, high)]
    assert within_bound(scaled[0], bound * 1e6, 99) is True
    assert within_bound(scaled[1], bound * 1e6, 99) is False
