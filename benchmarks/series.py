"""Synthetic series of latencies with a known truth, seeded; many draws at once as arrays (draws, runs), times in nanoseconds.

Noise is Gaussian AR(1), independent at rho 0, mapped to latencies that are skewed or have heavy tails; the median stays TRUE_NS.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.measurement import Run, RunKind
from device_agent.worker import order

Array = NDArray[np.float64]
TRUE_NS = 4e6
#: Runs of one artifact in a turn; the first of them settles.
TURN_RUNS = 5


def noise(rng: np.random.Generator, draws: int, count: int, rho: float) -> Array:
    """Return Gaussian AR(1) of unit variance, (draws, count); `rho` is the correlation of neighbours."""
    fresh: Array = rng.standard_normal((draws, count))
    if not rho:
        return fresh
    found = np.empty_like(fresh)
    found[:, 0] = fresh[:, 0]
    step = math.sqrt(1 - rho * rho)
    for place in range(1, count):
        found[:, place] = rho * found[:, place - 1] + step * fresh[:, place]
    return found


def lognormal(values: Array, spread: float) -> Array:
    """Return skewed latencies of median TRUE_NS; `spread` is the standard deviation of their logarithm."""
    return TRUE_NS * np.exp(spread * values)


def heavy(values: Array, spread: float) -> Array:
    """Return latencies of median TRUE_NS with a tail as page faults and interrupts make it: Pareto of index 1.5, slow side only.

    Its variance is infinite. The fast side stays Gaussian.
    """
    upper = 0.5 * np.vectorize(math.erfc)(np.maximum(values, 0) / math.sqrt(2))
    slow = (2 * upper) ** (-1 / 1.5) - 1
    return np.asarray(TRUE_NS * (1 + spread * np.where(values > 0, slow, np.maximum(values, -0.5 / spread))))


def quantised(latencies: Array, tick_ns: float) -> Array:
    """Return latencies as a clock with this tick gives them."""
    return np.asarray(np.round(latencies / tick_ns) * tick_ns)


def drifting(latencies: Array, change: float) -> Array:
    """Return latencies with a linear drift; the median of the last third is higher by `change` than that of the first."""
    count = latencies.shape[1]
    return np.asarray(latencies * (1 + 1.5 * change * np.arange(count) / count))


def flipping(
    rng: np.random.Generator, latencies: Array, apart: float, share: float, stretch: float | None = None
) -> Array:
    """Return latencies of a processor that flips between two clocks: in `share` of the runs slower by `apart`.

    `stretch` is the mean length of a slow and a fast stretch together, in runs; None for every run on its own.
    """
    draws, count = latencies.shape
    slow: NDArray[np.bool_] = np.less(rng.random((draws, count)), share)
    if stretch is not None:
        to_fast, to_slow = 1 / (stretch * share), 1 / (stretch * (1 - share))
        if max(to_fast, to_slow) > 1:
            raise ValueError(f"stretches of {stretch} runs cannot be slow for {share} of them")
        for place in range(1, count):
            before, chance = slow[:, place - 1], rng.random(draws)
            slow[:, place] = (before & (chance >= to_fast)) | (~before & (chance < to_slow))
    return np.asarray(latencies * np.where(slow, 1 + apart, 1.0))


def runs_of(latencies: Sequence[float] | Array, disturbed: Sequence[bool] | None = None) -> list[Run]:
    """Return one artifact's timed runs, back to back."""
    found, time_ns = [], 1_000
    for place, latency in enumerate(latencies):
        taken = max(1, round(float(latency)))
        mark = disturbed is not None and bool(disturbed[place])
        found.append(
            Run(artifact=0, kind=RunKind.TIMED, turn=place, start_ns=time_ns, latency_ns=taken, disturbed=mark)
        )
        time_ns += taken
    return found


def paired_series(
    rng: np.random.Generator,
    draws: int,
    blocks: int,
    ratio: float,
    *,
    artifacts: int = 2,
    own: float = 0.02,
    own_rho: float = 0.0,
    common: float = 0.0,
    common_rho: float = 0.0,
    drift: float = 0.0,
    tails: bool = False,
) -> tuple[Array, list[tuple[int, int]]]:
    """Return (latencies (draws, runs), [(artifact, turn) of each run]) of artifacts in balanced turns.

    Every artifact after the first has `ratio` times its latency. `own` is the noise of a run, correlated by `own_rho` with the
    same artifact's run before; `common` is shared by all, with `common_rho` from run to run; `drift` is what the last run takes
    more than the first, as a logarithm. `tails` gives the runs heavy tails.
    """
    turns = order.blocks(artifacts)
    places = [
        (artifact, turn)
        for turn, artifact in enumerate(artifact for _ in range(blocks) for artifact in next(turns))
        for _ in range(TURN_RUNS)
    ]
    count = len(places)
    who = np.array([artifact for artifact, _ in places])
    private = np.empty((draws, count))
    for artifact in range(artifacts):
        mine = who == artifact
        private[:, mine] = noise(rng, draws, int(mine.sum()), own_rho)
    base = heavy(private, own) if tails else lognormal(private, own)
    shared = common * noise(rng, draws, count, common_rho) if common else 0.0
    trend = drift * np.arange(count) / count
    return np.asarray(base * np.exp(shared + trend) * np.where(who > 0, ratio, 1.0)), places


def block_ratios(latencies: Array, places: Sequence[tuple[int, int]], candidate: int = 1) -> Array:
    """Return the log-ratios of candidate to the first artifact, (draws, blocks), as `pairs.block_log_ratios` has them."""
    sides: list[Array] = []
    numbers = np.array(places)
    settles = np.arange(len(places)) % TURN_RUNS == 0
    for artifact in (0, candidate):
        mine = latencies[:, (numbers[:, 0] == artifact) & ~settles]
        sides.append(np.median(mine.reshape(len(mine), -1, 2 * (TURN_RUNS - 1)), axis=2))
    return np.asarray(np.log(sides[1] / sides[0]))


def paired_runs(latencies: Any, places: Sequence[tuple[int, int]]) -> tuple[Run, ...]:
    """Return one draw of `paired_series` as runs."""
    found, time_ns = [], 1_000
    for place, (artifact, turn) in enumerate(places):
        taken = round(float(latencies[place]))
        kind = RunKind.SETTLING if place % TURN_RUNS == 0 else RunKind.TIMED
        found.append(Run(artifact=artifact, kind=kind, turn=turn, start_ns=time_ns, latency_ns=taken, disturbed=False))
        time_ns += taken
    return tuple(found)
