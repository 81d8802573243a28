"""How often a CPU quota stopped us: nr_throttled of the cgroup's cpu.stat.

Kernel documentation: Documentation/admin-guide/cgroup-v2.rst (cpu.stat) and Documentation/scheduler/sched-bwc.rst (v1). A group
that has used up its quota waits for the next period, of 100 ms as a rule: the fastest run stays, slow ones take a period more.
Read where the limits are read (device_agent/board.py): the group that is mounted as /sys/fs/cgroup, as in a container.
"""

from __future__ import annotations

from pathlib import Path

from device_agent.contract.device import Channel, Quantity
from device_agent.contract.measurement import Reading
from device_agent.sensors.base import KeptFile, NotHere, Sensor, read_once

CHANNEL = "cgroup.cpu-throttled"
FILES = tuple(f"sys/fs/cgroup/{name}" for name in ("cpu.stat", "cpu/cpu.stat", "cpu,cpuacct/cpu.stat"))


class CgroupThrottling(Sensor):
    """The number of periods in which the group was stopped, cumulative: take differences over the run."""

    kind = "cgroup-cpu"
    interval_s = 0.5

    def __init__(self, path: Path, source: str) -> None:
        self._file = KeptFile(path)
        self._channel = Channel(
            name=CHANNEL,
            quantity=Quantity.COUNT,
            site="cpu",
            source=source,
            resolution=1.0,
            note="periods in which a CPU quota stopped this group, cumulative",
        )

    @classmethod
    def find(cls, root: Path) -> CgroupThrottling | NotHere:
        """Return the sensor of the first cpu.stat (v2, then v1) that counts throttled periods."""
        for name in FILES:
            if throttled_periods(read_once(root / name) or "") is not None:
                return cls(root / name, f"/{name}, nr_throttled")
        return NotHere(reason="no cpu.stat with nr_throttled in /sys/fs/cgroup, so no CPU quota can be set there")

    @property
    def channels(self) -> tuple[Channel, ...]:
        return (self._channel,)

    def read(self, now_ns: int) -> tuple[Reading, ...]:
        count = throttled_periods(self._file.read() or "")
        return () if count is None else (Reading(channel=CHANNEL, time_ns=now_ns, value=float(count)),)

    def close(self) -> None:
        self._file.close()


def throttled_periods(text: str) -> int | None:
    """Return nr_throttled of a cpu.stat text, None if it has none: the root group of version 2 counts none."""
    for line in text.splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == "nr_throttled" and words[1].isdigit():
            return int(words[1])
    return None
