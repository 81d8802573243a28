"""When a timed loop has enough: the stopping rule of the contract, looked at on a geometric schedule."""

from __future__ import annotations

import math
from collections.abc import Sequence

from device_agent.contract.disturbance import steadiest
from device_agent.contract.measurement import Run
from device_agent.contract.pairs import block_log_ratios
from device_agent.contract.settings import MAX_RUNS, Stopping
from device_agent.contract.statistics import BLOCK_TIMES, WANTED_BLOCKS, MedianInterval, median_interval

#: The next look comes when there are this many times as many runs.
_GROWTH = 1.3


def precision_reached(runs: Sequence[Run], artifacts: int, precision: float) -> bool:
    """Say whether the interval is narrow enough: of the median for one artifact, of every paired ratio for several.

    Whoever looks until an interval is narrow stops when it is so by chance, and covers less than it says; hence the cautious
    width, which is steadier and wider (benchmarks/verdicts.py counts what is covered when this rule has stopped). Several
    artifacts share a drift that widens each median's interval and cancels in the ratios.
    """
    if artifacts == 1:
        latencies = steadiest(runs)
        return bool(latencies) and median_known(median_interval(latencies), precision)
    for candidate in range(1, artifacts):
        ratios = block_log_ratios(runs, 0, candidate)
        if not ratios or not ratio_known(median_interval(ratios, assume_independent=True), precision):
            return False
    return True


def median_known(found: MedianInterval, precision: float) -> bool:
    """Say whether a median of latencies is known well enough to stop."""
    # With fewer, an autocorrelation time that comes out too short by chance would end the measurement.
    if found.times < WANTED_BLOCKS * BLOCK_TIMES or found.cautious_half_width is None:
        return False
    return found.cautious_half_width <= precision * found.median


def ratio_known(found: MedianInterval, precision: float) -> bool:
    """Say whether a median of log-ratios is known well enough to stop."""
    return found.cautious_half_width is not None and math.expm1(found.cautious_half_width) <= precision


def next_look(runs: int) -> int:
    """Return at how many runs to look again: a fixed number of looks for every tenfold, so that looking stays cheap."""
    return max(runs + 1, math.ceil(runs * _GROWTH))


class StoppingRule:
    """Keeps count of timed runs and seconds per artifact and says when to stop."""

    def __init__(self, stopping: Stopping, artifacts: int) -> None:
        self._stopping = stopping
        self._runs = [0] * artifacts
        self._time_s = [0.0] * artifacts
        self._next_look = stopping.min_runs

    def count(self, artifact: int, runs: int, time_s: float) -> None:
        """Add a turn's timed runs and the time that the turn took."""
        self._runs[artifact] += runs
        self._time_s[artifact] += time_s

    @property
    def fraction(self) -> float:
        """The share of the least runs and time that is done, 1 at most."""
        asked = self._stopping
        runs = min(self._runs) / asked.min_runs
        time = min(self._time_s) / asked.min_time_s if asked.min_time_s else 1.0
        return min(1.0, runs, time)

    def done(self, runs: Sequence[Run]) -> bool:
        """Say whether to stop, given all runs so far."""
        asked = self._stopping
        if max(self._time_s) >= asked.max_time_s or max(self._runs) >= MAX_RUNS:
            return True
        least = min(self._runs)
        if least < asked.min_runs or min(self._time_s) < asked.min_time_s:
            return False
        if asked.precision is None:
            return True
        if least < self._next_look:
            return False
        self._next_look = next_look(least)
        return precision_reached(runs, len(self._runs), asked.precision)
