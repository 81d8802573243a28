"""How many tasks run or wait: /proc/loadavg, the mean of the last minute.

Kernel documentation: Documentation/filesystems/proc.rst. It counts tasks in uninterruptible sleep too, so a slow disk raises it.
"""

from __future__ import annotations

from pathlib import Path

from device_agent.contract.device import Channel, Quantity
from device_agent.contract.measurement import Reading
from device_agent.sensors.base import KeptFile, NotHere, Sensor, read_once

LOAD = "cpu.load"
FILES = ("proc/loadavg", "sys/devices/system/cpu/online")


class LoadAverage(Sensor):
    """The load of the last minute over the processors that are online."""

    kind = "loadavg"
    interval_s = 1.0

    def __init__(self, path: Path, processors: int) -> None:
        self._file = KeptFile(path)
        self._processors = processors

    @classmethod
    def find(cls, root: Path) -> LoadAverage | NotHere:
        """Return the sensor for the file under `root`."""
        path = root / "proc/loadavg"
        if not path.exists():
            return NotHere(reason="no /proc/loadavg")
        return cls(path, count_processors(read_once(root / "sys/devices/system/cpu/online") or "") or 1)

    @property
    def channels(self) -> tuple[Channel, ...]:
        many = "one processor" if self._processors == 1 else f"{self._processors} processors"
        return (
            Channel(
                name=LOAD,
                quantity=Quantity.FRACTION,
                site="cpu",
                source=f"/proc/loadavg, one minute over {many}",
                interval_s=5.0,
                resolution=0.01 / self._processors,
                note="mean of the last minute",
            ),
        )

    def read(self, now_ns: int) -> tuple[Reading, ...]:
        try:
            tasks = float((self._file.read() or "").split()[0])
        except (IndexError, ValueError):
            return ()
        return (Reading(channel=LOAD, time_ns=now_ns, value=tasks / self._processors),)

    def close(self) -> None:
        self._file.close()


def count_processors(text: str) -> int:
    """Return how many processors a list such as `0-3,6` names; 0 for a text that is none."""
    count = 0
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdigit() or (last and not last.isdigit()):
            return 0
        count += int(last or first) - int(first) + 1
    return count
