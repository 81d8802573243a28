"""Whether the joules are the joules: energy per run from synthetic power traces whose energy is known in closed form.

Compares: gross and net energy per run as the agent derives them from a sensor's readings (device_agent.contract.energy) with
    the integral of the trace; the truth with the 95 % intervals that the agent states; and, for an external meter whose clock
    is off by up to a second, the shift that it finds with the true one.
On: a hundred traces each of a sensor read at 10 Hz, one at 20 Hz that keeps its value for 0.1 s, and a RAPL-like counter at
    20 Hz (1 ms, 61 uJ, its wraps already undone); and of an external meter at 100 Hz and at 10 Hz behind its own clock. A board
    rests 3 s at 1 - 4 W, computes 10 - 20 s at 0.5 - 8 W more and rests 3 s. Idle power drifts, load steps within milliseconds,
    waves by up to 10 % and ripples with the inference (3 %, 5 - 200 Hz, steadier than any inference); sensors add 1 % of noise.
    Reads are jittered by 10 % of their interval, 5 % are missing and 2 % are up to three intervals late. One case, which is
    shown and not judged, has reads on a grid instead: a ripple that keeps time with it looks like a constant power.
Fair because: everything is synthetic and seeded, so no noise of this machine is in it and the goals are judged strictly: gross
    by the worst trace, net, which may be a tenth of gross, by 95 % of them. The shares of intervals that hold the truth come
    from a thousand traces, with Wilson's interval. What a sensor's gain or a rail that it doesn't see would add is not in the
    traces, as it is in no stated uncertainty.
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import median

from benchmarks.power_trace import PowerTrace, Watcher, record
from benchmarks.table import Benchmark, CannotMeasure, Goal, Row, judged, progress
from device_agent.contract.alignment import align
from device_agent.contract.device import Channel, Quantity
from device_agent.contract.energy import EXTERNAL, energy_of
from device_agent.contract.integrate import Series
from device_agent.contract.statistics import percentile
from device_agent.contract.work import Work

ERROR = Goal(high=1.0)
#: About as often as stated, or more often: bounds are for boards and clocks that may be worse than these.
HELD = Goal(low=0.93)
_TRACES, _DRAWS = 100, 1000
_QUICK_TRACES, _QUICK_DRAWS = 20, 60
_SEED = 20261124
_RUNS = 100
_REST_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A sensor: how it looks, and what its channel says of itself. `offset_s` is how far its clock may be off.

    Errors of a case that is not `judged` are shown without a goal.
    """

    title: str
    watcher: Watcher
    quantity: Quantity = Quantity.POWER
    offset_s: float = 0.0
    judged: bool = True

    def channel(self) -> Channel:
        """Return the channel as the agent would describe it."""
        return Channel(
            name="power",
            quantity=self.quantity,
            site="board",
            source="synthetic",
            meter=EXTERNAL if self.offset_s else "sensor",
            interval_s=self.watcher.held_s or None,
            resolution=self.watcher.resolution,
        )


CASES = (
    Case(title="power at 10 Hz", watcher=Watcher(interval_s=0.1, noise_w=0.01)),
    Case(title="power at 20 Hz, kept 0.1 s", watcher=Watcher(interval_s=0.05, noise_w=0.01, held_s=0.1)),
    Case(
        title="power at 10 Hz, on a grid",
        watcher=Watcher(interval_s=0.1, noise_w=0.01, jitter=0.005, late=0.0),
        judged=False,
    ),
    Case(
        title="counter at 20 Hz",
        watcher=Watcher(interval_s=0.05, held_s=0.001, resolution=2**-14),
        quantity=Quantity.ENERGY,
    ),
    Case(title="external meter, 100 Hz", watcher=Watcher(interval_s=0.01, noise_w=0.01), offset_s=1.0),
    Case(title="external meter, 10 Hz", watcher=Watcher(interval_s=0.1, noise_w=0.01), offset_s=1.0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One trace: relative errors of gross and net, the stated uncertainty of gross, and whether the intervals hold the truth.

    `missed_s` is by how much an external meter's clock was missed, `stated_s` the error that was stated.
    """

    gross: float
    net: float
    stated: float
    gross_held: bool
    net_held: bool
    missed_s: float
    stated_s: float


def measure(quick: bool) -> list[Row]:
    """Derive the energy of every trace of every case."""
    traces, draws = (_QUICK_TRACES, _QUICK_DRAWS) if quick else (_TRACES, _DRAWS)
    rows: list[Row] = []
    for case in CASES:
        progress(f"{case.title}: {draws} traces")
        rng = random.Random(_SEED)
        rows += rows_of(case, [outcome(case, rng) for _ in range(draws)], traces)
    return rows


def outcome(case: Case, rng: random.Random) -> Outcome:
    """Draw a trace, look at it, and hold what the agent makes of it against the truth."""
    trace = PowerTrace.drawn(rng, idle_s=_REST_S, load_s=rng.uniform(10, 20), ripple=0.03)
    watcher = replace(case.watcher, noise_w=case.watcher.noise_w * trace.load_w)
    look = watcher.joules if case.quantity is Quantity.ENERGY else watcher.watts
    offset_s = rng.uniform(-case.offset_s, case.offset_s)
    samples = [(time + offset_s, value) for time, value in look(trace, rng, trace.end_s + _REST_S)]
    measurement = record(trace, {"power": samples}, runs=_RUNS)
    (found,) = energy_of(measurement, [case.channel()]).estimates
    if found.net_j is None or found.net_uncertainty_j is None:
        raise CannotMeasure(f"{case.title}: no net energy: {found.net_unavailable}")
    gross = (trace.energy_j(trace.end_s) - trace.energy_j(trace.start_s)) / _RUNS
    net = gross - (trace.idle_j(trace.end_s) - trace.idle_j(trace.start_s)) / _RUNS
    missed_s = 0.0
    if case.offset_s:
        since_load = [time - trace.start_s for time, _ in samples]
        series = Series(times_s=since_load, values=[watts for _, watts in samples])
        missed_s = abs(align(series, Work.of(measurement).edges()).shift_s - offset_s)
    return Outcome(
        gross=abs(found.gross_j / gross - 1),
        net=abs(found.net_j / net - 1),
        stated=found.gross_uncertainty_j / gross,
        gross_held=abs(found.gross_j - gross) <= found.gross_uncertainty_j,
        net_held=abs(found.net_j - net) <= found.net_uncertainty_j,
        missed_s=missed_s,
        stated_s=found.alignment_error_s or 0.0,
    )


def rows_of(case: Case, found: Sequence[Outcome], traces: int) -> list[Row]:
    """Return the rows of one case: errors over the first `traces`, shares over all that were drawn."""
    first = found[:traces]
    rows: list[Row] = []
    for name, goal_percent, errors in (
        ("gross", 100, [one.gross for one in first]),
        ("net", 95, [one.net for one in first]),
    ):
        for percent, words in ((50, "median error"), (95, "error of 95 % of traces"), (100, "largest error")):
            error = 100 * percentile(errors, percent)
            metric = f"{case.title}: {name}, {words}"
            goal = case.judged and percent == goal_percent
            rows.append(judged(metric, error, "%", ERROR) if goal else Row(metric=metric, value=error, unit="%"))
    stated = 100 * median(one.stated for one in found)
    rows.append(Row(metric=f"{case.title}: gross, stated uncertainty (median)", value=stated, unit="%"))
    rows.append(_share(f"{case.title}: gross inside the interval", [one.gross_held for one in found]))
    rows.append(_share(f"{case.title}: net inside the interval", [one.net_held for one in found]))
    if case.offset_s:
        missed = percentile([one.missed_s for one in found], 95)
        rows.append(Row(metric=f"{case.title}: clock missed by, 95 % of traces", value=1000 * missed, unit="ms"))
        stated_s = median(one.stated_s for one in found)
        rows.append(Row(metric=f"{case.title}: clock, stated error (median)", value=1000 * stated_s, unit="ms"))
        held = [one.missed_s <= one.stated_s for one in found]
        rows.append(_share(f"{case.title}: clock inside its stated error", held))
    return rows


def _share(metric: str, held: Sequence[bool]) -> Row:
    return judged(metric, sum(held) / len(held), "share", HELD, interval=wilson(sum(held), len(held)))


def wilson(hits: int, count: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927)."""
    share, z2 = hits / count, 1.96**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = math.sqrt(z2 * (share * (1 - share) / count + z2 / (4 * count**2))) / (1 + z2 / count)
    return max(0.0, middle - half), min(1.0, middle + half)


BENCHMARK = Benchmark(name="energy", about=__doc__ or "", measure=measure)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
