"""Resident memory of the worker process: /proc/PID/statm, in pages.

Kernel documentation: Documentation/filesystems/proc.rst. One look takes about 70 us, against 2 ms for smaps_rollup.
"""

from __future__ import annotations

import os
from types import TracebackType

from device_agent.contract.device import Channel, Quantity
from device_agent.contract.measurement import Reading
from device_agent.sensors.base import Sensor

CHANNEL = Channel(name="worker.rss", quantity=Quantity.MEMORY, site="worker", source="/proc/PID/statm of the worker")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class ResidentMemory:
    """Reads the resident bytes of one process through a kept descriptor, which never turns to another process."""

    def __init__(self, pid: int) -> None:
        try:
            self._fd: int | None = os.open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._fd = None

    def read(self) -> int | None:
        """Return resident bytes; None once the process has ended."""
        if self._fd is None:
            return None
        try:
            pages = int(os.pread(self._fd, 256, 0).split()[1])
        except (OSError, IndexError, ValueError):
            return None
        return pages * _PAGE_BYTES or None

    def close(self) -> None:
        """Close the descriptor."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> ResidentMemory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class WorkerRss(Sensor):
    """The worker's resident memory over time. The peak in a result is the kernel's own mark, not the largest of these."""

    kind = "worker-rss"
    interval_s = 0.1

    def __init__(self, pid: int) -> None:
        self._memory = ResidentMemory(pid)

    @property
    def channels(self) -> tuple[Channel, ...]:
        return (CHANNEL,)

    def read(self, now_ns: int) -> tuple[Reading, ...]:
        used = self._memory.read()
        return () if used is None else (Reading(channel=CHANNEL.name, time_ns=now_ns, value=float(used)),)

    def close(self) -> None:
        self._memory.close()
