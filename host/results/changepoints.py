"""Level shifts in a series of measurements of one thing: when did it become slower, and by how much. Pure functions.

The method is optimal partitioning with a loss that is bounded, so that a lone outlier makes no segment (Fearnhead and Rigaill,
"Changepoint Detection in the Presence of Outliers", JASA 114, 2019): of all ways to cut the series into segments of constant
level it returns the one with the least sum of losses plus PENALTY for each cut. It is exact for levels on a grid of a tenth of
the noise. The noise of the series is learned from it: from differences of neighbours, which a few shifts do not move, then from
what the segments leave over. `python -m benchmarks.changepoints` counts false alarms and misses; the constants come from there.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from host.results.compare import student_quantile

Array = NDArray[np.float64]

#: Loss of a point is bounded by that of so many standard deviations: what is farther away tells no more.
OUTLIER = 3.0
#: What a cut must save, in squared standard deviations. Above OUTLIER squared, so that one point alone is never a new level.
PENALTY = 10.8
#: A short series knows its own noise badly: the penalty rises by this many squared deviations over the number of points.
SHORT = 15.0
#: No board repeats a measurement better than this (as a logarithm), and nobody cares for smaller shifts.
SMALLEST_NOISE = 0.001
#: With fewer points there is no noise to be told from a shift.
FEWEST = 6
#: A shift that begins among so many last points is recent; with fewer points in all than the second number none is an alarm.
RECENT, FEWEST_FOR_ALARM = 3, 12
_STEP = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A stretch of constant level: points `start` to `end`, the latter excluded. `level` is of the logarithms' inliers."""

    start: int
    end: int
    level: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """A new level from point `at` on. `change` is relative (0.02: 2 % more), `low` and `high` its 95 % interval."""

    at: int
    change: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """What a series did. `noise` is the standard deviation from point to point, as a share; None for too few points.

    `outliers` are points beyond OUTLIER deviations of their segment. If the last point is one, a shift may have begun with it:
    only another measurement can tell.
    """

    segments: tuple[Segment, ...]
    shifts: tuple[Shift, ...]
    outliers: tuple[int, ...]
    noise: float | None


def course_of(values: Sequence[float], variances: Sequence[float] | None = None) -> Course:
    """Return the segments and shifts of positive values in the order of time.

    `variances` are those of the values' logarithms as far as each measurement knows its own; a value that knows itself badly
    counts less. ValueError for values that are not positive, or another number of variances.
    """
    if any(not value > 0 for value in values):
        raise ValueError("a series of values that are not positive has no relative shifts")
    if variances is not None and len(variances) != len(values):
        raise ValueError(f"{len(variances)} variances for {len(values)} values")
    if len(values) < FEWEST:
        whole = float(np.median(np.log(values))) if len(values) else 0.0
        whole_segment = (Segment(start=0, end=len(values), level=whole),) if len(values) else ()
        return Course(segments=whole_segment, shifts=(), outliers=(), noise=None)
    series = np.log(np.asarray(values, dtype=float))
    own = np.zeros(len(series)) if variances is None else np.asarray(variances, dtype=float)
    noise = _noise_of_differences(series)
    for _ in range(2):
        deviations = _deviations(noise, own)
        cuts = _partition(series, deviations)
        noise = _noise_of_rest(series, deviations, cuts, noise)
    # Levels and intervals by the noise that the segments left over; a cut is one by the noise that it was found with.
    deviations = _deviations(noise, own)
    segments = tuple(_segment(series, deviations, start, end) for start, end in itertools.pairwise(cuts))
    outliers = [
        place
        for segment in segments
        for place in range(segment.start, segment.end)
        if abs(series[place] - segment.level) > OUTLIER * deviations[place]
    ]
    wide = student_quantile(0.95, max(1, len(series) - len(outliers) - len(segments)))
    shifts = tuple(_shift(before, after, deviations, wide) for before, after in itertools.pairwise(segments))
    return Course(segments=segments, shifts=shifts, outliers=tuple(outliers), noise=noise)


def recent_rise(course: Course, *, recent: int = RECENT) -> Shift | None:
    """Return the last shift if it is upwards and began among the last `recent` points; None otherwise, and in a short series."""
    if not course.shifts or course.segments[-1].end < FEWEST_FOR_ALARM:
        return None
    last = course.shifts[-1]
    return last if last.change > 0 and last.at >= course.segments[-1].end - recent else None


def _noise_of_differences(series: Array) -> float:
    """Return the deviation from the median size of differences between neighbours."""
    size = float(np.median(np.abs(np.diff(series))))
    return max(size / (0.6745 * math.sqrt(2)), SMALLEST_NOISE)


def _deviations(noise: float, own: Array) -> Array:
    """Return each point's deviation: that from run to run, and what it knows of itself in excess of the usual."""
    between = max(noise * noise - float(np.median(own)), (SMALLEST_NOISE / 2) ** 2)
    return np.asarray(np.sqrt(np.maximum(between + own, SMALLEST_NOISE**2)))


def _noise_of_rest(series: Array, deviations: Array, cuts: Sequence[int], before: float) -> float:
    """Return the deviation of the points around their segments' levels, outliers bounded; at least that of a short series."""
    total, count = 0.0, 0
    for start, end in itertools.pairwise(cuts):
        level = _level(series[start:end], deviations[start:end])
        rest = np.abs(series[start:end] - level)
        total += float(np.sum(np.minimum(rest, OUTLIER * deviations[start:end]) ** 2))
        count += end - start - 1
    return max(math.sqrt(total / count), SMALLEST_NOISE) if count >= FEWEST - 2 else before


def _partition(series: Array, deviations: Array) -> list[int]:
    """Return the places of the cuts, 0 and the length included, of least loss plus penalties."""
    count = len(series)
    penalty = PENALTY + SHORT / count
    step = _STEP * float(np.min(deviations))
    near = np.arange(-math.ceil(OUTLIER / _STEP), math.ceil(OUTLIER / _STEP) + 1)
    levels = np.unique((np.round(series / step)[:, None] + near[None]).ravel()) * step
    loss = np.zeros(len(levels))
    began = np.zeros(len(levels), dtype=np.int64)
    best = np.empty(count + 1)
    best[0] = -penalty
    last = np.zeros(count + 1, dtype=np.int64)
    for place in range(count):
        fresh = best[place] + penalty
        better = loss > fresh if place else np.ones(len(levels), dtype=bool)
        loss[better], began[better] = fresh, place
        loss += np.minimum(((series[place] - levels) / deviations[place]) ** 2, OUTLIER**2)
        lowest = int(np.argmin(loss))
        best[place + 1], last[place + 1] = loss[lowest], began[lowest]
    cuts = [count]
    while cuts[-1]:
        cuts.append(int(last[cuts[-1]]))
    return cuts[::-1]


def _level(values: Array, deviations: Array) -> float:
    """Return the weighted mean of the values within OUTLIER deviations of the median."""
    middle = float(np.median(values))
    weights = np.where(np.abs(values - middle) <= OUTLIER * deviations, deviations**-2, 0.0)
    total = float(weights.sum())
    return float((values * weights).sum() / total) if total else middle


def _segment(series: Array, deviations: Array, start: int, end: int) -> Segment:
    return Segment(start=start, end=end, level=_level(series[start:end], deviations[start:end]))


def _shift(before: Segment, after: Segment, deviations: Array, wide: float) -> Shift:
    variance = sum(1 / float(np.sum(deviations[one.start : one.end] ** -2)) for one in (before, after))
    half, change = wide * math.sqrt(variance), after.level - before.level
    return Shift(
        at=after.start, change=math.expm1(change), low=math.expm1(change - half), high=math.expm1(change + half)
    )
