"""A soak as a table over time: what the latency, the clock, the temperature and the power did while the device got warm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from device_agent.contract.device import Channel, Quantity
from device_agent.contract.energy import power_meters
from device_agent.contract.measurement import Measurement, Reading, RunKind
from device_agent.contract.statistics import median, percentile
from device_agent.contract.verdicts import QUOTA

#: So many rows fit on a screen, and a window still holds enough runs for a p90.
WINDOWS = 15
#: The bits of a flags channel that say what holds now; higher ones say what has happened since the boot (vcgencmd get_throttled).
FLAG_WORDS = ((1, "under-voltage"), (2, "capped"), (4, "throttled"), (8, "soft limit"))


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakWindow:
    """A stretch of a soak. Times count from its first moment; `runs` are the recorded ones, the only ones with a latency.

    `clock_hz` is the median over time of the fastest processor's clock, `temperature_c` the highest of any sensor on the chip,
    `flags` every bit that a flags channel showed, `counts` how far each counter of events (a Jetson's over-current, a quota's
    stops) rose, by channel, `power_w` the mean. None: no run was recorded, or no such sensor was read.
    """

    start_s: float
    end_s: float
    runs: int
    p50_ns: float | None
    p90_ns: float | None
    clock_hz: float | None
    temperature_c: float | None
    flags: int | None
    counts: tuple[tuple[str, float], ...]
    power_w: float | None


def soak_windows(
    measurement: Measurement, channels: Sequence[Channel], count: int = WINDOWS, *, artifact: int = 0
) -> tuple[SoakWindow, ...]:
    """Return the timed part of a measurement cut into `count` windows of equal length, in order of time.

    A run belongs to the window in which it began. Empty without timed runs. ValueError for a count under one.
    """
    if count < 1:
        raise ValueError(f"count={count} is not at least 1")
    timed = [run for run in measurement.runs if run.artifact == artifact and run.kind is RunKind.TIMED]
    span = measurement.result.timed_span
    if not timed:
        return ()
    begin, end = span or (timed[0].start_ns, max(run.start_ns + run.latency_ns for run in timed))
    length = max(1, end - begin) / count
    latencies: list[list[int]] = [[] for _ in range(count)]
    readings: list[list[Reading]] = [[] for _ in range(count)]
    for run in timed:
        latencies[_place(run.start_ns - begin, length, count)].append(run.latency_ns)
    for reading in measurement.readings:
        if begin <= reading.time_ns <= end:
            readings[_place(reading.time_ns - begin, length, count)].append(reading)
    rises: list[dict[str, float]] = [{} for _ in range(count)]
    for name, time_ns, rise in _rises(measurement.readings, channels):
        if begin <= time_ns <= end:
            own = rises[_place(time_ns - begin, length, count)]
            own[name] = own.get(name, 0.0) + rise
    return tuple(
        _window(
            place * length / 1e9,
            (place + 1) * length / 1e9,
            latencies[place],
            readings[place],
            channels,
            counts=tuple(rises[place].items()),
        )
        for place in range(count)
    )


def throttle_words(flags: int | None, counts: Mapping[str, float]) -> tuple[str, ...] | None:
    """Return what the bits and the counters of a window say, such as `throttled` or `soctherm.oc1 +2`; None: nobody was asked."""
    # A CPU quota's counter is there on every machine, and says nothing of heat or supply unless it rises.
    if flags is None and not any(name != QUOTA or rise for name, rise in counts.items()):
        return None
    words = [word for bit, word in FLAG_WORDS if (flags or 0) & bit]
    return (*words, *(f"{name} +{rise:.0f}" for name, rise in counts.items() if rise))


def _place(since_ns: int, length: float, count: int) -> int:
    return min(count - 1, max(0, int(since_ns / length)))


def _rises(readings: Iterable[Reading], channels: Sequence[Channel]) -> Iterable[tuple[str, int, float]]:
    """Yield how far every counter of events rose from one reading to the next, at the time of the later one."""
    before: dict[str, float | None] = {channel.name: None for channel in channels if channel.quantity is Quantity.COUNT}
    for reading in readings:
        if reading.channel in before:
            last = before[reading.channel]
            if last is not None:
                yield reading.channel, reading.time_ns, max(0.0, reading.value - last)
            before[reading.channel] = reading.value


def _window(
    start_s: float,
    end_s: float,
    latencies: Sequence[int],
    readings: Sequence[Reading],
    channels: Sequence[Channel],
    *,
    counts: tuple[tuple[str, float], ...],
) -> SoakWindow:
    values: dict[str, list[float]] = {}
    for reading in readings:
        values.setdefault(reading.channel, []).append(reading.value)
    temperatures = [
        max(values[channel.name])
        for channel in _of(channels, Quantity.TEMPERATURE, values)
        if channel.site in ("cpu", "gpu", "soc")
    ]
    flags = [int(value) for channel in _of(channels, Quantity.FLAGS, values) for value in values[channel.name]]
    every = 0
    for value in flags:
        every |= value
    return SoakWindow(
        start_s=start_s,
        end_s=end_s,
        runs=len(latencies),
        p50_ns=percentile(latencies, 50) if latencies else None,
        p90_ns=percentile(latencies, 90) if latencies else None,
        clock_hz=_clock(readings, channels),
        temperature_c=max(temperatures, default=None),
        flags=every if flags else None,
        counts=counts,
        power_w=_power(readings, channels),
    )


def _of(channels: Sequence[Channel], quantity: Quantity, values: Mapping[str, object]) -> list[Channel]:
    """Return the channels of a quantity that were read."""
    return [channel for channel in channels if channel.quantity is quantity and channel.name in values]


def _clock(readings: Sequence[Reading], channels: Sequence[Channel]) -> float | None:
    """Return the median over time of the fastest clock. Idle processors' clocks wander; the fastest one is at work."""
    clocks = {channel.name for channel in channels if channel.quantity is Quantity.FREQUENCY and channel.site != "gpu"}
    fastest: dict[int, float] = {}
    for reading in readings:
        if reading.channel in clocks:
            fastest[reading.time_ns] = max(reading.value, fastest.get(reading.time_ns, 0.0))
    return median(fastest.values()) if fastest else None


def _power(readings: Sequence[Reading], channels: Sequence[Channel]) -> float | None:
    """Return the mean power as one meter saw it, the preferred one of those that were read whole."""
    for meter in power_meters(channels):
        powers = [_mean_power(readings, channel) for channel in meter]
        if None not in powers:
            return sum(power for power in powers if power is not None)
    return None


def _mean_power(readings: Sequence[Reading], channel: Channel) -> float | None:
    """Return the mean of a power, or the rise over time of a counter."""
    own = [reading for reading in readings if reading.channel == channel.name]
    if channel.quantity is Quantity.POWER:
        return sum(reading.value for reading in own) / len(own) if own else None
    if len(own) < 2 or own[-1].time_ns <= own[0].time_ns or own[-1].value < own[0].value:
        return None  # too few, or the counter was set back
    return (own[-1].value - own[0].value) / ((own[-1].time_ns - own[0].time_ns) / 1e9)
