"""Energy counters of x86 processors: /sys/class/powercap/intel-rapl:*/{name,energy_uj,max_energy_range_uj}.

Kernel documentation: Documentation/power/powercap/powercap.rst; AMD's processors have them under the same name. The counter, in
microjoules, starts again at 0 when it reaches its range. It changes about once a millisecond (Intel SDM, volume 3, "RAPL
interfaces"). Since 2020 (CVE-2020-8694) only root may read it. intel-rapl-mmio counts a package a second time and is left out.

A zone such as intel-rapl:0:1 lies in intel-rapl:0. core and uncore are parts of their package, dram is not; psys is the
platform, all of these included.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from device_agent.contract.device import Channel, Quantity
from device_agent.contract.measurement import Reading
from device_agent.sensors.base import KeptFile, NotHere, Sensor, is_denied, numbered, read_once, shown

KIND = "rapl"
ZONES = "sys/class/powercap/intel-rapl:*"
FILES = tuple(f"{ZONES}/{name}" for name in ("name", "energy_uj", "max_energy_range_uj"))
_NOTE = "the processor's own count: without the power supply, disks, screen and fans"
_SITES = {"core": "cpu", "uncore": "gpu", "dram": "memory", "psys": "board"}


class EnergyCounter:
    """A counter that wraps, as one that does not. The wrap is seen if it is read at least once per turn of the counter."""

    def __init__(self, file: KeptFile, range_uj: int) -> None:
        self._file = file
        self._range_uj = range_uj
        self._last_uj: int | None = None
        self._turns = 0

    def read_j(self) -> float | None:
        """Return the joules counted, None if the counter cannot be read now."""
        number = self._file.number()
        if number is None:
            return None
        counted = int(number)
        if self._last_uj is not None and counted < self._last_uj:
            self._turns += 1
        self._last_uj = counted
        return (counted + self._turns * self._range_uj) / 1e6

    def close(self) -> None:
        """Close the file and forget its value: how often it wraps until the next read, nobody counts."""
        self._file.close()
        self._last_uj, self._turns = None, 0


class Rapl(Sensor):
    """One cumulative energy channel per zone."""

    kind = KIND
    interval_s = 0.05

    def __init__(self, rows: tuple[tuple[Channel, EnergyCounter], ...]) -> None:
        self._rows = rows

    @classmethod
    def find(cls, root: Path) -> Rapl | NotHere:
        """Return the zones under `root` that may be read."""
        names = _zone_names(root)
        if not names:
            return NotHere(reason=f"no /{ZONES}; a virtual machine has none, elsewhere the module is intel_rapl_msr")
        platform = next((name for name in names.values() if name == f"{KIND}.psys"), None)
        rows: list[tuple[Channel, EnergyCounter]] = []
        denied: list[str] = []
        for folder, name in names.items():
            path = folder / "energy_uj"
            range_uj = read_once(folder / "max_energy_range_uj") or ""
            if is_denied(path):
                denied.append(shown(path, root))
            elif path.exists() and range_uj.isdigit() and int(range_uj) > 0:
                within = names.get(folder.with_name(folder.name.rpartition(":")[0]))
                kind = read_once(folder / "name")
                channel = Channel(
                    name=name,
                    quantity=Quantity.ENERGY,
                    site=_SITES.get(kind or "", "cpu"),
                    source=shown(path, root),
                    meter=KIND,
                    part_of=_part_of(name, kind, within, platform),
                    interval_s=0.001,
                    note=None if name == platform else _NOTE,
                )
                rows.append((channel, EnergyCounter(KeptFile(path), int(range_uj))))
        if rows:
            there = {channel.name for channel, _ in rows}
            return cls(
                tuple(
                    (channel if channel.part_of in there else replace(channel, part_of=None), counter)
                    for channel, counter in rows
                )
            )
        if denied:
            return NotHere(
                reason=f"{denied[0]} may be read by root only; run the agent as root, or: sudo chmod a+r /{ZONES}/energy_uj",
                broken=True,
            )
        return NotHere(reason=f"/{ZONES} has no energy_uj with a max_energy_range_uj", broken=True)

    @property
    def channels(self) -> tuple[Channel, ...]:
        return tuple(channel for channel, _ in self._rows)

    def read(self, now_ns: int) -> tuple[Reading, ...]:
        readings: list[Reading] = []
        for channel, counter in self._rows:
            value = counter.read_j()
            if value is not None:
                readings.append(Reading(channel=channel.name, time_ns=now_ns, value=value))
        return tuple(readings)

    def close(self) -> None:
        for _, counter in self._rows:
            counter.close()


def _part_of(name: str, kind: str | None, package: str | None, platform: str | None) -> str | None:
    """Return the channel that includes this one: its package, else the platform, where the processor counts one."""
    if name == platform:
        return None
    return platform if kind == "dram" or package is None else package


def _zone_names(root: Path) -> dict[Path, str]:
    """Return the channel's name of every zone: `rapl.package-0`, and `rapl.package-0.core` for a zone inside it."""
    seen: Counter[str] = Counter()
    names: dict[Path, str] = {}
    for folder in sorted(root.glob(ZONES), key=_zone_order):
        within = names.get(folder.with_name(folder.name.rpartition(":")[0]), KIND)
        names[folder] = numbered(f"{within}.{read_once(folder / 'name') or folder.name}", seen)
    return names


def _zone_order(folder: Path) -> list[int]:
    """Sort zones by their numbers, a zone before those inside it."""
    return [int(part) if part.isdigit() else -1 for part in folder.name.split(":")[1:]]
