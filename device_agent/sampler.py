"""Reads sensors while a job runs: each in a thread of its own, so that a slow one delays no other."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType

from device_agent.contract.measurement import Reading
from device_agent.sensors import Sensor

#: A sensor that hangs (a bus without a device) must not hold up the end of a job.
_JOIN_S = 2.0

_log = logging.getLogger(__name__)


class Sampler:
    """Samples from entry to exit; `drain` hands over what was read since the last call."""

    def __init__(self, sensors: Iterable[Sensor] = (), *, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._stop = threading.Event()
        self._readings: deque[Reading] = deque()
        self._threads: list[threading.Thread] = []
        self._first = tuple(sensors)

    def __enter__(self) -> Sampler:
        for sensor in self._first:
            self.add(sensor)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def add(self, sensor: Sensor) -> None:
        """Start to sample one more sensor."""
        thread = threading.Thread(target=self._sample, args=(sensor,), name="sensor", daemon=True)
        self._threads.append(thread)
        thread.start()

    def drain(self) -> tuple[Reading, ...]:
        """Return the readings since the last call, in the order of their times."""
        taken = [self._readings.popleft() for _ in range(len(self._readings))]
        return tuple(sorted(taken, key=lambda reading: reading.time_ns))

    def stop(self) -> None:
        """End sampling. Readings made so far can still be drained. May be called twice."""
        self._stop.set()
        for thread in self._threads:
            thread.join(_JOIN_S)
        self._threads.clear()

    def _sample(self, sensor: Sensor) -> None:
        try:
            self._sample_until_stopped(sensor)
        except Exception:
            names = ", ".join(channel.name for channel in sensor.channels)
            _log.exception("sensor %s failed; this job goes on without it", names)
        finally:
            sensor.close()

    def _sample_until_stopped(self, sensor: Sensor) -> None:
        due_ns = self._clock()
        while not self._stop.is_set():
            self._readings.extend(sensor.read(self._clock()))
            due_ns += round(sensor.interval_s * 1e9)
            now_ns = self._clock()
            # After a pause of the whole machine the missed samples are gone; don't read them in a burst.
            due_ns = max(due_ns, now_ns)
            self._stop.wait((due_ns - now_ns) / 1e9)
