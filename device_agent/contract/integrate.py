"""Energy in a window of time, from samples of power or readings of a counter, with a 95 % uncertainty. Standard library only.

Times are seconds on any one clock, in rising order; values are watts or joules. What the sensor itself gets wrong (its gain,
what its rail leaves out) is in no uncertainty here: only the vendor's data sheet knows it.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from device_agent.contract.statistics import median, percentile

#: A window with fewer new values of the sensor gives no figure.
FEWEST_UPDATES = 5
#: A distance between samples of so many usual ones counts as a gap.
GAP_SPACINGS = 3.0
#: With more of the window than this in gaps, what was measured is a guess.
MOST_GAPS = 0.5
#: For so long after a step of the load the board's capacitors may still hide it from the sensor.
STEP_S = 0.01
_NORMAL_95 = 1.96


class NoFigure(ValueError):
    """Samples that allow no energy; the message says what they lack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Integral:
    """Energy in a window. `uncertainty_j` is half of the 95 % interval; `samples` are readings inside, `updates` new values."""

    energy_j: float
    uncertainty_j: float
    duration_s: float
    samples: int
    updates: int

    @property
    def power_w(self) -> float:
        """Mean power over the window."""
        return self.energy_j / self.duration_s

    @property
    def power_uncertainty_w(self) -> float:
        """The 95 % uncertainty of the mean power."""
        return self.uncertainty_j / self.duration_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Readings of one channel, or the sum of several that were read together. Times in seconds; `Channel` explains the others.

    `stamped` values were made when their times say, so that each is new even if it repeats the one before.
    """

    times_s: Sequence[float]
    values: Sequence[float]
    interval_s: float | None = None
    resolution: float | None = None
    stamped: bool = False


def power_integral(series: Series, start_s: float, end_s: float, *, fewest: int = FEWEST_UPDATES) -> Integral:
    """Return the energy of a power channel in a window, by trapezoids between samples. NoFigure where there are too few.

    Power steps where a load begins and ends, so a value from outside says nothing of the inside: from the window's edge to the
    first value inside, and from the last one to the other edge, that value is held. One that is renewed every `interval_s` is up
    to that old when it is read: it counts if it must have been made inside, at the middle of when it may have been.

    The uncertainty is the root of a sum of squares, each term at 95 %:
    - sampling: t * s * sqrt(sum of squared weights), weights being the seconds that each sample counts for. s^2 is half the mean
      squared difference of neighbouring updates (von Neumann 1941): noise and load that change from sample to sample are in it,
      a drift that the samples follow isn't. t is Student's, for 2/3 of the differences, since those overlap. It presumes that
      samples don't keep time with the load: of a ripple whose period divides the sampling interval nothing here could tell.
    - gaps of more than three usual distances: the slow part of the standard deviation * (gap - 2 distances), summed as squares.
    - the step of the power at the beginning * STEP_S / 2, uniformly: how steep it was is not known. The end precedes its step.
    - resolution r: r / sqrt(12) * duration, fading as exp(-2 (pi s / r)^2) with the noise s, which makes quantised values average
      out (Widrow and Kollar, Quantization Noise, 2008).
    """
    age_s = series.interval_s or 0.0
    first, last = bisect_left(series.times_s, start_s + STEP_S + age_s), bisect_right(series.times_s, end_s)
    times, values = [time - age_s / 2 for time in series.times_s[first:last]], series.values[first:last]
    duration = end_s - start_s
    updates = _enough(times, values, series, duration, fewest)
    distances = [b - a for a, b in pairwise(times)]
    spacing = median(distances)
    gaps = _gaps((times[0] - start_s, *distances, end_s - times[-1]), spacing)
    _check_gaps(gaps, spacing, duration)

    energy = values[0] * (times[0] - start_s) + values[-1] * (end_s - times[-1])
    energy += sum(width * (one + two) / 2 for width, (one, two) in zip(distances, pairwise(values), strict=True))

    fresh = _fresh(values, updates)
    noise2 = sum((two - one) ** 2 for one, two in pairwise(fresh)) / (2 * max(1, len(fresh) - 1))
    squares = _squared_weights(times, start_s, end_s) * max(1, round(len(values) / updates))
    sampling = _student_95(2 * (len(fresh) - 1) / 3) * math.sqrt(noise2 * squares)
    mean = sum(values) / len(values)
    slow2 = max(0.0, sum((value - mean) ** 2 for value in values) / len(values) - noise2)
    before = bisect_left(series.times_s, start_s)
    others2 = slow2 * sum((gap - 2 * spacing) ** 2 for gap in gaps)
    others2 += (
        _step_squared(mean, series.values[max(0, before - 1) : before])
        + (_quantisation(series.resolution, noise2) * duration) ** 2
    )
    return Integral(
        energy_j=energy,
        uncertainty_j=math.hypot(sampling, _NORMAL_95 * math.sqrt(others2)),
        duration_s=duration,
        samples=len(times),
        updates=updates,
    )


def counter_integral(series: Series, start_s: float, end_s: float, *, fewest: int = FEWEST_UPDATES) -> Integral:
    """Return the energy of a cumulative counter in a window: a difference. NoFigure for too few readings, or if it went back.

    From a window's edge to the reading next to it inside, the mean power inside is taken, for the same reason as with samples.
    What happens between two readings is counted, so gaps cost nothing but at the edges.

    The uncertainty is the root of a sum of squares, each term at 95 %:
    - the edges: t * s * sqrt(sum of edge * max(edge, distance)), s being the standard deviation of the power between neighbours;
    - the step of the power at the beginning * STEP_S / 2, uniformly, as for samples;
    - the resolution r at both ends: r * sqrt(2 / 12), and the age of the value there: power * interval_s * sqrt(2 / 12).
    """
    first, last = bisect_left(series.times_s, start_s), bisect_right(series.times_s, end_s)
    times, values = series.times_s[first:last], series.values[first:last]
    duration = end_s - start_s
    updates = _enough(times, values, series, duration, fewest)
    if any(two < one for one, two in pairwise(values)):
        raise NoFigure("its counter went back while it was read, so it was set to zero or is broken; measure again")
    power = (values[-1] - values[0]) / (times[-1] - times[0])
    edges = (times[0] - start_s, end_s - times[-1])
    spacing = median(b - a for a, b in pairwise(times))
    _check_gaps(_gaps(edges, spacing), spacing, duration)

    rates = _rates(times, values)
    spread2 = sum((rate - power) ** 2 for rate in rates) / max(1, len(rates) - 1)
    at_edges = _student_95(len(rates) - 1) * math.sqrt(spread2 * sum(edge * max(edge, spacing) for edge in edges))
    before = slice(max(0, first - 2), first)
    others2 = _step_squared(power, _rates(series.times_s[before], series.values[before]))
    others2 += ((series.resolution or 0.0) ** 2 + (power * (series.interval_s or 0.0)) ** 2) * 2 / 12
    return Integral(
        energy_j=values[-1] - values[0] + power * sum(edges),
        uncertainty_j=math.hypot(at_edges, _NORMAL_95 * math.sqrt(others2)),
        duration_s=duration,
        samples=len(times),
        updates=updates,
    )


def _enough(times: Sequence[float], values: Sequence[float], series: Series, duration: float, fewest: int) -> int:
    """Return how many new values there are, or raise NoFigure where they are too few."""
    if not times:
        raise NoFigure(f"it could not be read once in {duration:.2g} s")
    updates = _updates(values, series, duration)
    if updates < fewest or len(times) < 2 or times[-1] <= times[0]:
        raise NoFigure(
            f"it gave {updates} new value{'s' * (updates != 1)} in {duration:.2g} s, and {fewest} are needed"
        )
    return updates


def _check_gaps(gaps: Sequence[float], spacing: float, duration: float) -> None:
    """Raise NoFigure if most of the window lies in gaps."""
    missing = sum(gap - spacing for gap in gaps)
    if missing > MOST_GAPS * duration:
        raise NoFigure(f"its readings leave out {missing:.2g} of {duration:.2g} s")


def _updates(values: Sequence[float], series: Series, duration: float) -> int:
    """Return how many new values the readings can hold.

    That is what the channel's interval allows. Where it is unknown, only a value that differs from the one before is new, unless
    nearly all lie within a few steps of the resolution, or none differs: a steady load on a coarse sensor repeats itself.
    """
    if series.stamped:
        return len(values)
    if series.interval_s:
        return min(len(values), max(1, math.floor(duration / series.interval_s + 1e-9)))
    changes = [abs(two - one) for one, two in pairwise(values) if one != two]
    step = series.resolution or 0.0
    if not changes or median(changes) < 1.5 * step or percentile(values, 90) - percentile(values, 10) < 5.5 * step:
        return len(values)
    return 1 + len(changes)


def _fresh(values: Sequence[float], updates: int) -> Sequence[float]:
    """Return one reading of each update, as well as repeated values tell them."""
    per_update = max(1, round(len(values) / updates))
    if per_update == 1:
        return values
    changed = [values[0], *(two for one, two in pairwise(values) if one != two)]
    return changed if 2 * len(changed) >= updates else values[::per_update]


def _squared_weights(times: Sequence[float], start_s: float, end_s: float) -> float:
    """Return the sum of the squares of what each sample counts for, in seconds squared."""
    total = 0.0
    left = times[0] - start_s
    for a, b in pairwise(times):
        half = (b - a) / 2
        total += (left + half) ** 2
        left = half
    return total + (left + end_s - times[-1]) ** 2


def _gaps(distances: Iterable[float], spacing: float) -> list[float]:
    return [distance for distance in distances if distance > GAP_SPACINGS * spacing]


def _rates(times: Sequence[float], values: Sequence[float]) -> list[float]:
    pairs = zip(pairwise(times), pairwise(values), strict=True)
    return [(two - one) / (b - a) for (a, b), (one, two) in pairs if b > a]


def _step_squared(inside_w: float, before_w: Sequence[float]) -> float:
    """Return the variance (J^2) that a step of unknown steepness brings, from the power just before the window."""
    return sum((inside_w - power) ** 2 for power in before_w) * (STEP_S / 2) ** 2 / 3


def _quantisation(resolution: float | None, noise2: float) -> float:
    """Return the standard uncertainty of a mean of quantised values; the quantisation's own part is taken out of the noise."""
    if not resolution:
        return 0.0
    dither2 = max(0.0, noise2 - resolution**2 / 12) / resolution**2
    return resolution / math.sqrt(12) * math.exp(-2 * math.pi**2 * min(dither2, 30.0))


def _student_95(freedom: float) -> float:
    """Return Student's 97.5 % quantile, to 3 % from two degrees of freedom on (Cornish and Fisher's series in 1/freedom)."""
    n = max(1.0, freedom)
    return _NORMAL_95 + 2.372 / n + 2.823 / n**2 + 2.556 / n**3
