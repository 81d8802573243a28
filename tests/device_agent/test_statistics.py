"""Statistics of latencies: definitions against independent ones. How often intervals cover is in test_coverage.py."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterator
from dataclasses import replace

import pytest

from device_agent.contract.disturbance import TIME_SLICE_NS, enough_undisturbed, marks_are_void, steadiest
from device_agent.contract.measurement import Measurement, MeasureResult, Run, RunKind
from device_agent.contract.pairs import block_log_ratios, paired_ratio, paired_ratio_of
from device_agent.contract.settings import MeasureRequest
from device_agent.contract.statistics import (
    autocorrelation_time,
    interpolated_rank,
    interval_rank,
    median,
    median_interval,
    normal_quantile,
    percentile,
    steal_fraction,
    widened,
)
from device_agent.worker import order


def ar1(rng: random.Random, count: int, rho: float) -> list[float]:
    """Gaussian AR(1) with unit variance."""
    value = rng.gauss(0, 1)
    fresh = math.sqrt(1 - rho * rho)
    found = []
    for _ in range(count):
        value = rho * value + fresh * rng.gauss(0, 1)
        found.append(value)
    return found


@pytest.mark.parametrize(("percent", "value"), [(0, 10), (25, 20), (50, 30), (75, 40), (90, 46), (99, 49.6), (100, 50)])
def test_percentiles_are_type_7(percent: float, value: float) -> None:
    assert percentile([50, 10, 40, 20, 30], percent) == pytest.approx(value)


def test_percentile_agrees_with_numpy() -> None:
    np = pytest.importorskip("numpy")
    rng = random.Random(5)
    values = [rng.lognormvariate(0, 1) for _ in range(997)]
    for percent in (0.1, 12.5, 50, 90, 99, 99.9):
        assert percentile(values, percent) == pytest.approx(float(np.percentile(values, percent)), rel=1e-12)


@pytest.mark.parametrize(("values", "percent"), [([], 50), ([1.0], -1), ([1.0], 101)])
def test_an_undefined_percentile_is_refused(values: list[float], percent: float) -> None:
    with pytest.raises(ValueError, match="not defined"):
        percentile(values, percent)


@pytest.mark.parametrize("values", [[5], [7, 3], [2, 9, 4], [1.5, -2.0, 0.25, 8.0], list(range(100, 0, -1))])
def test_the_median_is_that_of_the_standard_library(values: list[float]) -> None:
    assert median(values) == median(iter(values)) == statistics.median(values)


def test_no_values_have_no_median() -> None:
    with pytest.raises(ValueError, match="not defined"):
        median([])


def test_ranks_cover_95_percent_and_the_next_would_not() -> None:
    assert [interval_rank(count) for count in (5, 6, 8, 9, 20, 100)] == [None, 1, 1, 2, 6, 40]
    for count in (6, 11, 50, 333):
        rank = interval_rank(count)
        assert rank is not None

        def tail(k: int, count: int = count) -> float:
            return 2 * sum(math.comb(count, i) for i in range(k)) / 2**count

        assert tail(rank) <= 0.05 < tail(rank + 1)


@pytest.mark.parametrize(("rho", "low", "high"), [(0.0, 1.0, 1.3), (0.5, 1.7, 2.6), (0.9, 9.0, 17.0)])
def test_autocorrelation_time_is_that_of_the_sign(rho: float, low: float, high: float) -> None:
    # For a Gaussian AR(1) the sign's correlation at lag k is 2/pi asin(rho^k): times 1, 2.09 and 12.3.
    rng = random.Random(11)
    found = sum(autocorrelation_time(ar1(rng, 4000, rho)) for _ in range(20)) / 20
    assert low <= found <= high


def test_autocorrelation_time_of_constant_and_few_values_is_one() -> None:
    assert autocorrelation_time([5.0] * 100) == 1.0
    assert autocorrelation_time([1.0, 2.0]) == 1.0


def test_too_few_values_have_no_interval() -> None:
    found = median_interval([3.0, 1.0, 2.0])
    assert (found.median, found.low, found.high, found.relative_half_width) == (2.0, None, None, None)
    with pytest.raises(ValueError, match="no values"):
        median_interval([])


def test_the_interval_contains_the_median_and_its_width_is_relative() -> None:
    rng = random.Random(9)
    found = median_interval([100 + rng.gauss(0, 1) for _ in range(500)])
    assert found.low is not None
    assert found.high is not None
    assert found.low <= found.median <= found.high
    assert found.relative_half_width == pytest.approx((found.high - found.low) / 2 / found.median)
    assert found.block_runs % 2 == 1


def test_interpolated_ranks_lie_between_the_levels_of_order_statistics() -> None:
    for count in (6, 7, 20, 101, 200):
        place = interpolated_rank(count, 0.95)
        assert place is not None
        rank, share = place
        assert rank == interval_rank(count)
        assert 0 <= share < 1
    # Six values: the extremes cover 96.875 %, the next pair 78.125 %; Hettmansperger and Sheather's formula by hand.
    part = (0.96875 - 0.95) / (0.96875 - 0.78125)
    assert interpolated_rank(6, 0.95) == (1, pytest.approx(5 * part / (1 + 4 * part)))
    assert interpolated_rank(5, 0.95) is None


def test_interpolated_intervals_cover_the_median_of_skewed_values() -> None:
    rng = random.Random(12)
    for count in (6, 9, 30):
        place = interpolated_rank(count, 0.95)
        assert place is not None
        rank, share = place
        covered = 0
        for _ in range(4000):
            values = sorted(rng.expovariate(math.log(2)) for _ in range(count))
            low = values[rank - 1] + share * (values[rank] - values[rank - 1])
            high = values[-rank] + share * (values[-rank - 1] - values[-rank])
            covered += low <= 1.0 <= high
        assert covered / 4000 == pytest.approx(0.95, abs=0.012)


def test_a_wider_normal_interval_has_the_confidence_of_the_tables() -> None:
    assert normal_quantile(0.95) == pytest.approx(1.959964, abs=1e-5)
    assert normal_quantile(0.99) == pytest.approx(2.575829, abs=1e-5)
    assert widened(0.95, 1.0) == pytest.approx(0.95)
    assert widened(0.95, 2.575829 / 1.959964) == pytest.approx(0.99)


def test_correlated_values_widen_an_interval_that_was_to_be_of_independent_ones() -> None:
    rng = random.Random(13)
    values = ar1(rng, 60, 0.8)
    mixed = list(values)
    rng.shuffle(mixed)
    assert autocorrelation_time(mixed) < autocorrelation_time(values)
    one, other = median_interval(values, assume_independent=True), median_interval(mixed, assume_independent=True)
    assert one.low is not None
    assert one.high is not None
    assert other.low is not None
    assert other.high is not None
    assert one.high - one.low > 1.3 * (other.high - other.low)
    assert one.times < other.times


def test_the_cautious_width_is_no_narrower_than_the_interval() -> None:
    rng = random.Random(14)
    for count in (40, 200, 2000):
        found = median_interval([rng.gauss(100, 5) for _ in range(count)])
        assert found.low is not None
        assert found.high is not None
        assert found.cautious_half_width is not None
        assert found.cautious_half_width >= (found.high - found.low) / 2


def test_marks_are_void_for_runs_longer_than_a_time_slice() -> None:
    def made(latency_ns: int, disturbed: int) -> list[Run]:
        return [
            Run(artifact=0, kind=RunKind.TIMED, turn=0, start_ns=i, latency_ns=latency_ns, disturbed=i < disturbed)
            for i in range(100)
        ]

    short, long = TIME_SLICE_NS // 2, TIME_SLICE_NS * 2
    assert not marks_are_void(made(short, 90))
    assert marks_are_void(made(long, 10))
    assert marks_are_void(made(long, 100))
    assert not marks_are_void([])
    # Preempted, a short run takes long; what the undisturbed ones take says how long a run is.
    beside = [replace(run, latency_ns=long if run.disturbed else short) for run in made(short, 70)]
    assert not marks_are_void(beside)
    assert len(steadiest(beside)) == 30
    assert len(steadiest([replace(run, latency_ns=long) for run in beside])) == 100


def test_constant_latencies_have_an_interval_of_no_width() -> None:
    assert median_interval([7.0] * 60).relative_half_width == 0.0


def paired_runs(
    rng: random.Random, ratio: float, blocks: int, *, drift: float = 0.0, noise: float = 0.02, turn_runs: int = 5
) -> Iterator[Run]:
    """Two artifacts in balanced turns under a drift that both share."""
    time_ns, turn = 0, 0
    turns = order.blocks(2)
    common = ar1(rng, blocks * 4 * turn_runs, 0.98)
    number = 0
    for _ in range(blocks):
        for artifact in next(turns):
            for place in range(turn_runs):
                trend = math.exp(0.1 * common[number] + drift * number / len(common))
                latency = 1e6 * (ratio if artifact else 1.0) * trend * math.exp(noise * rng.gauss(0, 1))
                kind = RunKind.SETTLING if place == 0 else RunKind.TIMED
                yield Run(
                    artifact=artifact,
                    kind=kind,
                    turn=turn,
                    start_ns=time_ns,
                    latency_ns=round(latency),
                    disturbed=False,
                )
                time_ns += round(latency)
                number += 1
            turn += 1


def measurement(runs: tuple[Run, ...]) -> Measurement:
    result = MeasureResult(
        runtime="none", runtime_version="0", threads=1, artifacts=(), device_time_ns=1, steal_fraction=None
    )
    request = MeasureRequest(artifacts=("a" * 64, "b" * 64))
    return Measurement(request=request, result=result, runs=runs, readings=())


def test_pairing_beats_the_ratio_of_medians_under_drift() -> None:
    rng = random.Random(8)
    runs = tuple(paired_runs(rng, 0.8, 30, drift=0.3))
    found = paired_ratio(measurement(runs))
    assert found.blocks == 30
    assert found.ratio == pytest.approx(0.8, rel=0.01)
    assert found.low is not None
    assert found.high is not None
    assert (found.high - found.low) / found.ratio < 0.02
    alone = median_interval([float(run.latency_ns) for run in runs if run.artifact == 0])
    assert alone.relative_half_width is None or alone.relative_half_width > 0.02


def test_swapping_the_artifacts_inverts_the_ratio() -> None:
    runs = tuple(paired_runs(random.Random(4), 0.5, 20))
    there, back = paired_ratio_of(runs, 0, 1), paired_ratio_of(runs, 1, 0)
    assert there.ratio == pytest.approx(1 / back.ratio)
    assert there.low is not None
    assert back.high is not None
    assert there.low == pytest.approx(1 / back.high)


def test_disturbed_runs_do_not_move_the_ratio_where_others_are_enough() -> None:
    def disturb(run: Run) -> Run:
        # The candidate is hit in every third of its turns, for the whole turn, and is then ten times slower.
        hit = run.artifact == 1 and (run.turn // 2) % 3 == 0
        return Run(
            artifact=run.artifact,
            kind=run.kind,
            turn=run.turn,
            start_ns=run.start_ns,
            latency_ns=run.latency_ns * (10 if hit else 1),
            disturbed=hit,
        )

    runs = tuple(disturb(run) for run in paired_runs(random.Random(6), 0.8, 60))
    assert paired_ratio_of(runs).ratio == pytest.approx(0.8, rel=0.02)


def test_a_neighbour_that_hits_the_longer_artifact_more_often_does_not_move_the_ratio() -> None:
    rng = random.Random(3)

    def disturb(run: Run) -> Run:
        hit = rng.random() < (0.75 if run.artifact == 0 else 0.6)
        latency_ns = round(run.latency_ns * (rng.uniform(1.1, 3.0) if hit else 1))
        return replace(run, latency_ns=latency_ns, disturbed=hit)

    runs = tuple(disturb(run) for run in paired_runs(random.Random(6), 0.6, 100))
    assert paired_ratio_of(runs).ratio == pytest.approx(0.6, rel=0.01)


def test_where_nearly_all_runs_are_disturbed_the_fastest_of_a_block_count() -> None:
    rng = random.Random(4)

    def preempt(run: Run) -> Run:
        """Add two time slices of a neighbour's, more often to the longer artifact."""
        hit = rng.random() < (0.75 if run.artifact == 0 else 0.5)
        return replace(run, latency_ns=round(run.latency_ns * (3 if hit else 1)), disturbed=True)

    runs = tuple(preempt(run) for run in paired_runs(random.Random(6), 0.6, 100))
    assert paired_ratio_of(runs).ratio == pytest.approx(0.6, rel=0.05)  # medians say 0.41


def test_a_block_that_only_one_artifact_finished_is_left_out() -> None:
    runs = tuple(paired_runs(random.Random(1), 0.8, 7))
    cut = runs[: -len(runs) // 7 + 5]
    assert len(block_log_ratios(runs, 0, 1)) == 7
    assert len(block_log_ratios(cut, 0, 1)) == 6


def test_a_ratio_without_common_blocks_is_refused() -> None:
    with pytest.raises(ValueError, match="no block in common"):
        paired_ratio_of(())


def test_undisturbed_statistics_need_thirty_runs_and_a_fifth() -> None:
    assert enough_undisturbed(30, 150)
    assert not enough_undisturbed(29, 60)
    assert not enough_undisturbed(30, 151)
    runs = [
        Run(artifact=0, kind=RunKind.TIMED, turn=0, start_ns=i, latency_ns=1 + (i % 2), disturbed=bool(i % 2))
        for i in range(100)
    ]
    assert steadiest(runs) == [1] * 50
    assert len(steadiest(runs[:40])) == 40


def test_steal_is_a_share_of_one_core() -> None:
    assert steal_fraction(100, 150, 2_000_000_000, 100) == pytest.approx(0.25)
    assert steal_fraction(100, 90, 2_000_000_000, 100) == 0.0, "the counter may go backwards after a migration"
    assert steal_fraction(0, 1, 0, 100) is None
