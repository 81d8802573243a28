"""What a measurement says about itself: each finding with its figure, its threshold and the next command. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Protocol

from device_agent.contract.device import Channel, Quantity
from device_agent.contract.measurement import Reading, Run, RunKind, Verdict, VerdictCode
from device_agent.contract.settings import MeasureRequest
from device_agent.contract.statistics import median, median_interval, steadiest

#: A run shorter than this many clock ticks cannot be timed to 1 %.
CLOCK_TICKS = 100
#: Reading the clock twice costs a Python process some 0.1 us; below this the loop itself is over 1 % of the run.
SHORTEST_RUN_NS = 10_000
DISTURBED_SHARE = 0.1
STEAL_SHARE = 0.02
#: Drift of the median from the first to the last third, beyond what a rank test at this many sigmas calls chance.
DRIFT_SHARE = 0.02
DRIFT_SIGMAS = 4.0
FREQUENCY_DROP = 0.05
HOT_MARGIN_C = 5.0
#: The unstable verdict's threshold where the request asked for no precision.
DEFAULT_PRECISION = 0.05

_UNDER_VOLTAGE, _CAPPED, _THROTTLED, _SOFT_LIMIT = 1, 2, 4, 8


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
    during = [reading for reading in readings if begin <= reading.time_ns <= end]
    own = facts.artifacts[artifact]
    found = [
        *_too_short(timed, facts.clock_resolution_ns),
        *_contended(timed, facts.steal_fraction),
        *_unstable(timed, request.stopping.precision, alone=len(request.artifacts) == 1),
        *_throttled(during, channels),
        *_under_voltage(during, channels),
        *_hot(during, channels, throttle_temperature_c),
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
        *_throttled(readings, channels),
        *_under_voltage(readings, channels),
        *_hot(readings, channels, throttle_temperature_c),
        *_fell_back(asked_provider, ran),
    ]
    return tuple(found) or (Verdict(code=VerdictCode.STABLE),)


def _too_short(timed: Sequence[Run], clock_resolution_ns: int) -> Iterable[Verdict]:
    typical = median(run.latency_ns for run in timed)
    least = max(CLOCK_TICKS * clock_resolution_ns, SHORTEST_RUN_NS)
    if typical < least:
        hint = "the clock and the loop are a visible part of such a run; use a larger input or batch"
        yield Verdict(code=VerdictCode.TOO_SHORT, value=float(typical), unit="ns", threshold=float(least), hint=hint)


def _contended(timed: Sequence[Run], steal_fraction: float | None) -> Iterable[Verdict]:
    share = sum(run.disturbed for run in timed) / len(timed)
    if share > DISTURBED_SHARE:
        hint = "other work took the processor during these runs; stop it, or pin the worker with --cpus"
        yield Verdict(
            code=VerdictCode.CONTENDED,
            value=share,
            unit="share of runs preempted",
            threshold=DISTURBED_SHARE,
            hint=hint,
        )
    elif steal_fraction is not None and steal_fraction > STEAL_SHARE:
        hint = "the hypervisor gave the processor to other machines; measure again later or on a dedicated machine"
        yield Verdict(
            code=VerdictCode.CONTENDED,
            value=steal_fraction,
            unit="share of a core stolen",
            threshold=STEAL_SHARE,
            hint=hint,
        )


def _unstable(timed: Sequence[Run], precision: float | None, *, alone: bool) -> Iterable[Verdict]:
    """Several artifacts ask for the precision of their ratios, so each median alone is held to the default one."""
    latencies = steadiest(timed)
    wanted = precision if precision is not None and alone else DEFAULT_PRECISION
    width = median_interval(latencies).relative_half_width
    if width is None or width > wanted:
        value = 1.0 if width is None else width
        hint = "raise --max-time, or compare with a baseline in the same job, where drift cancels"
        yield Verdict(
            code=VerdictCode.UNSTABLE,
            value=value,
            unit="relative half-width of the median",
            threshold=wanted,
            hint=hint,
        )
        return
    change, sigmas = drift(latencies)
    if abs(change) > DRIFT_SHARE and abs(sigmas) > DRIFT_SIGMAS:
        hint = "the latency moved during the measurement; raise --warmup-time and let the device reach its temperature"
        yield Verdict(
            code=VerdictCode.UNSTABLE,
            value=change,
            unit="relative drift of the median",
            threshold=DRIFT_SHARE,
            hint=hint,
        )


def drift(latencies: Sequence[float]) -> tuple[float, float]:
    """Return (relative change of the median from the first to the last third, its Mann-Whitney z). (0, 0) for under nine.

    The z takes values as independent; autocorrelation inflates it, hence a threshold of several sigmas and a size beside it.
    """
    third = len(latencies) // 3
    if third < 3:
        return 0.0, 0.0
    first, last = latencies[:third], latencies[-third:]
    change = median(last) / median(first) - 1
    ordered = sorted([(value, 0) for value in first] + [(value, 1) for value in last])
    ranks = 0.0
    place = 0
    while place < len(ordered):
        same = place
        while same < len(ordered) and ordered[same][0] == ordered[place][0]:
            same += 1
        shared = (place + 1 + same) / 2
        ranks += shared * sum(side for _, side in ordered[place:same])
        place = same
    u = ranks - third * (third + 1) / 2
    sigma = math.sqrt(third * third * (2 * third + 1) / 12)
    return change, (u - third * third / 2) / sigma


def _values(readings: Sequence[Reading], channels: Sequence[Channel], quantity: Quantity) -> dict[str, list[float]]:
    """Return the values of every channel of a quantity, by channel name."""
    found: dict[str, list[float]] = {channel.name: [] for channel in channels if channel.quantity is quantity}
    for reading in readings:
        if reading.channel in found:
            found[reading.channel].append(reading.value)
    return {name: values for name, values in found.items() if values}


def _fastest_clock(readings: Sequence[Reading], channels: Sequence[Channel]) -> list[float]:
    """Return the highest clock of all processors at each moment that was sampled.

    The clocks of idle processors and of a GPU wander with the governor and say nothing; the fastest processor is at work.
    """
    clocks = {one.name for one in channels if one.quantity is Quantity.FREQUENCY and one.site == "cpu"}
    fastest: dict[int, float] = {}
    for reading in readings:
        if reading.channel in clocks:
            fastest[reading.time_ns] = max(reading.value, fastest.get(reading.time_ns, 0.0))
    return [fastest[time_ns] for time_ns in sorted(fastest)]


def _bits(readings: Sequence[Reading], channels: Sequence[Channel]) -> int:
    """Return every bit that a flags channel showed during the runs."""
    every = 0
    for values in _values(readings, channels, Quantity.FLAGS).values():
        for value in values:
            every |= int(value)
    return every


def _throttled(readings: Sequence[Reading], channels: Sequence[Channel]) -> Iterable[Verdict]:
    bits = _bits(readings, channels) & (_CAPPED | _THROTTLED | _SOFT_LIMIT)
    if bits:
        hint = "the firmware capped the clock; cool the board or improve its power supply, then measure again"
        yield Verdict(code=VerdictCode.THROTTLED, value=float(bits), unit="flags", threshold=0.0, hint=hint)
        return
    clocks = _fastest_clock(readings, channels)
    highest = max(clocks, default=0.0)
    # A governor that ramps up starts low and ends high; only an end below the peak is a cap.
    drop = 1 - median(clocks[-max(1, len(clocks) // 3) :]) / highest if highest else 0.0
    if drop > FREQUENCY_DROP:
        hint = "the clock fell during the runs; cool the board, or set the governor to performance and measure again"
        yield Verdict(
            code=VerdictCode.THROTTLED,
            value=drop,
            unit="relative drop of the clock",
            threshold=FREQUENCY_DROP,
            hint=hint,
        )


def _under_voltage(readings: Sequence[Reading], channels: Sequence[Channel]) -> Iterable[Verdict]:
    if _bits(readings, channels) & _UNDER_VOLTAGE:
        hint = "the supply voltage fell too low; use the board's own power supply and a short cable"
        yield Verdict(code=VerdictCode.UNDER_VOLTAGE, value=1.0, unit="flag", threshold=0.0, hint=hint)


def _hot(
    readings: Sequence[Reading], channels: Sequence[Channel], throttle_temperature_c: float | None
) -> Iterable[Verdict]:
    if throttle_temperature_c is None:
        return
    sites = {channel.name for channel in channels if channel.site in ("cpu", "soc", "gpu")}
    peaks = [max(values) for name, values in _values(readings, channels, Quantity.TEMPERATURE).items() if name in sites]
    limit = throttle_temperature_c - HOT_MARGIN_C
    if peaks and max(peaks) >= limit:
        hint = f"the board throttles at {throttle_temperature_c:g} degrees; add cooling or pause between measurements"
        yield Verdict(code=VerdictCode.HOT, value=max(peaks), unit="degrees Celsius", threshold=limit, hint=hint)


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
