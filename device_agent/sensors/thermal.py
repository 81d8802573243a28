"""Thermal zones: /sys/class/thermal/thermal_zone*/{type,temp}, in thousandths of a degree Celsius.

Kernel documentation: Documentation/driver-api/thermal/sysfs-api.rst. Zone numbers change between kernels, so channels are
named by type; a type may occur more than once, a temperature may be below zero, and a disabled zone fails on read.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from device_agent.contract.device import Channel, Quantity
from device_agent.sensors.base import FileSensor, KeptFile, NotHere, natural, numbered, read_once, shown

ZONES = "sys/class/thermal/thermal_zone*"
FILES = (f"{ZONES}/type", f"{ZONES}/temp")


class ThermalZones(FileSensor):
    """All thermal zones of the board. A second zone of the same type gets the suffix `#2`."""

    kind = "thermal"
    interval_s = 0.5
    divisor = 1000

    @classmethod
    def find(cls, root: Path) -> ThermalZones | NotHere:
        """Return the zones under `root`."""
        seen: Counter[str] = Counter()
        zones: list[tuple[Channel, KeptFile]] = []
        for folder in sorted(root.glob(ZONES), key=natural):
            path = folder / "temp"
            if not path.exists():
                continue
            zone = read_once(folder / "type") or folder.name
            channel = Channel(
                name=f"thermal.{numbered(zone, seen)}",
                quantity=Quantity.TEMPERATURE,
                site=_site(zone),
                source=shown(path, root),
            )
            zones.append((channel, KeptFile(path)))
        return cls(zones) if zones else NotHere(reason=f"no /{ZONES}/temp; virtual machines have none")


def _site(zone: str) -> str:
    """Boards spell it cpu-thermal, cpu_thermal, CPU-therm, x86_pkg_temp, coretemp."""
    lowered = zone.lower()
    for site, words in (("cpu", ("cpu", "x86_pkg", "core")), ("gpu", ("gpu",)), ("soc", ("soc", "tj"))):
        if any(word in lowered for word in words):
            return site
    return "board"
