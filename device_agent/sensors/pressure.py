"""How long tasks wait for a processor, for memory, for a disk: /proc/pressure/{cpu,memory,io}.

Kernel documentation: Documentation/accounting/psi.rst. `some avg10` is the percentage of the last ten seconds in which at least
one task waited; the kernel computes it anew every two seconds. Kernels before 4.20 have no such files, others need psi=1.
"""

from __future__ import annotations

from pathlib import Path

from device_agent.contract.device import Channel, Quantity
from device_agent.sensors.base import FileSensor, KeptFile, NotHere

CPU = "cpu.pressure"
FILES = ("proc/pressure/cpu", "proc/pressure/memory", "proc/pressure/io")


class Pressure(FileSensor):
    """Pressure as fractions: `cpu.pressure`, and `memory.pressure` and `io.pressure` where the kernel has them."""

    kind = "pressure"
    interval_s = 1.0

    @classmethod
    def find(cls, root: Path) -> Pressure | NotHere:
        """Return the sensor for the files under `root`."""
        rows: list[tuple[Channel, KeptFile]] = []
        for name in FILES:
            path = root / name
            if path.exists():
                channel = Channel(
                    name=f"{path.name}.pressure",
                    quantity=Quantity.FRACTION,
                    site="cpu" if path.name == "cpu" else "board",
                    source=f"/{name}, some avg10",
                    interval_s=2.0,
                    resolution=0.0001,
                    note="mean of the last ten seconds",
                )
                rows.append((channel, KeptFile(path)))
        return cls(rows) if rows else NotHere(reason="no /proc/pressure; Linux has it from 4.20 on, if built with PSI")

    def number(self, file: KeptFile) -> float | None:
        return some_avg10(file.read() or "")


def some_avg10(text: str) -> float | None:
    """Return `some avg10` of a pressure file as a fraction, None if the text has none."""
    for line in text.splitlines():
        words = line.split()
        for word in words[1:] if words[:1] == ["some"] else ():
            key, _, value = word.partition("=")
            if key == "avg10":
                try:
                    return float(value) / 100
                except ValueError:
                    return None
    return None
