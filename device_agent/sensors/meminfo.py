"""What memory is left: MemAvailable and SwapFree of /proc/meminfo, in KiB.

Kernel documentation: Documentation/filesystems/proc.rst. MemAvailable (Linux 3.14) is the kernel's estimate of what a program
can get without swapping. A swap that fills during a measurement explains a tail.
"""

from __future__ import annotations

from pathlib import Path

from device_agent.contract.device import Channel, Quantity
from device_agent.contract.measurement import Reading
from device_agent.sensors.base import KeptFile, NotHere, Sensor, read_once

FILES = ("proc/meminfo",)
_NAMES = {"MemAvailable": "memory.available", "SwapFree": "memory.swap-free"}


class MemoryLeft(Sensor):
    """`memory.available`, and `memory.swap-free` on a board that has swap."""

    kind = "meminfo"
    interval_s = 1.0

    def __init__(self, path: Path, fields: tuple[str, ...]) -> None:
        self._file = KeptFile(path)
        self._fields = fields

    @classmethod
    def find(cls, root: Path) -> MemoryLeft | NotHere:
        """Return the sensor for the file under `root`."""
        path = root / "proc/meminfo"
        if not path.exists():
            return NotHere(reason="no /proc/meminfo")
        values = parse(read_once(path) or "")
        fields = tuple(name for name in _NAMES if name in values and (name != "SwapFree" or values.get("SwapTotal")))
        if not fields:
            return NotHere(reason="/proc/meminfo has no MemAvailable; Linux has it from 3.14 on", broken=True)
        return cls(path, fields)

    @property
    def channels(self) -> tuple[Channel, ...]:
        return tuple(
            Channel(name=_NAMES[field], quantity=Quantity.MEMORY, site="board", source=f"/proc/meminfo, {field}")
            for field in self._fields
        )

    def read(self, now_ns: int) -> tuple[Reading, ...]:
        values = parse(self._file.read() or "")
        return tuple(
            Reading(channel=_NAMES[field], time_ns=now_ns, value=float(values[field]))
            for field in self._fields
            if field in values
        )

    def close(self) -> None:
        self._file.close()


def parse(text: str) -> dict[str, int]:
    """Return the fields of a meminfo text in bytes; lines that are not `name: number kB` are left out."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        words = value.split()
        if len(words) == 2 and words[0].isdigit() and words[1] == "kB":
            found[name] = int(words[0]) * 1024
    return found
