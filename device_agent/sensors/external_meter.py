"""A power meter beside the board that sends lines `<seconds> <watts>`; docs/external-meters.md is the protocol.

Standard library only, and imported only where a meter was asked for.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from device_agent.contract.device import Channel, Quantity
from device_agent.contract.energy import EXTERNAL
from device_agent.contract.measurement import Reading
from device_agent.sensors.base import Sensor
from device_agent.sensors.meter_clock import MeterClock
from device_agent.sensors.meter_sources import Source, parse_source
from device_agent.sensors.survey import Survey

CHANNEL = f"{EXTERNAL}.power"
#: Samples closer than this are averaged into one reading: 100 a second tell as much, and a day of them can be kept.
BUCKET_NS = 10_000_000
#: A line without an end is thrown away from here on.
LONGEST_LINE = 1024
#: First and longest time between two attempts to connect.
BACKOFF_NS, LONGEST_BACKOFF_NS = 500_000_000, 4_000_000_000
#: Reads of one `read`: 1 MiB, what a serial port takes a minute and more for.
_MOST_READS = 16
#: Unix time reaches 1e11 s in the year 5138 and 1e12 ms in 2001.
_LATEST_S = 1e11
_MOST_W = 1e6

_log = logging.getLogger(__name__)


def external_meter(spec: str) -> ExternalMeter:
    """Return the meter at `serial:PATH[@BAUD]`, `tcp:HOST:PORT` or `file:PATH`. InvalidRequest for anything else."""
    return ExternalMeter(parse_source(spec))


def with_meter(found: Survey, spec: str | None) -> Survey:
    """Return what was found with an external meter added, None for none. InvalidRequest for a spec that is none."""
    if spec is None:
        return found
    missing = tuple(one for one in found.missing if one.kind != "power")
    return Survey(sensors=(*found.sensors, external_meter(spec)), missing=missing)


def parse_line(line: bytes) -> tuple[int, float] | None:
    """Return (ns of the meter's clock, watts) of one line, None for a comment or a blank one. ValueError for any other.

    Fields are separated by blanks, tabs, commas or semicolons; further ones are ignored.
    """
    text = line.partition(b"#")[0].replace(b",", b" ").replace(b";", b" ")
    fields = text.split()
    if not fields:
        return None
    if len(fields) < 2:
        raise ValueError("one field only")
    seconds, watts = float(fields[0]), float(fields[1])
    if not abs(seconds) < _LATEST_S:
        raise ValueError("the time is not in seconds")
    if not abs(watts) <= _MOST_W:
        raise ValueError("that is no power in watts")
    return round(seconds * 1e9), watts


class ExternalMeter(Sensor):
    """One meter. It is connected to at the first read of a job and let go at its end; it may vanish and come back meanwhile.

    Times of readings are the meter's own, brought to the device's clock by arrival. Bad lines, lost connections and a clock that
    was set are reported in the log once each, and counted in `bad_lines`, `losses` and `jumps`.
    """

    kind = "external-meter"
    interval_s = 0.05
    first_after_s = 3.0

    def __init__(self, source: Source) -> None:
        self._source = source
        self._channel = Channel(
            name=CHANNEL,
            quantity=Quantity.POWER,
            site="board",
            source=f"external meter, {source.spec}",
            meter=EXTERNAL,
        )
        self._clock = MeterClock()
        self._said: set[str] = set()
        self._open = False
        self._skipping = False
        self._rest = b""
        self._retry_ns: int | None = None
        self._backoff_ns = BACKOFF_NS
        self.bad_lines = 0
        self.losses = 0

    @property
    def channels(self) -> tuple[Channel, ...]:
        return (self._channel,)

    @property
    def jumps(self) -> int:
        """How often the meter's clock was set."""
        return self._clock.jumps

    def read(self, now_ns: int) -> tuple[Reading, ...]:
        """Return the readings whose times are known by now: none in the first second, until the clock's offset is settled."""
        jumps = self._clock.jumps
        ready: list[tuple[int, float]] = []
        for line in self._lines(now_ns):
            try:
                sample = parse_line(line)
            except ValueError as error:
                self.bad_lines += 1
                self._say("bad", f"line {line[:60]!r} is not '<seconds> <watts>' ({error}); such lines are skipped")
                continue
            if sample is not None:
                self._backoff_ns = BACKOFF_NS
                ready += self._clock.take(*sample, now_ns)
        ready += self._clock.due(now_ns)
        if self._clock.jumps > jumps:
            self._say("jump", "its clock was set while it was read; times are settled anew")
        return tuple(Reading(channel=CHANNEL, time_ns=time, value=watts) for time, watts in _averaged(ready))

    def close(self) -> None:
        self._source.close()
        self._open = False
        self._retry_ns = None
        self._backoff_ns = BACKOFF_NS

    def _lines(self, now_ns: int) -> list[bytes]:
        """Return the complete lines that arrived since the last read."""
        try:
            if not self._open:
                if self._retry_ns is not None and now_ns < self._retry_ns:
                    return []
                self._source.open()
                self._open, self._skipping, self._rest = True, self._source.joins_midway, b""
                self._clock.restart()
            return self._receive()
        except (OSError, EOFError) as error:
            self.losses += 1
            self._say("lost", f"{error}; trying again until the job ends")
            self._source.close()
            self._open = False
            self._retry_ns = now_ns + self._backoff_ns
            self._backoff_ns = min(2 * self._backoff_ns, LONGEST_BACKOFF_NS)
            return []

    def _receive(self) -> list[bytes]:
        data = bytearray(self._rest)
        for number in range(_MOST_READS):
            try:
                more = self._source.read()
            except (OSError, EOFError):
                if not number:
                    raise
                break  # what came before the end counts; the next read meets the end again
            data += more
            if not more:
                break
        *lines, self._rest = bytes(data).split(b"\n")
        if self._skipping and lines:
            self._skipping = False
            del lines[0]
        if len(self._rest) > LONGEST_LINE:
            self._rest = b""
            if not self._skipping:
                self._skipping = True
                self.bad_lines += 1
                self._say("bad", f"it sent {LONGEST_LINE} bytes without a newline; is the speed of the port right?")
        return lines

    def _say(self, what: str, text: str) -> None:
        if what not in self._said:
            self._said.add(what)
            _log.warning("external meter %s: %s", self._source.spec, text)


def _averaged(samples: Iterable[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return the means of times and values over stretches shorter than BUCKET_NS."""
    buckets: list[list[tuple[int, float]]] = []
    for sample in samples:
        if buckets and sample[0] - buckets[-1][0][0] < BUCKET_NS:
            buckets[-1].append(sample)
        else:
            buckets.append([sample])
    return [
        (sum(time for time, _ in bucket) // len(bucket), sum(value for _, value in bucket) / len(bucket))
        for bucket in buckets
    ]
