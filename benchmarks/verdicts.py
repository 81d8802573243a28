"""How often verdicts, intervals and decisions are wrong: false alarms and misses, counted on series whose truth is known.

Compares: what `device_agent.contract` says of a series with what is true of it. A false alarm is a verdict other than stable on a
    series that has nothing wrong with it; a miss is the absence of the verdict that names what was put in. Of intervals the share
    that holds the truth, of decisions the share that is wrong.
On: synthetic series (benchmarks.series), independent, autocorrelated, with heavy tails and with a coarse clock; and recorded ones
    (benchmarks/data): for stability shuffled, so that they stand still and keep their distribution, and known effects added; for
    contention as they are, with and without busy loops beside them, in stretches of 100 runs (those of one series are alike).
Fair because: all draws are seeded, and each row states the size of its effect. Smaller effects are missed more often: one row
    shows how a drift of half the size fares. Shares come with their 95 % interval; a goal holds where all of the interval does,
    and is open where the draws are too few. Recorded series that have two modes of their own are no false alarms for that: they
    are tested for drift, and those that are called two-moded are counted in a row without a goal.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks import recorded
from benchmarks.coverage import (
    ALONE,
    PAIRED,
    STOPPED_ALONE,
    STOPPED_PAIRED,
    Coverage,
    Paired,
    cover_alone,
    cover_paired,
    cover_stopped_alone,
    cover_stopped_paired,
    decisions,
    wilson,
)
from benchmarks.series import Array, drifting, flipping, heavy, lognormal, noise, quantised, runs_of
from benchmarks.table import Benchmark, Goal, Row, judged, progress
from device_agent.contract.decision import DecisionCode
from device_agent.contract.device import Channel, Quantity
from device_agent.contract.disturbance import marks_are_void
from device_agent.contract.measurement import Reading, Run, VerdictCode
from device_agent.contract.settings import MeasureRequest, Stopping
from device_agent.contract.verdicts import judge
from device_agent.worker.result import WorkerArtifact, WorkerResult

COVERED = Goal(low=0.935, high=0.97)
#: Looking until the interval is narrow costs some of it.
COVERED_STOPPED = Goal(low=0.93, high=0.97)
RARE = Goal(high=0.05)
#: A rate of 5 % is half for either side.
HALF = Goal(high=0.03)
_STRETCH = 100
DRIFT, MODES = "relative drift of the median", "relative distance of two modes"
_REQUEST = MeasureRequest(artifacts=("a" * 64,))
#: Where the effect is small against the wanted precision, so that the width of the interval has no say.
_LOOSE = replace(_REQUEST, stopping=Stopping(precision=0.05))
_CLOCK = Channel(name="cpufreq.policy0", quantity=Quantity.FREQUENCY, site="cpu", source="")
_FACTS = WorkerResult(
    runtime="none", runtime_version="0", threads=1, device_time_ns=1, steal_fraction=0.0, clock_resolution_ns=1,
    artifacts=(WorkerArtifact(sha256="a" * 64, load_ns=1, provider="none", provider_share=None, peak_memory_bytes=None,
                              peak_rss_bytes=None, nodes=None),),
)  # fmt: skip
Clocks = Callable[[np.random.Generator], Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Series to judge. `wanted` is the verdict that they deserve, None for stable. `clocks` makes the readings of the clock.

    With `unit` only findings in this unit count.
    """

    title: str
    wanted: VerdictCode | None
    series: Callable[[np.random.Generator, int], Iterator[list[Run]]]
    request: MeasureRequest = _REQUEST
    clocks: Clocks | None = None
    goal: Goal | None = RARE
    unit: str | None = None


def made(
    shape: Callable[[np.random.Generator, Array], Array], *, rho: float = 0.0, count: int = 400
) -> Callable[[np.random.Generator, int], Iterator[list[Run]]]:
    """Return a source of synthetic series: noise of `rho`, given its shape."""

    def draw(rng: np.random.Generator, draws: int) -> Iterator[list[Run]]:
        for row in shape(rng, noise(rng, draws, count, rho)):
            yield runs_of(row)

    return draw


def shuffled(
    change: Callable[[np.random.Generator, Array], Array] = lambda _, latencies: latencies,
) -> Callable[[np.random.Generator, int], Iterator[list[Run]]]:
    """Return a source of recorded series that were quiet, on one thread, in random order, with a change made to them."""
    quiet = [one for one in recorded.load() if one.condition == "quiet" and one.threads == 1 and len(one.runs) >= 300]

    def draw(rng: np.random.Generator, draws: int) -> Iterator[list[Run]]:
        for number in range(draws):
            own = quiet[number % len(quiet)]
            order = rng.permutation(len(own.runs))
            latencies = np.array([own.runs[place].latency_ns for place in order], dtype=float)
            yield runs_of(change(rng, latencies[None])[0], [own.runs[place].disturbed for place in order])

    return draw


def ramp(rng: np.random.Generator) -> Array:
    """Return a governor's clock: low at first, then at its top with small steps."""
    return np.concatenate([np.linspace(0.6e9, 1.5e9, 12), 1.5e9 - 1e7 * rng.integers(0, 3, 88)])


def wandering(rng: np.random.Generator) -> Array:
    """Return a turbo clock that varies by 1.5 % (standard deviation) and has a spike and a dip."""
    clocks = 3.8e9 * (1 + 0.01 * np.clip(rng.standard_normal(100), -2.5, 2.5))
    clocks[rng.integers(100)], clocks[rng.integers(100)] = 4.5e9, 2e9
    return clocks


def stepped(rng: np.random.Generator) -> Array:
    """Return a clock that is capped 10 % lower at some time in the first half."""
    clocks = np.full(100, 1.5e9)
    clocks[rng.integers(3, 50) :] *= 0.9
    return clocks


def oscillating(rng: np.random.Generator) -> Array:
    """Return a clock that firmware takes down by a fifth and lets up again, for about a third of the time."""
    return np.where(rng.random(100) < 0.33, 1.2e9, 1.5e9)


def cases() -> list[Case]:
    """Return every false alarm and miss to count."""
    unstable, throttled = VerdictCode.UNSTABLE, VerdictCode.THROTTLED
    plain = made(lambda _, x: lognormal(x, 0.02))
    warm = made(lambda _, x: drifting(lognormal(x, 0.02), 0.1))
    return [
        Case(title="independent, 2 %", wanted=None, series=plain),
        Case(title="AR(1) 0.5, 2 %", wanted=None, series=made(lambda _, x: lognormal(x, 0.02), rho=0.5)),
        Case(title="AR(1) 0.9, 1 %, 1000 runs", wanted=None,
             series=made(lambda _, x: lognormal(x, 0.01), rho=0.9, count=1000)),
        Case(title="heavy tail (Pareto 1.5)", wanted=None, series=made(lambda _, x: heavy(x, 0.02))),
        Case(title="clock of 1 % ticks", wanted=None, series=made(lambda _, x: quantised(lognormal(x, 0.02), 4e4))),
        Case(title="governor ramps up", wanted=None, series=plain, clocks=ramp),
        Case(title="turbo wanders", wanted=None, series=plain, clocks=wandering),
        Case(title="soak that gets 10 % slower", wanted=None, series=warm, request=replace(_REQUEST, soak_s=600.0)),
        Case(title="recorded, shuffled: drift", wanted=None, series=shuffled(), request=_LOOSE, unit=DRIFT),
        Case(title="recorded, shuffled: two modes", wanted=None, series=shuffled(), request=_LOOSE, unit=MODES, goal=None),
        Case(title="drift of 5 %, AR(1) 0.5, noise 2 %", wanted=unstable, request=_LOOSE,
             series=made(lambda _, x: drifting(lognormal(x, 0.02), 0.05), rho=0.5)),
        Case(title="drift of 5 %, AR(1) 0.9, noise 1 %, 1000 runs", wanted=unstable, request=_LOOSE,
             series=made(lambda _, x: drifting(lognormal(x, 0.01), 0.05), rho=0.9, count=1000)),
        Case(title="drift of 2.5 %, AR(1) 0.5, noise 2 %", wanted=unstable, request=_LOOSE, goal=None,
             series=made(lambda _, x: drifting(lognormal(x, 0.02), 0.025), rho=0.5)),
        Case(title="two modes 10 % apart, 30 % slow, from run to run, noise 1 %", wanted=unstable, request=_LOOSE,
             unit=MODES, series=made(lambda rng, x: flipping(rng, lognormal(x, 0.01), 0.1, 0.3))),
        Case(title="two modes 10 % apart, half slow, in stretches of 20 runs, noise 1 %", wanted=unstable, request=_LOOSE,
             series=made(lambda rng, x: flipping(rng, lognormal(x, 0.01), 0.1, 0.5, 40))),
        Case(title="interval twice as wide as wanted", wanted=unstable,
             series=made(lambda _, x: lognormal(x, 0.17))),
        Case(title="recorded, shuffled, drift of 10 % added", wanted=unstable, request=_LOOSE,
             series=shuffled(lambda _, x: drifting(x, 0.1))),
        Case(title="recorded, shuffled, a third of the runs 60 % slower", wanted=unstable, request=_LOOSE,
             unit=MODES, series=shuffled(lambda rng, x: flipping(rng, x, 0.6, 0.33))),
        Case(title="clock capped 10 % lower", wanted=throttled, series=plain, clocks=stepped),
        Case(title="clock down a fifth for a third of the time", wanted=throttled, series=plain, clocks=oscillating),
    ]  # fmt: skip


def _wrong(case: Case, draws: int, seed: int) -> int:
    """Count the series of a case on which the verdict is not the one that they deserve."""
    rng = np.random.default_rng(seed)
    wrong = 0
    for runs in case.series(rng, draws):
        readings: Sequence[Reading] = ()
        if case.clocks is not None:
            clocks = case.clocks(rng).tolist()
            times = np.linspace(runs[0].start_ns, runs[-1].start_ns, len(clocks)).astype(int).tolist()
            readings = [
                Reading(channel=_CLOCK.name, time_ns=time, value=value)
                for time, value in zip(times, clocks, strict=True)
            ]
        found = judge(case.request, 0, runs, readings, _FACTS, channels=(_CLOCK,))
        codes = {one.code for one in found if case.unit in (None, one.unit)} - {VerdictCode.STABLE}
        wrong += bool(codes) if case.wanted is None else case.wanted not in codes
    return wrong


def _rate(metric: str, hits: int, draws: int, goal: Goal | None) -> Row:
    share, interval = hits / draws, wilson(hits, draws)
    if goal is None:
        return Row(metric=metric, value=share, unit=f"of {draws}", interval=interval)
    return judged(metric, share, f"of {draws}", goal, interval=interval)


def _contention() -> list[Row]:
    """Return the rows of the recorded series as they are, in stretches of a hundred runs; those of one series are alike."""
    rows = []
    for threads in (1, 2):
        for kind, conditions in (("false alarm", ("quiet",)), ("miss", ("busy", "shared"))):
            stretches = [
                one.runs[begin : begin + _STRETCH]
                for one in recorded.load()
                if one.condition in conditions and one.threads == threads and not marks_are_void(one.runs)
                for begin in range(0, len(one.runs) - _STRETCH + 1, _STRETCH)
            ]
            told = sum(
                any(found.code is VerdictCode.CONTENDED for found in judge(_REQUEST, 0, stretch, (), _FACTS))
                for stretch in stretches
            )
            wrong = told if kind == "false alarm" else len(stretches) - told
            title = f"{kind}, contended: recorded, {' or '.join(conditions)}, {threads} threads"
            rows.append(_rate(title, wrong, len(stretches), RARE))
    return rows


def _coverage(quick: bool) -> Iterator[Row]:
    draws = 500 if quick else 10_000
    for alone in ALONE:
        yield _covered(f"95 % interval of a median holds it: {alone.title}", cover_alone(alone, draws, 1), COVERED)
    for pair in PAIRED:
        yield _covered(f"95 % interval of a paired ratio: {pair.title}", cover_paired(pair, draws, 2), COVERED)
    own = Paired(title="each artifact's own AR(1) 0.9, 40 blocks", blocks=40, own_rho=0.9)
    yield _covered(f"95 % interval of a paired ratio: {own.title}", cover_paired(own, draws, 2), None)
    for alone in STOPPED_ALONE:
        found = cover_stopped_alone(alone, draws // 2, 3)
        yield _covered(f"when stopped at 1 %, a median: {alone.title}", found, COVERED_STOPPED)
    for pair in STOPPED_PAIRED:
        found = cover_stopped_paired(pair, draws // 2, 4)
        yield _covered(f"when stopped at 1 %, a ratio: {pair.title}", found, COVERED_STOPPED)


def _covered(metric: str, found: Coverage, goal: Goal | None) -> Row:
    row = _rate(metric, found.covered, found.given, goal)
    return replace(row, unit=f"of {found.given} given of {found.draws}")


def _decided(quick: bool) -> Iterator[Row]:
    draws = 400 if quick else 10_000
    case = Paired(title="", blocks=20, common=0.1, common_rho=0.98, drift=0.2)
    long = replace(case, blocks=300)
    claims = {DecisionCode.FASTER, DecisionCode.SLOWER}
    equal, unsure = {DecisionCode.NO_DIFFERENCE}, {DecisionCode.UNDECIDED}
    for metric, ratio, artifacts, stopped, counts, goal in (
        ("wrong: faster or slower at ratio 1", 1.0, 2, False, claims, RARE),
        ("wrong: the same of any of 4 candidates", 1.0, 5, False, claims, RARE),
        ("wrong: the same when stopped at 1 %", 1.0, 2, True, claims, RARE),
        ("wrong: no difference of 2 % at ratio 1.02", 1.02, 2, False, equal, HALF),
        ("wrong: the same when stopped at 1 %", 1.02, 2, True, equal, RARE),
        ("missed: undecided at ratio 1 when stopped at 1 %", 1.0, 2, True, unsure, RARE),
        ("missed: not faster at ratio 0.95 when stopped at 1 %", 0.95, 2, True, {*equal, *unsure}, RARE),
    ):
        progress(f"decision {metric}")
        some = draws // 5 if artifacts > 2 or stopped else draws
        found = decisions(long if stopped else case, some, 5, ratio, artifacts=artifacts, stopped=stopped)
        hits = sum(count for codes, count in found.items() if codes & counts)
        yield _rate(f"decision {metric}", hits, sum(found.values()), goal)


def measure(quick: bool) -> list[Row]:
    """Count everything."""
    rows: list[Row] = []
    draws = 100 if quick else 500
    for number, case in enumerate(cases()):
        progress(case.title)
        kind = "false alarm" if case.wanted is None else f"miss, {case.wanted.value}"
        rows.append(_rate(f"{kind}: {case.title}", _wrong(case, draws, number), draws, case.goal))
    rows += _contention()
    progress("coverage of intervals")
    rows += _coverage(quick)
    rows += _decided(quick)
    return rows


BENCHMARK = Benchmark(name="verdicts", about=__doc__ or "", measure=measure)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
