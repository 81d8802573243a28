"""Ratios of percentiles in pairs: the figure, and how often its interval covers the truth."""

import random

import pytest

from device_agent.contract.measurement import Run, RunKind
from device_agent.contract.paired_tails import paired_percentile_ratio_of
from device_agent.contract.statistics import percentile

TURN = 4


def runs_of(latency, blocks):
    """Two turns of each artifact per block, the second in mirrored order; `latency(artifact, block)` in ns."""
    runs, turn = [], 0
    for block in range(blocks):
        for artifact in (0, 1, 1, 0):
            for index in range(TURN + 1):
                runs.append(
                    Run(
                        artifact=artifact,
                        kind=RunKind.SETTLING if index == 0 else RunKind.TIMED,
                        turn=turn,
                        start_ns=0,
                        latency_ns=10**12 if index == 0 else latency(artifact, block),
                        disturbed=False,
                    )
                )
            turn += 1
    return runs


def test_the_ratio_is_that_of_percentiles_over_all_timed_runs():
    generator = random.Random(0)
    runs = runs_of(lambda artifact, _: generator.randrange(1000, 2000) // (1 + artifact), 30)
    timed = [[run.latency_ns for run in runs if run.artifact == each and run.kind is RunKind.TIMED] for each in (0, 1)]
    found = paired_percentile_ratio_of(runs, 90)
    assert found.ratio == pytest.approx(percentile(timed[1], 90) / percentile(timed[0], 90))
    assert found.blocks == 30
    assert found.low < found.ratio < found.high
    assert paired_percentile_ratio_of(runs, 50).ratio == pytest.approx(
        percentile(timed[1], 50) / percentile(timed[0], 50)
    )


def test_a_slower_tail_shows_although_the_medians_agree():
    def latency(artifact, block):
        return 1000 if artifact == 0 or generator.random() > 0.2 else 3000

    generator = random.Random(1)
    runs = runs_of(latency, 40)
    assert paired_percentile_ratio_of(runs, 50).ratio == pytest.approx(1.0)
    assert paired_percentile_ratio_of(runs, 90).ratio == pytest.approx(3.0)


def test_drift_that_hits_both_cancels():
    runs = runs_of(lambda artifact, block: (1000 + 50 * block) * (1 + artifact), 40)
    found = paired_percentile_ratio_of(runs, 90)
    assert found.ratio == pytest.approx(2.0)
    assert found.high / found.low == pytest.approx(1.0)


@pytest.mark.parametrize("tail", [0.0, 0.2])
def test_the_interval_covers_the_truth_as_often_as_it_says(tail):
    generator = random.Random(2)

    def latency(artifact, _):
        return int(1e6 * generator.lognormvariate(0, 0.05) * (1.6 if generator.random() < tail else 1) / (1 + artifact))

    found = [paired_percentile_ratio_of(runs_of(latency, 20), 90) for _ in range(150)]
    covered = sum(each.low <= 0.5 <= each.high for each in found)
    assert covered >= 0.92 * len(found)


def test_few_runs_give_a_ratio_and_no_interval():
    found = paired_percentile_ratio_of(runs_of(lambda _, block: 1000 + block, 6), 90)
    assert (found.low, found.high) == (None, None)
    assert found.ratio == pytest.approx(1.0)
    with pytest.raises(ValueError, match="no block in common"):
        paired_percentile_ratio_of([], 90)
    with pytest.raises(ValueError, match="not between 50 and 99"):
        paired_percentile_ratio_of(runs_of(lambda *_: 1, 1), 99.9)
