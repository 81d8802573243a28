"""When a median or a ratio counts as known. What the rule leaves of the intervals' coverage is in test_coverage.py."""

from __future__ import annotations

import random

from device_agent.contract.measurement import Run, RunKind
from device_agent.contract.statistics import median_interval
from device_agent.worker.stopping import median_known, next_look, precision_reached, ratio_known


def timed(latencies: list[float], artifact: int = 0) -> list[Run]:
    return [
        Run(artifact=artifact, kind=RunKind.TIMED, turn=place, start_ns=place, latency_ns=round(value), disturbed=False)
        for place, value in enumerate(latencies)
    ]


def test_a_median_is_known_when_its_width_says_so_and_runs_are_enough() -> None:
    rng = random.Random(1)
    calm = [1e6 + rng.gauss(0, 1e3) for _ in range(400)]
    assert median_known(median_interval(calm), 0.01)
    assert not median_known(median_interval(calm), 0.0001)
    assert precision_reached(timed(calm), 1, 0.01)
    assert not precision_reached(timed(calm), 1, 0.0001)
    assert not precision_reached([], 1, 0.01)


def test_few_independent_values_are_never_enough_however_narrow() -> None:
    calm = [1e6 + place % 3 for place in range(40)]
    found = median_interval(calm)
    assert found.relative_half_width is not None
    assert found.relative_half_width < 0.01
    assert not median_known(found, 0.01)
    rng = random.Random(2)
    wandering, value = [], 0.0
    for _ in range(400):
        value = 0.95 * value + 0.312 * rng.gauss(0, 1)
        wandering.append(1e6 + 1e3 * value)
    assert not median_known(median_interval(wandering), 0.01), "four hundred runs, worth some twenty"


def test_a_ratio_is_known_by_its_blocks() -> None:
    rng = random.Random(3)
    ratios = [rng.gauss(-0.2, 0.004) for _ in range(30)]
    assert ratio_known(median_interval(ratios, assume_independent=True), 0.01)
    assert not ratio_known(median_interval(ratios, assume_independent=True), 0.001)
    assert not ratio_known(median_interval(ratios[:5], assume_independent=True), 0.5), "five blocks have no interval"


def test_looks_lie_a_third_apart() -> None:
    assert [next_look(1), next_look(50), next_look(1000)] == [2, 65, 1300]
