"""Waiting until a device is cool again, so that a job does not pay for the heat of the one before it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from device_agent.contract.device import DeviceInfo, Quantity
from device_agent.contract.measurement import Reading

#: Between two looks. A board cools over minutes, and its sensor has a step of half a degree or more.
LOOK_S = 2.0
#: A board goes back to its first temperature ever more slowly; this near to it counts as there.
NEAR_C = 2.0
#: Sites whose temperature is the processor's, the nearest first.
_SITES = ("cpu", "soc", "gpu", "board")


@dataclass(frozen=True, slots=True, kw_only=True)
class CoolingWait:
    """A wait that ended: temperatures at its beginning and end, what was wanted, and how long it took."""

    from_c: float
    to_c: float
    wanted_c: float
    seconds: float
    reached: bool


def temperature_of(info: DeviceInfo, readings: Sequence[Reading]) -> float | None:
    """Return the highest temperature at the site nearest to the processor; None if no sensor there answered."""
    sites = {channel.name: channel.site for channel in info.channels if channel.quantity is Quantity.TEMPERATURE}
    for site in (*_SITES, *sorted(set(sites.values()) - set(_SITES))):
        values = [reading.value for reading in readings if sites.get(reading.channel) == site]
        if values:
            return max(values)
    return None


def cool_down(
    temperature: Callable[[], float | None],
    wanted_c: float,
    *,
    limit_s: float,
    now: Callable[[], float],
    wait: Callable[[float], bool],
) -> CoolingWait | None:
    """Wait until `temperature()` is `wanted_c` or less, for `limit_s` at most. None if it was so at once or cannot be read.

    `wait(seconds)` returns whether to give up waiting.
    """
    first = temperature()
    if first is None or first <= wanted_c:
        return None
    begin, last = now(), first
    while now() - begin < limit_s and not wait(min(LOOK_S, limit_s)):
        found = temperature()
        last = last if found is None else found
        if last <= wanted_c:
            break
    return CoolingWait(from_c=first, to_c=last, wanted_c=wanted_c, seconds=now() - begin, reached=last <= wanted_c)
