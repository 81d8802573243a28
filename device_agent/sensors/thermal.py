"""Thermal zones: /sys/class/thermal/thermal_zone*/{type,temp}, in thousandths of a degree Celsius.

Kernel documentation: Documentation/driver-api/thermal/sysfs-api.rst. Zone numbers change between kernels, so channels are
named by type; a type may occur more than once.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from device_agent.contract.device import Channel, Quantity
from device_agent.contract.measurement import Reading
from device_agent.sensors.base import KeptFile, Sensor, natural, read_once


class ThermalZones(Sensor):
    """All thermal zones of the board. A second zone of the same type gets the suffix `#2`."""

    interval_s = 0.5

    def __init__(self, zones: tuple[tuple[Channel, KeptFile], ...]) -> None:
        self._zones = zones

    @classmethod
    def find(cls, root: Path) -> ThermalZones | None:
        """Return the zones under `root`, None if there are none."""
        seen: Counter[str] = Counter()
        zones: list[tuple[Channel, KeptFile]] = []
        for folder in sorted(root.glob("sys/class/thermal/thermal_zone*"), key=natural):
            if not (folder / "temp").exists():
                continue
            kind = read_once(folder / "type") or folder.name
            seen[kind] += 1
            name = f"thermal.{kind}" if seen[kind] == 1 else f"thermal.{kind}#{seen[kind]}"
            channel = Channel(
                name=name,
                quantity=Quantity.TEMPERATURE,
                site=_site(kind),
                source=f"/{folder.relative_to(root)}/temp",
            )
            zones.append((channel, KeptFile(folder / "temp")))
        return cls(tuple(zones)) if zones else None

    @property
    def channels(self) -> tuple[Channel, ...]:
        return tuple(channel for channel, _ in self._zones)

    def read(self, now_ns: int) -> tuple[Reading, ...]:
        readings: list[Reading] = []
        for channel, file in self._zones:
            value = file.number()
            if value is not None:
                readings.append(Reading(channel=channel.name, time_ns=now_ns, value=value / 1000))
        return tuple(readings)

    def close(self) -> None:
        for _, file in self._zones:
            file.close()


def _site(kind: str) -> str:
    """Boards spell it cpu-thermal, cpu_thermal, CPU-therm, x86_pkg_temp, coretemp."""
    lowered = kind.lower()
    for site, words in (("cpu", ("cpu", "x86_pkg", "core")), ("gpu", ("gpu",)), ("soc", ("soc", "tj"))):
        if any(word in lowered for word in words):
            return site
    return "board"
