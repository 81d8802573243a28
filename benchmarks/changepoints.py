"""Level shifts of a history, and intervals of comparisons: how often they are wrong, counted on series whose truth is known.

Compares: the shifts that `host.results.changepoints` finds with those that were put in, and the intervals of
    `host.results.compare` with the true change. A false alarm is any shift in a history that has none. A shift is found in time
    if it is reported, upwards and at most two points off, when so many points have come after it.
On: synthetic histories of medians with 0.7 % of noise from measurement to measurement (Gaussian; in one row with heavy tails:
    Student's t with 3 degrees of freedom, of the same variance), and comparisons of n measurements a side with that noise. Rows
    without a goal say what else to expect.
Fair because: all draws are seeded, noise is not told to the method, and shares come with their 95 % interval; a goal holds where
    all of the interval does. The row of 100 mornings looks at a history without a shift as a nightly job does, every time that a
    point is added, and counts histories in which `host history --fail-if-slower` stops any of the mornings.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np

from benchmarks.coverage import wilson
from benchmarks.series import Array
from benchmarks.table import Benchmark, Goal, Row, judged, progress
from host.results.changepoints import FEWEST_FOR_ALARM, course_of, recent_rise
from host.results.compare import Figure, repeats_of, two_sample

NOISE = 0.007
STEP = 0.02
RARE = Goal(high=0.05)
FOUND = Goal(low=0.8)
COVERED = Goal(low=0.93)


def gaussian(rng: np.random.Generator, count: int) -> Array:
    """Return noise of unit variance."""
    return np.asarray(rng.standard_normal(count))


def heavy(rng: np.random.Generator, count: int) -> Array:
    """Return noise of unit variance with heavy tails."""
    return np.asarray(rng.standard_t(3, count) / np.sqrt(3))


def history(noise: Array, after: int = 0) -> list[float]:
    """Return latencies (ns); the last `after` are slower by STEP."""
    logs = NOISE * noise
    if after:
        logs[-after:] += np.log1p(STEP)
    return [float(value) for value in 5e6 * np.exp(logs)]


def false_alarms(rng: np.random.Generator, draws: int, count: int, noise: Callable[..., Array]) -> int:
    """Return how many histories without a shift show one."""
    return sum(bool(course_of(history(noise(rng, count))).shifts) for _ in range(draws))


def found(rng: np.random.Generator, draws: int, before: int, after: int) -> int:
    """Return how many histories show the shift with `after` points behind it."""
    return sum(
        any(
            abs(shift.at - before) <= 2 and shift.change > 0
            for shift in course_of(history(gaussian(rng, before + after), after)).shifts
        )
        for _ in range(draws)
    )


def alarmed_mornings(rng: np.random.Generator, draws: int, count: int) -> int:
    """Return how many histories stop a build on any morning of their growth, though nothing ever shifts."""
    series = [history(gaussian(rng, count)) for _ in range(draws)]
    return sum(
        any(recent_rise(course_of(one[:end])) is not None for end in range(FEWEST_FOR_ALARM, count + 1))
        for one in series
    )


def covered(rng: np.random.Generator, draws: int, one: int, other: int, repeats: int = 0) -> int:
    """Return how many intervals hold the true change; `repeats` pairs of other artifacts were measured as well."""
    hits = 0
    for _ in range(draws):
        sides = [
            [Figure(value=5e6 * float(np.exp(NOISE * each))) for each in rng.standard_normal(count)]
            for count in (one, other)
        ]
        pairs = [[float(np.exp(NOISE * each)) for each in rng.standard_normal(2)] for _ in range(repeats)]
        change = two_sample(*sides, repeats=repeats_of(pairs))
        hits += change.low is not None and change.high is not None and change.low <= 0 <= change.high
    return hits


def measure(quick: bool) -> list[Row]:
    """Return the rows; half a minute for all."""
    rng = np.random.default_rng(5)
    draws = 30 if quick else 1500
    rows: list[Row] = []
    progress("false alarms")
    for count in (8, 20, 100):
        share = false_alarms(rng, draws, count, gaussian)
        rows.append(_row(f"false alarms, histories of {count} points", share, draws, RARE))
    rows.append(_row("false alarms, 100 points, heavy tails", false_alarms(rng, draws, 100, heavy), draws))
    mornings = 2 if quick else 150
    rows.append(
        _row("100 mornings, --fail-if-slower on any of them", alarmed_mornings(rng, mornings, 100), mornings, RARE)
    )
    progress("shifts of 2 %")
    for before in (97, 20):
        for after in (1, 2, 3, 5):
            goal = FOUND if (before, after) == (97, 3) else None
            title = f"shift of {STEP:.0%} after {before} points found with {after} behind it"
            tried = draws if goal else draws // 3
            rows.append(_row(title, found(rng, tried, before, after), tried, goal))
    progress("intervals")
    more = 4 * draws
    for one, other, repeats in ((2, 2, 0), (5, 5, 0), (10, 1, 0), (1, 1, 5), (2, 2, 10)):
        title = f"interval covers, {one} against {other} measurements" + (
            f", {repeats} other repeats" if repeats else ""
        )
        rows.append(_row(title, covered(rng, more, one, other, repeats), more, COVERED))
    return rows


def _row(metric: str, count: int, draws: int, goal: Goal | None = None) -> Row:
    interval = wilson(count, draws)
    if goal is None:
        return Row(metric=metric, value=count / draws, unit="share", interval=interval)
    return judged(metric, count / draws, "share", goal, interval=interval)


BENCHMARK = Benchmark(name="changepoints", about=__doc__ or "", measure=measure)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
