"""The readings of a job as verdicts need them, in bounded memory: a day of ten sensors at ten hertz is a gigabyte of objects."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence

from device_agent.contract.device import Channel, Quantity
from device_agent.contract.measurement import Reading

#: Per channel; hours at one reading a second.
MOST_READINGS = 4096
#: Verdicts look at neither; both have their own place in the result, and come fast.
_LEFT_OUT = (Quantity.POWER, Quantity.ENERGY, Quantity.MEMORY)


class ReadingLog:
    """Keeps the channels that verdicts look at. A channel that outgrows its room is thinned to half by joining neighbours, and
    later readings are joined by as many, so that it stays even over time.

    Of several flags every bit stays, of several temperatures or other values the largest; of several clocks the last, so that a
    median stays one. Channels that are read together are thinned together, so their times go on agreeing.
    """

    def __init__(self, channels: Iterable[Channel], most: int = MOST_READINGS) -> None:
        self._channels = {one.name: _Thinned(one.quantity, most) for one in channels if one.quantity not in _LEFT_OUT}

    def extend(self, readings: Iterable[Reading]) -> None:
        """Add readings in the order of their times."""
        for reading in readings:
            channel = self._channels.get(reading.channel)
            if channel is not None:
                channel.add(reading.time_ns, reading.value)

    def readings(self) -> Sequence[Reading]:
        """Return what was kept, in the order of times."""
        found = [
            Reading(channel=name, time_ns=time_ns, value=value)
            for name, channel in self._channels.items()
            for time_ns, value in zip(channel.times, channel.values, strict=True)
        ]
        return sorted(found, key=lambda reading: reading.time_ns)


class _Thinned:
    """One channel: every value stands for `_span` readings and has the time of the last of them, the newest maybe for fewer."""

    def __init__(self, quantity: Quantity, most: int) -> None:
        self._quantity = quantity
        self._most = most - most % 2
        self._span = 1
        self._newest = 1  # readings that the last value stands for
        self.times = array("q")
        self.values = array("d")

    def add(self, time_ns: int, value: float) -> None:
        if self.times and self._newest < self._span:
            self._newest += 1
            self.times[-1] = time_ns
            self.values[-1] = self._joined(self.values[-1], value)
            return
        if len(self.times) == self._most:
            self.times = self.times[1::2]
            self.values = array("d", map(self._joined, self.values[::2], self.values[1::2]))
            self._span *= 2
        self._newest = 1
        self.times.append(time_ns)
        self.values.append(value)

    def _joined(self, first: float, second: float) -> float:
        if self._quantity is Quantity.FLAGS:
            return float(int(first) | int(second))
        return second if self._quantity is Quantity.FREQUENCY else max(first, second)
