"""Whether a series of latencies stands still: a rank test for drift and a test for two modes. Pure functions.

Both hold for skewed latencies with long tails, for a coarse clock, and under autocorrelation. How often they are wrong is counted
by benchmarks/verdicts.py, which is where the constants come from.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from device_agent.contract.statistics import TIME_BIAS, autocorrelation_time, median

#: More values than this are thinned: evenly in time for drift, evenly by rank for modes.
_MOST_DRIFT, _MOST_MODES = 30_000, 2_000
_FEWEST_DRIFT, _FEWEST_MODES = 9, 100
#: Density is judged by how far apart the values are that enclose this share of all.
_WINDOW_SHARE = 0.05
_FEWEST_WINDOW = 15
#: The ranks of a series are correlated for longer than its signs, by which the time is estimated: 1.5 times for AR(1) at 0.9.
_RANK_TIMES = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """`change` is the median of the last third over that of the first, less 1; `sigmas` the rank test's standard score."""

    change: float
    sigmas: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Modes:
    """Two modes: where they are, the share of values in the slower one, and the density of the lower peak over the valley's."""

    fast: float
    slow: float
    slow_share: float
    depth: float

    @property
    def apart(self) -> float:
        """The distance of the modes, relative to the faster one."""
        return self.slow / self.fast - 1


def drift(latencies: Sequence[float]) -> Drift:
    """Compare the last third with the first by Mann and Whitney's rank test (1947); no drift for fewer than nine values.

    Its variance, derived for independent values, is multiplied by the autocorrelation time within the thirds, of what is left
    when their own trend is taken out: a drift is no autocorrelation.
    """
    thinned = latencies[:: max(1, len(latencies) // _MOST_DRIFT)]
    third = len(thinned) // 3
    if len(thinned) < _FEWEST_DRIFT:
        return Drift(change=0.0, sigmas=0.0)
    first, last = thinned[:third], thinned[-third:]
    ranks = 0.0
    below = 0
    ordered = sorted([(value, 0) for value in first] + [(value, 1) for value in last])
    for _, group in itertools.groupby(ordered, key=lambda one: one[0]):
        sides = [side for _, side in group]
        ranks += (below + (1 + len(sides)) / 2) * sum(sides)
        below += len(sides)
    u = ranks - third * (third + 1) / 2
    sign_time = (autocorrelation_time(_level(first)) + autocorrelation_time(_level(last))) / 2
    time = 1 + (sign_time - 1) * (_RANK_TIMES + TIME_BIAS * sign_time / third)
    sigma = math.sqrt(third * third * (2 * third + 1) / 12 * time)
    return Drift(change=median(last) / median(first) - 1, sigmas=(u - third * third / 2) / sigma)


def _level(values: Sequence[float]) -> list[float]:
    """Return the values without their trend, a straight line by the medians of the two halves."""
    half = len(values) // 2
    slope = (median(values[-half:]) - median(values[:half])) / (len(values) - half)
    return [value - slope * place for place, value in enumerate(values)]


def modes(latencies: Sequence[float], least_share: float) -> Modes | None:
    """Return the two modes with the deepest valley between them that leaves `least_share` on either side.

    None for fewer than a hundred values, or equal ones. Every distribution has some; `depth` and `apart` say whether they are
    worth a word. A tail has no second peak however long it is, so it makes no deep valley. Values of a coarse clock coincide; its
    tick, as the values show it, is added to all distances.
    """
    ordered = sorted(latencies)
    if len(ordered) < _FEWEST_MODES:
        return None
    tick = min((after - before for before, after in itertools.pairwise(ordered) if after > before), default=0)
    if not tick:
        return None
    ordered = ordered[:: max(1, len(ordered) // _MOST_MODES)]
    count = len(ordered)
    window = max(_FEWEST_WINDOW, round(count * _WINDOW_SHARE))
    widths = [ordered[place + window] - ordered[place] + tick for place in range(count - window)]
    left = _densest(widths)
    right = [len(widths) - 1 - place for place in reversed(_densest(widths[::-1]))]
    found: Modes | None = None
    for place in range(window, len(widths) - window):
        slow_share = 1 - (place + window / 2) / count
        if not least_share <= slow_share <= 1 - least_share:
            continue
        fast, slow = left[place - window], right[place + window]
        depth = widths[place] / max(widths[fast], widths[slow])
        if found is None or depth > found.depth:
            found = Modes(
                fast=ordered[fast + window // 2],
                slow=ordered[slow + window // 2],
                slow_share=slow_share,
                depth=depth,
            )
    return found


def _densest(widths: Sequence[float]) -> list[int]:
    """Return for every place that of the narrowest window up to it."""
    found: list[int] = []
    best = 0
    for place, width in enumerate(widths):
        if width < widths[best]:
            best = place
        found.append(best)
    return found
