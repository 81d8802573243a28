"""What the sensors say of a measurement: throttled, under-voltage, hot. Pure functions on the readings during the runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from device_agent.contract.device import Channel, Quantity
from device_agent.contract.measurement import Reading, Verdict, VerdictCode
from device_agent.contract.statistics import median

#: A clock this much below its top is capped; a governor's own steps near the top are smaller on boards and wander as much on x86.
FREQUENCY_DROP = 0.05
#: A clock that falls again and again, as firmware does at its limit, is twice as far below in this share of the time.
DEEP_DROP, DEEP_SHARE = 0.1, 0.1
#: The top is what this share of the samples reached, and never fewer than two: one sample may be a glitch.
_TOP_SHARE = 0.03
HOT_MARGIN_C = 5.0
#: Counters of over-current and under-voltage events (device_agent/sensors/soctherm_oc.py).
OVER_CURRENT = "soctherm."
#: Bits of vcgencmd get_throttled that say what holds now; 16 to 19 say what has happened since the boot.
_UNDER_VOLTAGE, _CAPPED, _THROTTLED, _SOFT_LIMIT = 1, 2, 4, 8


def throttled(
    readings: Sequence[Reading], channels: Sequence[Channel], *, before: Sequence[Reading] = ()
) -> Iterable[Verdict]:
    """Firmware bits first, then over-current counters, then the clock. `before` are readings from before the runs: a counter's
    last value in there is where its rise begins."""
    bits = _bits(readings, channels) & (_CAPPED | _THROTTLED | _SOFT_LIMIT)
    if bits:
        hint = "the firmware capped the clock; cool the board or improve its power supply, then measure again"
        yield Verdict(code=VerdictCode.THROTTLED, value=float(bits), unit="flags", threshold=0.0, hint=hint)
        return
    events = _events(readings, before, channels)
    if events:
        hint = "the supply hit its limit and the hardware slowed down; choose a smaller power mode (nvpmodel) or another supply"
        yield Verdict(code=VerdictCode.THROTTLED, value=events, unit="over-current events", threshold=0.0, hint=hint)
        return
    drop = _drop(_fastest_clock(readings, channels))
    if drop > FREQUENCY_DROP:
        hint = "the clock fell during the runs; cool the board, or set the governor to performance and measure again"
        yield Verdict(
            code=VerdictCode.THROTTLED,
            value=drop,
            unit="relative drop of the clock",
            threshold=FREQUENCY_DROP,
            hint=hint,
        )


def _drop(clocks: Sequence[float]) -> float:
    """Return how far the clock fell after it had first reached its top, as a share of the top; 0 for fewer than three samples.

    A governor that ramps up starts low: what comes before the top is no cap. Counted is the median of the last third, or, for a
    clock that falls and recovers, of the samples that are far below, where these are more than a few.
    """
    if len(clocks) < 3:
        return 0.0
    top = sorted(clocks)[-max(2, round(len(clocks) * _TOP_SHARE))]
    reached = next(place for place, clock in enumerate(clocks) if clock >= top)
    since = clocks[reached:]
    end = 1 - median(since[-max(1, len(since) // 3) :]) / top
    deep = [clock for clock in since if clock < (1 - DEEP_DROP) * top]
    falls = 1 - median(deep) / top if len(deep) > DEEP_SHARE * len(since) else 0.0
    return max(end, falls)


def _events(readings: Sequence[Reading], before: Sequence[Reading], channels: Sequence[Channel]) -> float:
    """Return how many over-current events were counted during the runs, by the counter that rose most."""
    rises = [0.0]
    earlier = _values(before, channels, Quantity.COUNT)
    for name, values in _values(readings, channels, Quantity.COUNT).items():
        if name.startswith(OVER_CURRENT):
            rises.append(values[-1] - (earlier[name][-1] if name in earlier else values[0]))
    return max(rises)


def under_voltage(readings: Sequence[Reading], channels: Sequence[Channel]) -> Iterable[Verdict]:
    """Bit 0 of any flags channel."""
    if _bits(readings, channels) & _UNDER_VOLTAGE:
        hint = "the supply voltage fell too low; use the board's own power supply and a short cable"
        yield Verdict(code=VerdictCode.UNDER_VOLTAGE, value=1.0, unit="flag", threshold=0.0, hint=hint)


def hot(
    readings: Sequence[Reading], channels: Sequence[Channel], throttle_temperature_c: float | None
) -> Iterable[Verdict]:
    """Within five degrees of the temperature at which the profile says that the board throttles."""
    if throttle_temperature_c is None:
        return
    sites = {channel.name for channel in channels if channel.site in ("cpu", "soc", "gpu")}
    peaks = [max(values) for name, values in _values(readings, channels, Quantity.TEMPERATURE).items() if name in sites]
    limit = throttle_temperature_c - HOT_MARGIN_C
    if peaks and max(peaks) >= limit:
        hint = f"the board throttles at {throttle_temperature_c:g} degrees; add cooling or pause between measurements"
        yield Verdict(code=VerdictCode.HOT, value=max(peaks), unit="degrees Celsius", threshold=limit, hint=hint)


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
