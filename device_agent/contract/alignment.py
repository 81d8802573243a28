"""How much later an external meter's times are than the device's: told by the steps of power between rest and load.

The meter has a clock of its own, and its samples arrive with a delay that nobody knows. The worker does know when it stopped to
rest and when it began again, and power shows both. Standard library only; times in seconds on the device's clock.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from device_agent.contract.integrate import STEP_S, Series
from device_agent.contract.statistics import median

#: Without a clear step: the meter's quickest sample is presumed to have arrived within this time.
ARRIVAL_S = 0.1
#: Samples are looked at this long before and after a step.
_REACH_S = 3.0
#: A clear step is so many standard deviations of single samples high.
_CLEAR_STEP = 2.0
#: ... and explains so many of their variances.
_CLEAR_GAIN = 30.0
#: -2 ln(1 - sqrt(0.95)): the log-likelihood ratio that covers a known step's place with 95 % (Siegmund, Ann. Statist. 16, 1988).
_LIKELY = 7.35
_FEWEST = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A change between rest and load. `before_s` and `after_s` are how long the worker did the same before and after it."""

    time_s: float
    rising: bool
    before_s: float
    after_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Alignment:
    """Take `shift_s` off the meter's times. `error_s` covers the true shift with 95 %; `steps` tells how many steps agreed on it.

    With no step, samples are left where their arrival put them, and `error_s` rests on ARRIVAL_S.
    """

    shift_s: float
    error_s: float
    steps: int


def align(series: Series, edges: Sequence[Edge]) -> Alignment:
    """Return the shift at which the power steps when the work did.

    Each edge is a step of two levels at the place with the least squared residuals; its error is half of the span of all places
    that are nearly as likely, at least one distance between samples, and the time that capacitors may hide a step. Two edges that
    agree are averaged by their errors; two that don't widen the error by half of what they differ by.
    """
    spacing = median(b - a for a, b in pairwise(series.times_s)) if len(series.times_s) > 1 else _REACH_S
    found = [place for edge in edges if (place := _locate(series, edge)) is not None]
    if not found:
        return Alignment(shift_s=0.0, error_s=ARRIVAL_S + spacing, steps=0)
    weights = [1 / error**2 for _, error in found]
    shift = sum(weight * one for weight, (one, _) in zip(weights, found, strict=True)) / sum(weights)
    error = min(error for _, error in found)
    apart = max(one for one, _ in found) - min(one for one, _ in found)
    if apart > sum(error for _, error in found):
        shift = sum(one for one, _ in found) / len(found)
        error = max(error for _, error in found) + apart / 2
    return Alignment(shift_s=shift, error_s=error, steps=len(found))


def _locate(series: Series, edge: Edge) -> tuple[float, float] | None:
    """Return (shift, error) of one edge, None without a clear step.

    The first look takes in what lies beyond the rest if the shift is large; the second is centred on what the first found.
    """
    before, after = min(edge.before_s, _REACH_S), min(edge.after_s, _REACH_S)
    time_s, error_s = edge.time_s, 0.0
    for _ in range(2):
        first, last = bisect_left(series.times_s, time_s - before), bisect_right(series.times_s, time_s + after)
        found = _step(series.times_s[first:last], series.values[first:last], rising=edge.rising)
        if found is None or abs(found[0] - edge.time_s) > 0.75 * min(before, after):
            return None
        time_s, error_s = found
    return time_s - edge.time_s, error_s + STEP_S / 2


def _step(times: Sequence[float], values: Sequence[float], *, rising: bool) -> tuple[float, float] | None:
    """Return (time, half-width) of the step between two levels, None if it isn't clear. Linear in the number of samples."""
    count = len(values)
    if count < 2 * _FEWEST:
        return None
    mean = sum(values) / count
    total2 = sum((value - mean) ** 2 for value in values)
    left = sum(value - mean for value in values[: _FEWEST - 1])
    gains: list[float] = []  # of explained squares, for a step just before each place from _FEWEST on
    for place in range(_FEWEST, count - _FEWEST + 1):
        left += values[place - 1] - mean
        right_way = left < 0 if rising else left > 0
        gains.append(left**2 * count / (place * (count - place)) if right_way else 0.0)
    best = max(gains)
    variance = max((total2 - best) / (count - 2), 1e-12 * total2)
    place = _FEWEST + gains.index(best)
    height2 = best * count / (place * (count - place))
    if best <= _CLEAR_GAIN * variance or height2 < _CLEAR_STEP**2 * variance:
        return None
    likely = [place for place, gain in enumerate(gains, _FEWEST) if gain >= best - _LIKELY * variance]
    low, high = times[likely[0] - 1], times[likely[-1]]
    return (low + high) / 2, (high - low) / 2
