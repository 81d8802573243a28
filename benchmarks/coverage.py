"""How often intervals and decisions are right, by simulation on series of known truth. For benchmarks.verdicts and the tests."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from benchmarks.series import TRUE_NS, Array, block_ratios, heavy, lognormal, noise, paired_series
from device_agent.contract.decision import DecisionCode, code_of
from device_agent.contract.pairs import ratio_of_blocks
from device_agent.contract.statistics import median_interval
from device_agent.worker.stopping import median_known, next_look, ratio_known

#: The least runs of the default settings, and the blocks of turns in which two artifacts make them.
FIRST_RUNS, FIRST_BLOCKS = 50, 7
PRECISION = 0.01
_CHUNK = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class Alone:
    """Series of one artifact: noise of `spread`, correlated by `rho` from run to run, of `runs` runs."""

    title: str
    rho: float
    runs: int
    spread: float = 0.1
    tails: bool = False

    def draws(self, rng: np.random.Generator, draws: int, runs: int | None = None) -> Iterator[Array]:
        """Yield series (runs,) of median TRUE_NS."""
        for begin in range(0, draws, _CHUNK):
            values = noise(rng, min(_CHUNK, draws - begin), runs or self.runs, self.rho)
            yield from heavy(values, self.spread) if self.tails else lognormal(values, self.spread)


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """Series of artifacts in balanced turns; the fields are those of `paired_series`."""

    title: str
    blocks: int
    own: float = 0.02
    own_rho: float = 0.0
    common: float = 0.0
    common_rho: float = 0.0
    drift: float = 0.0
    tails: bool = False

    def draws(
        self, rng: np.random.Generator, draws: int, ratio: float, *, artifacts: int = 2, blocks: int | None = None
    ) -> Iterator[Array]:
        """Yield log-ratios to the first artifact, (artifacts - 1, blocks)."""
        for begin in range(0, draws, _CHUNK):
            latencies, places = paired_series(
                rng, min(_CHUNK, draws - begin), blocks or self.blocks, ratio, artifacts=artifacts, own=self.own,
                own_rho=self.own_rho, common=self.common, common_rho=self.common_rho, drift=self.drift, tails=self.tails,
            )  # fmt: skip
            yield from np.stack([block_ratios(latencies, places, one) for one in range(1, artifacts)], axis=1)


ALONE = (
    Alone(title="independent, 100 runs", rho=0, runs=100),
    Alone(title="independent, 400 runs", rho=0, runs=400),
    Alone(title="AR(1) 0.5, 400 runs", rho=0.5, runs=400),
    Alone(title="AR(1) 0.9, 1000 runs", rho=0.9, runs=1000),
    Alone(title="heavy tail, 400 runs", rho=0, runs=400, tails=True),
    Alone(title="heavy tail and AR(1) 0.5, 400 runs", rho=0.5, runs=400, tails=True),
)
PAIRED = (
    Paired(title="independent, 8 blocks", blocks=8),
    Paired(title="independent, 40 blocks", blocks=40),
    Paired(title="common AR(1) 0.5, 20 blocks", blocks=20, common=0.1, common_rho=0.5),
    Paired(title="common AR(1) 0.9, 20 blocks", blocks=20, common=0.1, common_rho=0.9),
    Paired(title="common drift of 30 %, 20 blocks", blocks=20, drift=0.3),
    Paired(title="drift of 30 %, common AR(1) 0.98, heavy tail, 20 blocks", blocks=20, drift=0.3, common=0.1,
           common_rho=0.98, tails=True),
)  # fmt: skip
#: As long as the stopping rule asks; the spread says how long that is.
STOPPED_ALONE = (
    Alone(title="independent", rho=0, runs=4000, spread=0.05),
    Alone(title="AR(1) 0.5", rho=0.5, runs=4000, spread=0.03),
    Alone(title="AR(1) 0.9", rho=0.9, runs=8000, spread=0.02),
    Alone(title="heavy tail", rho=0, runs=4000, spread=0.05, tails=True),
)
STOPPED_PAIRED = (
    Paired(title="independent", blocks=200),
    Paired(title="common AR(1) 0.9", blocks=400, own=0.01, common=0.02, common_rho=0.9),
    Paired(title="common drift of 30 %", blocks=200, drift=0.3),
    Paired(title="heavy tail", blocks=200, tails=True),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Of `given` intervals `covered` held the truth; `draws` were made, of which some were too short for an interval."""

    covered: int
    given: int
    draws: int

    @property
    def share(self) -> float:
        """The share of intervals that hold the truth."""
        return self.covered / self.given

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of that share."""
        return wilson(self.covered, self.given)


def wilson(hits: int, draws: int) -> tuple[float, float]:
    """Return the 95 % interval of a share by E. B. Wilson (1927)."""
    share, z = hits / draws, 1.96
    centre = (share + z * z / 2 / draws) / (1 + z * z / draws)
    half = z / (1 + z * z / draws) * math.sqrt(share * (1 - share) / draws + z * z / 4 / draws**2)
    return max(0.0, centre - half), min(1.0, centre + half)


def cover_alone(case: Alone, draws: int, seed: int) -> Coverage:
    """Count the intervals of a median that hold the true one, at the case's number of runs."""
    covered = given = 0
    for series in case.draws(np.random.default_rng(seed), draws):
        found = median_interval(series.tolist())
        if found.low is not None and found.high is not None:
            given += 1
            covered += found.low <= TRUE_NS <= found.high
    return Coverage(covered=covered, given=given, draws=draws)


def cover_paired(case: Paired, draws: int, seed: int, ratio: float = 0.8) -> Coverage:
    """Count the intervals of a paired ratio that hold the true one, at the case's number of blocks."""
    covered = given = 0
    for [blocks] in case.draws(np.random.default_rng(seed), draws, ratio):
        found = ratio_of_blocks(blocks.tolist())
        if found.low is not None and found.high is not None:
            given += 1
            covered += found.low <= ratio <= found.high
    return Coverage(covered=covered, given=given, draws=draws)


def _looks(first: int, most: int) -> Iterator[int]:
    look = first
    while look < most:
        yield look
        look = next_look(look)
    yield most


def cover_stopped_alone(case: Alone, draws: int, seed: int) -> Coverage:
    """The same when the stopping rule has looked again and again and said that it is enough."""
    covered = given = 0
    for series in case.draws(np.random.default_rng(seed), draws):
        values = series.tolist()
        found = None
        for look in _looks(FIRST_RUNS, case.runs):
            found = median_interval(values[:look])
            if median_known(found, PRECISION):
                break
        if found is not None and found.low is not None and found.high is not None:
            given += 1
            covered += found.low <= TRUE_NS <= found.high
    return Coverage(covered=covered, given=given, draws=draws)


def _stopped_ratios(blocks: list[float]) -> list[float]:
    """Return the blocks that the stopping rule would have waited for."""
    for look in _looks(FIRST_BLOCKS, len(blocks)):
        if ratio_known(median_interval(blocks[:look], assume_independent=True), PRECISION):
            return blocks[:look]
    return blocks


def cover_stopped_paired(case: Paired, draws: int, seed: int, ratio: float = 0.8) -> Coverage:
    """The same for a paired ratio."""
    covered = given = 0
    for [blocks] in case.draws(np.random.default_rng(seed), draws, ratio):
        found = ratio_of_blocks(_stopped_ratios(blocks.tolist()))
        if found.low is not None and found.high is not None:
            given += 1
            covered += found.low <= ratio <= found.high
    return Coverage(covered=covered, given=given, draws=draws)


def decisions(
    case: Paired, draws: int, seed: int, ratio: float, *, difference: float = 0.02, error_rate: float = 0.05,
    artifacts: int = 2, stopped: bool = False,
) -> Counter[frozenset[DecisionCode]]:  # fmt: skip
    """Count the sets of codes that `decide` gives on all candidates of a draw."""
    confidence = 1 - error_rate / (artifacts - 1)
    found: Counter[frozenset[DecisionCode]] = Counter()
    for candidates in case.draws(np.random.default_rng(seed), draws, ratio, artifacts=artifacts):
        rows = [_stopped_ratios(row) if stopped else row for row in candidates.tolist()]
        found[frozenset(code_of(ratio_of_blocks(row, confidence=confidence), difference) for row in rows)] += 1
    return found
