"""Statistics of latencies, to definitions that a reader can check. Standard library only; times in nanoseconds.

Runs of one process are autocorrelated, so intervals are over medians of blocks, long enough to be nearly independent. How often
the intervals cover the truth is counted in benchmarks/verdicts.py and held in tests/device_agent/test_coverage.py; the constants
come from there. docs/measuring.md explains them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

#: A block's length in autocorrelation times: BLOCK_TIMES where that leaves WANTED_BLOCKS, else less, down to the shortest.
BLOCK_TIMES = 4.0
SHORTEST_BLOCK_TIMES = 2.0
WANTED_BLOCKS = 16
#: More blocks than this only make them short.
MOST_BLOCKS = 200
#: With fewer blocks the autocorrelation cannot be estimated well enough to trust their length.
FEWEST_BLOCKS = 8
#: An autocorrelation time estimated from n values is too short by some multiple of time/n; the interval is widened by as much.
TIME_BIAS = 3.0
#: A stopping rule looks again and again and would stop at a chance narrowness. The width that it goes by is wider by this many
#: times sqrt(time/n), the order of that width's own uncertainty.
LOOK_PENALTY = 2.5
#: What is left of that chance narrowness with few independent values: their interval is wider by this share with up to so many,
#: and with more by less in proportion.
LOOKED_SHARE = 0.04
LOOKED_VALUES = 20


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
    """A median and an interval that covers the true one at the confidence that was asked for.

    `low`, `high` and `cautious_half_width` are None where there are too few values for the autocorrelation they have. The
    cautious half-width is for rules that look more than once: at least half the interval, and steadier from look to look.
    `times` is the number of values over their autocorrelation time, about as many independent values as they are worth.
    """

    median: float
    low: float | None
    high: float | None
    blocks: int
    block_runs: int
    times: float
    cautious_half_width: float | None = None

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


@lru_cache(maxsize=1024)
def interpolated_rank(count: int, confidence: float) -> tuple[int, float] | None:
    """Return (k, share): the interval from the k-th smallest value, moved by `share` towards the next, has just `confidence`.

    The upper end mirrors it. Order statistics alone have a few levels only, for six values 96.9 % and then 78.1 %; values in
    between are interpolated as by Hettmansperger and Sheather (1986), nearly exact whatever the distribution. None if even the
    extremes fall short.
    """
    outer, term, tail = 1.0, 0.5**count, 0.0
    for k in range(1, count // 2 + 1):
        tail += term
        covered = 1 - 2 * tail
        if covered < confidence:
            if k == 1:
                return None
            part = (outer - confidence) / (outer - covered)
            rank = k - 1
            return rank, (count - rank) * part / (rank + (count - 2 * rank) * part)
        outer = covered
        term *= (count - k + 1) / k
    return count // 2, 0.0


@lru_cache(maxsize=1024)
def widened(confidence: float, factor: float) -> float:
    """Return the confidence of a normal interval `factor` times as wide as that of `confidence`."""
    return min(math.erf(normal_quantile(confidence) * factor / math.sqrt(2)), 1 - 1e-12)


def median_interval(
    values: Sequence[float], *, confidence: float = 0.95, assume_independent: bool = False
) -> MedianInterval:
    """Return the median and its interval over medians of blocks as long as the autocorrelation asks.

    With `assume_independent` single values are blocks. That suits values which are independent by design, as ratios of balanced
    blocks are; should neighbours agree all the same, the interval is widened by what that costs. Plain latencies are not
    independent. Values that do not fill a block are in the median and not in the interval. ValueError for none.
    """
    if not values:
        raise ValueError("the median of no values is not defined")
    count = len(values)
    middle = float(median(values))
    if assume_independent:
        length, fewest, time = 1, 1, _remaining_time(values)
        factor = math.sqrt(time) * (1 + LOOKED_SHARE * min(1.0, LOOKED_VALUES / count))
    else:
        time = autocorrelation_time(values)
        wanted = min(BLOCK_TIMES * time, max(SHORTEST_BLOCK_TIMES * time, count / WANTED_BLOCKS))
        # Odd: then a block's median is unbiased for the median.
        length = max(2 * math.floor(wanted / 2) + 1, math.ceil(count / MOST_BLOCKS) | 1)
        factor = math.sqrt(1 + 2 * _neighbours(time, length)) * (1 + TIME_BIAS * time / count)
        fewest = FEWEST_BLOCKS
    blocks = sorted(float(median(values[i : i + length])) for i in range(0, count - length + 1, length))
    place = None
    if len(blocks) >= fewest:
        # Rounded, so that the ranks of equal counts are found once.
        level = confidence if factor == 1 else widened(confidence, math.ceil(factor * 200) / 200)
        place = interpolated_rank(len(blocks), level)
    if place is None:
        return MedianInterval(
            median=middle, low=None, high=None, blocks=len(blocks), block_runs=length, times=count / time
        )
    rank, share = place
    low, high = blocks[rank - 1], blocks[-rank]
    if share:
        low, high = low + share * (blocks[rank] - low), high + share * (blocks[-rank - 1] - high)
    low, high = min(low, middle), max(high, middle)
    normal = factor * _normal_half_width(blocks, confidence)
    return MedianInterval(
        median=middle,
        low=low,
        high=high,
        blocks=len(blocks),
        block_runs=length,
        times=count / time,
        cautious_half_width=max((high - low) / 2, normal * (1 + LOOK_PENALTY * math.sqrt(time / count))),
    )


def _normal_half_width(blocks: Sequence[float], confidence: float) -> float:
    """Return what the half-width would be for normal blocks with the spread that these show between their 10 and 90 %.

    It varies from look to look by half as much as the distance of two order statistics near the middle.
    """
    deviation = (percentile(blocks, 90) - percentile(blocks, 10)) / 2.563
    return normal_quantile(confidence) * math.sqrt(math.pi / 2 / len(blocks)) * deviation


@lru_cache(maxsize=64)
def normal_quantile(confidence: float) -> float:
    """Return z such that a standard normal value lies within -z..z with probability `confidence`."""
    low, high = 0.0, 8.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if math.erf(middle) < confidence else (low, middle)
    return low * math.sqrt(2)


def _neighbours(time: float, length: int) -> float:
    """Return the correlation of neighbouring blocks' means of an AR(1) series with this autocorrelation time."""
    if time <= 1:
        return 0.0
    rho = (time - 1) / (time + 1)
    fade = 1 - rho**length
    return rho * fade * fade / (length * (1 - rho * rho) - 2 * rho * fade)


def _remaining_time(values: Sequence[float]) -> float:
    """Return the autocorrelation time of values that ought to be independent: 1 unless neighbours agree more than by chance.

    That is one standard error, or two with under twelve values, which hold no better estimate.
    """
    middle = median(values)
    sides = [1 if value > middle else -1 for value in values]
    agreement = sum(one * other for one, other in itertools.pairwise(sides)) / len(values)
    if agreement <= (1 if len(values) >= 12 else 2) / math.sqrt(len(values)):
        return 1.0
    kept = min(agreement, 0.9)
    return max((1 + kept) / (1 - kept), autocorrelation_time(values))


def steal_fraction(before_ticks: int, after_ticks: int, elapsed_ns: int, ticks_per_s: int) -> float | None:
    """Return the hypervisor's steal time over the interval as a share of one core's time; None for no elapsed time."""
    if elapsed_ns <= 0 or ticks_per_s <= 0:
        return None
    return max(0, after_ticks - before_ticks) / ticks_per_s / (elapsed_ns / 1e9)
