"""Reads sensors while a job runs, each at its own rate, off the event loop.

Quick sensors take turns in one thread; those that are known to be slow have a thread of their own. If a quick one takes too long
(a bus that hangs), it keeps that thread to itself, and the others go on in a new one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType

from device_agent.contract.measurement import Reading
from device_agent.sensors import Sensor

#: After so long a read of a quick sensor has lost its place among the others. On a busy board a thread may wait for its turn.
PATIENCE_S = 0.5
#: At the end of a job, for reads that are on their way. A sensor that hangs must not hold up the end.
_JOIN_S = 0.5

_log = logging.getLogger(__name__)

#: Sensors that a thread has in hand. They outlive samplers: one that hangs is still held by the thread of an earlier job.
_held: set[Sensor] = set()
_held_lock = threading.Lock()


class _Bell:
    """Wakes one waiting thread. Waiting for a lock takes half of what waiting for a Condition takes, twenty times a second."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def ring(self) -> None:
        """End a wait, or the next one if nobody waits now."""
        with suppress(RuntimeError):  # it has been rung already
            self._lock.release()

    def wait(self, seconds: float) -> None:
        """Wait until it rings, or so long."""
        self._lock.acquire(timeout=min(seconds, threading.TIMEOUT_MAX))


class _Lane:
    """A thread and the sensors that take turns in it; guarded by the sampler's lock, apart from the bell."""

    def __init__(self) -> None:
        self.due_ns: dict[Sensor, int] = {}
        self.reading: Sensor | None = None
        self.since_ns = 0
        self.ended = False
        self.thread: threading.Thread | None = None
        self.bell = _Bell()


class Sampler:
    """Samples from entry to exit; `drain` hands over what was read since the last call."""

    def __init__(
        self,
        sensors: Iterable[Sensor] = (),
        *,
        clock: Callable[[], int] = time.monotonic_ns,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._clock = clock
        self._patience_s = patience_s
        self._first = tuple(sensors)
        self._readings: deque[Reading] = deque()
        self._lock = threading.Lock()
        self._stopping = False
        self._quick = _Lane()
        self._quick.ended = True
        self._lanes: list[_Lane] = []
        self._watch: threading.Thread | None = None
        self._watch_bell = _Bell()

    def __enter__(self) -> Sampler:
        for sensor in self._first:
            self.add(sensor)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def add(self, sensor: Sensor) -> None:
        """Start to sample one more sensor. One that an earlier sampler still waits for is left out, and the log says so."""
        with _held_lock:
            if sensor in _held:
                _log.warning("sensor %s still hangs from an earlier job; this one goes on without it", _names(sensor))
                return
            _held.add(sensor)
        with self._lock:
            now_ns = self._clock()
            if sensor.slow:
                self._start({sensor: now_ns})
            elif self._quick.ended:
                self._quick = self._start({sensor: now_ns})
            else:
                self._quick.due_ns[sensor] = now_ns
                self._quick.bell.ring()
            if self._watch is None:
                self._watch = threading.Thread(target=self._watch_quick, name="sensor-watch", daemon=True)
                self._watch.start()

    def drain(self) -> tuple[Reading, ...]:
        """Return the readings since the last call, in the order of their times."""
        taken = [self._readings.popleft() for _ in range(len(self._readings))]
        return tuple(sorted(taken, key=lambda reading: reading.time_ns))

    def stop(self) -> None:
        """End sampling; returns within half a second. Readings made so far can still be drained. May be called twice."""
        with self._lock:
            self._stopping = True
            for bell in (self._watch_bell, *(lane.bell for lane in self._lanes)):
                bell.ring()
            threads = [lane.thread for lane in self._lanes if not self._hangs(lane)]
        until_s = time.monotonic() + _JOIN_S
        for thread in (*threads, self._watch):
            if thread is not None:
                thread.join(max(0.0, until_s - time.monotonic()))
        self._watch = None

    def _start(self, due_ns: dict[Sensor, int]) -> _Lane:
        """Give sensors a thread of their own, with the lock held."""
        lane = _Lane()
        lane.due_ns = due_ns
        lane.thread = threading.Thread(target=self._sample, args=(lane,), name="sensor", daemon=True)
        self._lanes.append(lane)
        lane.thread.start()
        return lane

    def _hangs(self, lane: _Lane) -> bool:
        return lane.reading is not None and self._clock() - lane.since_ns > self._patience_s * 1e9

    def _watch_quick(self) -> None:
        """Move the others out of the way of a quick sensor that takes too long."""
        while not self._stopping:
            with self._lock:
                stuck = self._quick.reading
                if stuck is not None and len(self._quick.due_ns) > 1 and self._hangs(self._quick):
                    others = {sensor: due for sensor, due in self._quick.due_ns.items() if sensor is not stuck}
                    self._quick.due_ns = {stuck: self._quick.due_ns[stuck]}
                    self._quick = self._start(others)
            self._watch_bell.wait(self._patience_s)

    def _sample(self, lane: _Lane) -> None:
        while (sensor := self._next(lane)) is not None:
            try:
                self._readings.extend(sensor.read(self._clock()))
            except Exception:
                _log.exception("sensor %s failed; this job goes on without it", _names(sensor))
                with self._lock:
                    del lane.due_ns[sensor]
                _release(sensor)
            else:
                with self._lock:
                    lane.due_ns[sensor] = self._following(lane.due_ns[sensor], sensor.interval_s)
            lane.reading = None
        for sensor in lane.due_ns:
            _release(sensor)

    def _next(self, lane: _Lane) -> Sensor | None:
        """Wait for the next sensor that is due; None when sampling ends or no sensor is left."""
        while True:
            with self._lock:
                if self._stopping or not lane.due_ns:
                    lane.ended = True
                    return None
                sensor = min(lane.due_ns, key=lane.due_ns.__getitem__)
                now_ns = self._clock()
                wait_ns = lane.due_ns[sensor] - now_ns
                if wait_ns <= 0:
                    lane.reading, lane.since_ns = sensor, now_ns
                    return sensor
            lane.bell.wait(wait_ns / 1e9)

    def _following(self, due_ns: int, interval_s: float) -> int:
        """Return when a sensor is due again: on its own grid, so that sensors share their wake-ups. Missed samples are gone."""
        interval_ns = max(1, round(interval_s * 1e9))
        missed = max(0, (self._clock() - due_ns) // interval_ns)
        return due_ns + (missed + 1) * interval_ns


def _names(sensor: Sensor) -> str:
    return ", ".join(channel.name for channel in sensor.channels)


def _release(sensor: Sensor) -> None:
    sensor.close()
    with _held_lock:
        _held.discard(sensor)
