"""What a measurement says about itself: each finding with its figure, its threshold and the next command. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Protocol

from device_agent.contract.device import Channel
from device_agent.contract.disturbance import marks_are_void, steadiest
from device_agent.contract.measurement import Reading, Run, RunKind, Verdict, VerdictCode
from device_agent.contract.sensor_verdicts import hot, throttled, under_voltage
from device_agent.contract.settings import MeasureRequest
from device_agent.contract.stability import drift, modes
from device_agent.contract.statistics import FEWEST_BLOCKS, SHORTEST_BLOCK_TIMES, median, median_interval

#: A run shorter than this many clock ticks cannot be timed to 1 %.
CLOCK_TICKS = 100
#: Reading the clock twice costs a Python process some 0.1 us; below this the loop itself is over 1 % of the run.
SHORTEST_RUN_NS = 10_000
DISTURBED_SHARE = 0.1
#: Share of the timed part that preempted runs took beyond a typical run: of a fast model few meet a neighbour, and wait long.
LOST_SHARE = 0.2
STEAL_SHARE = 0.02
#: Share of the time in which a task waited for a processor. A quiet machine shows some 0.03, a busy loop on every core 0.4 to 1.
PRESSURE_SHARE = 0.2
#: The channels that tell of others, by their names (device_agent/sensors/pressure.py, cgroup_cpu.py).
PRESSURE, QUOTA = "cpu.pressure", "cgroup.cpu-throttled"
#: The kernel's avg10: an exponential mean with this time constant, computed anew every two seconds.
_PRESSURE_S, _PRESSURE_STEP_S = 10.0, 2.0
#: A period of a CPU quota, unless somebody set another; and the share of periods that may be cut short.
_QUOTA_PERIOD_S = 0.1
QUOTA_SHARE = 0.01
#: Drift of the median from the first to the last third, beyond what a rank test at this many sigmas calls chance.
DRIFT_SHARE = 0.02
DRIFT_SIGMAS = 3.5
#: Two modes are worth a word this far apart, with this share of the runs each, and with this many times fewer runs between them.
MODES_APART = 0.02
MODE_SHARE = 0.15
VALLEY_DEPTH = 5.0
#: The unstable verdict's threshold where the request asked for no precision.
DEFAULT_PRECISION = 0.05


class ArtifactFacts(Protocol):
    """What a worker says of one artifact."""

    @property
    def provider(self) -> str: ...

    @property
    def provider_share(self) -> float | None: ...


class JobFacts(Protocol):
    """What a worker says of the whole job."""

    @property
    def artifacts(self) -> Sequence[ArtifactFacts]: ...

    @property
    def clock_resolution_ns(self) -> int: ...

    @property
    def steal_fraction(self) -> float | None: ...


def judge(
    request: MeasureRequest,
    artifact: int,
    runs: Sequence[Run],
    readings: Sequence[Reading],
    facts: JobFacts,
    *,
    channels: Sequence[Channel] = (),
    throttle_temperature_c: float | None = None,
) -> tuple[Verdict, ...]:
    """Return the findings on one artifact of a job, STABLE alone if there are none.

    `runs` and `readings` are those of the whole job; of the readings only those during the artifact's timed runs count, and
    only those of `channels`, which say what a reading is. `throttle_temperature_c` comes from the device profile.
    """
    timed = [run for run in runs if run.artifact == artifact and run.kind is RunKind.TIMED]
    if not timed:
        hint = "no run was timed; raise --max-time or lower --min-runs"
        return (Verdict(code=VerdictCode.UNSTABLE, value=0.0, unit="runs", threshold=1.0, hint=hint),)
    begin, end = timed[0].start_ns, timed[-1].start_ns + timed[-1].latency_ns
    known = {channel.name for channel in channels}
    usable = [reading for reading in readings if reading.channel in known]
    during = [reading for reading in usable if begin <= reading.time_ns <= end]
    own = facts.artifacts[artifact]
    found = [
        *_too_short(timed, facts.clock_resolution_ns),
        *_contended(timed, usable, facts, begin, end),
        *_unstable(timed, request),
        *throttled(during, channels, before=[reading for reading in usable if reading.time_ns < begin]),
        *under_voltage(during, channels),
        *hot(during, channels, throttle_temperature_c),
        *_fell_back(request.settings.provider, own),
    ]
    return tuple(found) or (Verdict(code=VerdictCode.STABLE),)


def judge_load(
    readings: Sequence[Reading],
    *,
    channels: Sequence[Channel],
    throttle_temperature_c: float | None,
    asked_provider: str | None,
    ran: ArtifactFacts,
) -> tuple[Verdict, ...]:
    """Return the findings on a load job, STABLE alone if there are none, by the readings during its trials.

    The load itself fills the processors and moves the latencies, so contention and drift say nothing here.
    """
    found = [
        *throttled(readings, channels),
        *under_voltage(readings, channels),
        *hot(readings, channels, throttle_temperature_c),
        *_fell_back(asked_provider, ran),
    ]
    return tuple(found) or (Verdict(code=VerdictCode.STABLE),)


def _too_short(timed: Sequence[Run], clock_resolution_ns: int) -> Iterable[Verdict]:
    typical = median(run.latency_ns for run in timed)
    least = max(CLOCK_TICKS * clock_resolution_ns, SHORTEST_RUN_NS)
    if typical < least:
        hint = "the clock and the loop are a visible part of such a run; measure a larger --batch or a larger input"
        yield Verdict(code=VerdictCode.TOO_SHORT, value=float(typical), unit="ns", threshold=float(least), hint=hint)


def _contended(
    timed: Sequence[Run], readings: Sequence[Reading], facts: JobFacts, begin_ns: int, end_ns: int
) -> Iterable[Verdict]:
    """The marks of disturbed runs tell most, where they tell anything; else the pressure does.

    On two threads the process's counter marks 0 to 2 % of short runs that nobody preempts, and over 95 % beside busy loops.
    """
    by_marks = not marks_are_void(timed)
    pressure = _pressure(readings, begin_ns, end_ns)
    seconds = (end_ns - begin_ns) / 1e9
    stopped = _rise(readings, QUOTA, begin_ns, end_ns) * _QUOTA_PERIOD_S / seconds if seconds > 0 else 0.0
    findings = (
        (
            sum(run.disturbed for run in timed) / len(timed) if by_marks else 0.0,
            "share of runs preempted",
            DISTURBED_SHARE,
            "other work took the processor during these runs; stop it, or pin the worker to idle processors with --cpus",
        ),
        (
            _lost_share(timed) if by_marks else 0.0,
            "share of the runs' time lost to preemption",
            LOST_SHARE,
            "other work took the processor: the undisturbed median stands, but mean, tail and energy hold the waiting; stop it, "
            "or pin the worker to idle processors with --cpus",
        ),
        (
            0.0 if by_marks or pressure is None else pressure,
            "share of time that tasks waited for a processor",
            PRESSURE_SHARE,
            "more tasks than processors; stop other work, ask for fewer --threads, or pin the worker with --cpus. Preempted runs "
            "tell nothing here: of runs longer than a time slice nearly all are",
        ),
        (
            stopped,
            "share of time stopped by a CPU quota",
            QUOTA_SHARE,
            "the container's CPU quota stopped the worker; raise it, or ask for fewer --threads",
        ),
        (
            facts.steal_fraction or 0.0,
            "share of a core stolen",
            STEAL_SHARE,
            "the hypervisor gave the processor to other machines; measure again later or on a dedicated machine",
        ),
    )
    for value, unit, threshold, hint in findings:
        if value > threshold:
            yield Verdict(code=VerdictCode.CONTENDED, value=value, unit=unit, threshold=threshold, hint=hint)
            return


def _lost_share(timed: Sequence[Run]) -> float:
    """Return the share of the runs' time that the marked ones took beyond the median of the others."""
    clean = [run.latency_ns for run in timed if not run.disturbed]
    if not clean:
        return 0.0
    typical = median(clean)
    total = sum(run.latency_ns for run in timed)
    return sum(max(0.0, run.latency_ns - typical) for run in timed if run.disturbed) / total if total else 0.0


def _pressure(readings: Sequence[Reading], begin_ns: int, end_ns: int) -> float | None:
    """Return the CPU pressure of the window alone, None if the window is shorter than two of the kernel's steps.

    A reading is an exponential mean of the last ten seconds, so what was before the window is taken out.
    """
    inside = [one for one in readings if one.channel == PRESSURE and begin_ns <= one.time_ns <= end_ns]
    if not inside or (inside[-1].time_ns - begin_ns) / 1e9 < 2 * _PRESSURE_STEP_S:
        return None
    before = [one for one in readings if one.channel == PRESSURE and one.time_ns < begin_ns]
    first, last = before[-1] if before else inside[0], inside[-1]
    kept = math.exp(-(last.time_ns - max(begin_ns, first.time_ns)) / 1e9 / _PRESSURE_S)
    if kept > 0.9:
        return None
    return min(1.0, max(0.0, (last.value - first.value * kept) / (1 - kept)))


def _rise(readings: Sequence[Reading], channel: str, begin_ns: int, end_ns: int) -> float:
    """Return by how much a cumulative count rose during the window, from the last reading before it where there is one."""
    values = [one for one in readings if one.channel == channel and one.time_ns <= end_ns]
    before = [one.value for one in values if one.time_ns < begin_ns]
    inside = [one.value for one in values if one.time_ns >= begin_ns]
    return max(0.0, inside[-1] - (before or inside)[-1 if before else 0]) if inside else 0.0


def _unstable(timed: Sequence[Run], request: MeasureRequest) -> Iterable[Verdict]:
    """Drift and modes say why an interval is wide, so they come first. A soak is there to show a drift, so it has none of this.

    Several artifacts ask for the precision of their ratios, so each median alone is held to the default one.
    """
    if request.soak_s is not None:
        return
    latencies = steadiest(timed)
    alone = len(request.artifacts) == 1
    moved = drift(latencies)
    if abs(moved.change) > DRIFT_SHARE and abs(moved.sigmas) > DRIFT_SIGMAS:
        hint = "the latency moved during the measurement; raise --warmup-time, or see with --soak where it settles"
        if not alone:
            hint += ". The ratios are not touched: the drift cancels in them"
        yield Verdict(
            code=VerdictCode.UNSTABLE,
            value=moved.change,
            unit="relative drift of the median",
            threshold=DRIFT_SHARE,
            hint=hint,
        )
        return
    two = modes(latencies, MODE_SHARE)
    if two is not None and two.depth > VALLEY_DEPTH and two.apart > MODES_APART:
        hint = (
            f"two modes, {two.slow_share:.0%} of the runs in the slower one: a clock that flips, a worker that moves between"
            " unlike processors, or a neighbour that comes and goes; set the governor to performance, pin the worker with"
            " --cpu-group or --cpus, stop other work"
        )
        yield Verdict(
            code=VerdictCode.UNSTABLE,
            value=two.apart,
            unit="relative distance of two modes",
            threshold=MODES_APART,
            hint=hint,
        )
        return
    precision = request.stopping.precision
    wanted = precision if precision is not None and alone else DEFAULT_PRECISION
    found = median_interval(latencies)
    width = found.relative_half_width
    if width is None:
        hint = "too few runs for an interval, with the autocorrelation they have; raise --max-time"
        yield Verdict(
            code=VerdictCode.UNSTABLE,
            value=found.times,
            unit="independent runs that these are worth",
            threshold=FEWEST_BLOCKS * SHORTEST_BLOCK_TIMES,
            hint=hint if alone else f"{hint}. The ratios have intervals of their own",
        )
    elif width > wanted:
        longer = math.ceil((width / wanted) ** 2)
        hint = f"raise --max-time some {longer} times, or compare with a baseline in the same job, where drift cancels"
        yield Verdict(
            code=VerdictCode.UNSTABLE,
            value=width,
            unit="relative half-width of the median",
            threshold=wanted,
            hint=hint if alone else f"raise --max-time some {longer} times. The ratios have intervals of their own",
        )


def _fell_back(asked: str | None, own: ArtifactFacts) -> Iterable[Verdict]:
    if asked is None:
        return
    if own.provider != asked:
        hint = f"{asked} ran no node, {own.provider} ran them; `host devices info` lists the providers"
        yield Verdict(code=VerdictCode.FELL_BACK, value=0.0, unit="share of nodes", threshold=1.0, hint=hint)
    elif own.provider_share is not None and own.provider_share < 1:
        hint = f"{asked} lacks some operators; export the model without them, or ask for the default provider"
        yield Verdict(
            code=VerdictCode.FELL_BACK,
            value=own.provider_share,
            unit="share of nodes",
            threshold=1.0,
            hint=hint,
        )
