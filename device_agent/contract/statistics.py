"""Statistics of latencies, to definitions that a reader can check. Standard library only; times in nanoseconds.

Runs of one process are autocorrelated, so intervals are over medians of blocks, long enough to be nearly independent.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from device_agent.contract.measurement import Measurement, Run, RunKind

#: Blocks are at least this many autocorrelation times long. Found by simulation: see tests/device_agent/test_statistics.py.
BLOCK_TIMES = 5.0
#: More blocks than this only make them short.
MOST_BLOCKS = 100
#: With fewer blocks the autocorrelation cannot be estimated well enough to trust their length.
FEWEST_BLOCKS = 8
#: With five independent values no order-statistics interval reaches 95 %.
FEWEST_INDEPENDENT = 6
#: Statistics of undisturbed runs need this many of them, and this share of all.
FEWEST_UNDISTURBED = 30
UNDISTURBED_SHARE = 0.2


def median(values: Iterable[float]) -> float:
    """Return the median; ValueError for no values.

    The standard library's brings fractions, decimal and random, which cost an agent 0.7 MiB.
    """
    ordered = sorted(values)
    if not ordered:
        raise ValueError("the median of no values is not defined")
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the percentile by linear interpolation between order statistics (type 7 of Hyndman and Fan 1996, numpy's default).

    ValueError for no values or a percentage outside 0..100.
    """
    if not values or not 0 <= percent <= 100:
        raise ValueError(f"percentile {percent} of {len(values)} values is not defined")
    ordered = sorted(values)
    position = (len(ordered) - 1) * percent / 100
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


@dataclass(frozen=True, slots=True, kw_only=True)
class MedianInterval:
    """A median and an interval that covers the true one with at least 95 % probability.

    `low` and `high` are None where there are too few values for the autocorrelation they have.
    """

    median: float
    low: float | None
    high: float | None
    blocks: int
    block_runs: int

    @property
    def relative_half_width(self) -> float | None:
        """Half the interval's width over the median; None without an interval or at a median of zero."""
        if self.low is None or self.high is None or not self.median:
            return None
        return (self.high - self.low) / 2 / abs(self.median)


def autocorrelation_time(values: Sequence[float]) -> float:
    """Return the integrated autocorrelation time of `value > median`, in values: 1 for independent ones.

    That indicator's correlation is what governs a sample median.
    """
    return exceedance_time(values, median(values)) if len(values) >= 4 else 1.0


def exceedance_time(values: Sequence[float], threshold: float) -> float:
    """Return the integrated autocorrelation time of `value > threshold`, in values: how many of them count as one.

    The sum ends by Geyer's initial positive sequence (1992). Lags are counted on the bits of one integer, so a hundred thousand
    values take milliseconds.
    """
    count = len(values)
    if count < 4:
        return 1.0
    bits = int("".join("1" if value > threshold else "0" for value in values), 2)
    share = bits.bit_count() / count
    variance = share * (1 - share)
    if variance == 0:
        return 1.0

    def correlation(lag: int) -> float:
        return ((bits & (bits >> lag)).bit_count() / (count - lag) - share * share) / variance

    total = 1.0
    for lag in range(1, count // 2 - 1, 2):
        pair = correlation(lag) + correlation(lag + 1)
        if pair <= 0:
            break
        total += 2 * pair
    return total


@lru_cache(maxsize=256)
def interval_rank(count: int, confidence: float = 0.95) -> int | None:
    """Return the largest k such that the k-th smallest and k-th largest of `count` independent values cover the median.

    Coverage is 1 - 2 P(Binomial(count, 1/2) < k), at least `confidence`. None if even k = 1 falls short.
    """
    tail = 0.0
    rank = None
    for k in range(1, count // 2 + 1):
        tail += math.comb(count, k - 1) * 0.5**count
        if 1 - 2 * tail < confidence:
            break
        rank = k
    return rank


def median_interval(
    values: Sequence[float], *, confidence: float = 0.95, assume_independent: bool = False
) -> MedianInterval:
    """Return the median and its interval over medians of blocks as long as the autocorrelation asks.

    With `assume_independent` single values are blocks, unless their lag-1 correlation is over two standard errors. That suits
    few values which are independent by design; plain latencies are not. ValueError for no values. Values that do not fill
    a block are in the median and not in the interval.
    """
    if not values:
        raise ValueError("the median of no values is not defined")
    middle = float(median(values))
    independent = assume_independent and not _correlated(values)
    wanted = 1.0 if independent else BLOCK_TIMES * autocorrelation_time(values)
    length = (
        math.ceil(max(wanted, len(values) / MOST_BLOCKS)) | 1
    )  # odd: then a block's median is unbiased for the median
    blocks = [float(median(values[i : i + length])) for i in range(0, len(values) - length + 1, length)]
    fewest = FEWEST_INDEPENDENT if independent else FEWEST_BLOCKS
    rank = interval_rank(len(blocks), confidence) if len(blocks) >= fewest else None
    if rank is None:
        return MedianInterval(median=middle, low=None, high=None, blocks=len(blocks), block_runs=length)
    blocks.sort()
    return MedianInterval(
        median=middle,
        low=min(blocks[rank - 1], middle),
        high=max(blocks[-rank], middle),
        blocks=len(blocks),
        block_runs=length,
    )


def _correlated(values: Sequence[float]) -> bool:
    """Say whether neighbours lie on the same side of the median more often than two standard errors allow."""
    middle = median(values)
    sides = [1 if value > middle else -1 for value in values]
    agreement = sum(one * other for one, other in itertools.pairwise(sides)) / len(values)
    return agreement > 2 / math.sqrt(len(values))


def enough_undisturbed(undisturbed: int, total: int) -> bool:
    """Say whether statistics over the undisturbed runs may be given: 30 such runs and 20 % of all."""
    return undisturbed >= FEWEST_UNDISTURBED and undisturbed >= UNDISTURBED_SHARE * total


def steadiest(runs: Sequence[Run]) -> list[int]:
    """Return the latencies to judge precision on: those of undisturbed runs where there are enough, else all."""
    clean = [run.latency_ns for run in runs if not run.disturbed]
    return clean if enough_undisturbed(len(clean), len(runs)) else [run.latency_ns for run in runs]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedRatio:
    """Latency of the candidate over that of the baseline, with its interval at `confidence` (None: too few blocks)."""

    ratio: float
    low: float | None
    high: float | None
    blocks: int
    confidence: float = 0.95


def paired_ratio(
    measurement: Measurement, baseline: int = 0, candidate: int = 1, *, confidence: float = 0.95
) -> PairedRatio:
    """Return the median over blocks of log(median candidate / median baseline), exponentiated, with its interval.

    Drift, heat and neighbours hit both artifacts of a block alike and cancel. ValueError if an artifact has no timed runs.
    """
    return paired_ratio_of(measurement.runs, baseline, candidate, confidence=confidence)


def paired_ratio_of(
    runs: Sequence[Run], baseline: int = 0, candidate: int = 1, *, confidence: float = 0.95
) -> PairedRatio:
    """Like `paired_ratio`, on bare runs. A block holds two turns of each artifact, the second in mirrored order.

    Undisturbed runs are used where at least half of a block's runs on each side, in 20 % of blocks and at least ten, are.
    """
    ratios = block_log_ratios(runs, baseline, candidate)
    if not ratios:
        raise ValueError(f"artifacts {baseline} and {candidate} have no block in common; ask for more runs")
    found = median_interval(ratios, confidence=confidence, assume_independent=True)
    return PairedRatio(
        ratio=math.exp(found.median),
        low=None if found.low is None else math.exp(found.low),
        high=None if found.high is None else math.exp(found.high),
        blocks=len(ratios),
        confidence=confidence,
    )


def block_log_ratios(runs: Sequence[Run], baseline: int, candidate: int) -> list[float]:
    """Return the log-ratio of every block that both artifacts finished, in order."""
    one, other = _blocks(runs, baseline), _blocks(runs, candidate)
    every: list[float] = []
    clean: list[float] = []
    for base_runs, candidate_runs in zip(one, other, strict=False):
        every.append(_log_ratio(base_runs, candidate_runs))
        base_clean = [run for run in base_runs if not run.disturbed]
        candidate_clean = [run for run in candidate_runs if not run.disturbed]
        if 2 * len(base_clean) >= len(base_runs) and 2 * len(candidate_clean) >= len(candidate_runs):
            clean.append(_log_ratio(base_clean, candidate_clean))
    return clean if len(clean) >= max(10, UNDISTURBED_SHARE * len(every)) else every


def _blocks(runs: Sequence[Run], artifact: int) -> list[list[Run]]:
    """Return an artifact's timed runs by pairs of its turns; a last single turn is left out."""
    turns: dict[int, list[Run]] = {}
    for run in runs:
        if run.artifact == artifact and run.kind is RunKind.TIMED:
            turns.setdefault(run.turn, []).append(run)
    ordered = [turns[turn] for turn in sorted(turns)]
    return [first + second for first, second in zip(ordered[::2], ordered[1::2], strict=False)]


def _log_ratio(baseline: Sequence[Run], candidate: Sequence[Run]) -> float:
    return math.log(median(run.latency_ns for run in candidate) / median(run.latency_ns for run in baseline))


def steal_fraction(before_ticks: int, after_ticks: int, elapsed_ns: int, ticks_per_s: int) -> float | None:
    """Return the hypervisor's steal time over the interval as a share of one core's time; None for no elapsed time."""
    if elapsed_ns <= 0 or ticks_per_s <= 0:
        return None
    return max(0, after_ticks - before_ticks) / ticks_per_s / (elapsed_ns / 1e9)
