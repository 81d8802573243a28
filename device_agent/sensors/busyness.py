"""How busy the machine is: /proc/loadavg and /proc/pressure/cpu.

Kernel documentation: Documentation/accounting/psi.rst. `some avg10` is the percentage of the last ten seconds in which a
runnable task waited for a processor. Old kernels have no pressure file.
"""

from __future__ import annotations

from pathlib import Path

from device_agent.contract.device import Channel, Quantity
from device_agent.contract.measurement import Reading
from device_agent.sensors.base import KeptFile, Sensor

PRESSURE, LOAD = "cpu.pressure", "cpu.load"


class Busyness(Sensor):
    """CPU pressure as a fraction, and the load of the last minute (tasks that run or wait) over the processors."""

    interval_s = 1.0

    def __init__(self, pressure: KeptFile | None, load: KeptFile | None, cores: int) -> None:
        self._pressure = pressure
        self._load = load
        self._cores = cores

    @classmethod
    def find(cls, root: Path) -> Busyness | None:
        """Return the sensor for the files under `root`, None if there is neither."""
        pressure, load = root / "proc/pressure/cpu", root / "proc/loadavg"
        if not pressure.exists() and not load.exists():
            return None
        cores = len(list(root.glob("sys/devices/system/cpu/cpu[0-9]*"))) or 1
        return cls(KeptFile(pressure) if pressure.exists() else None, KeptFile(load) if load.exists() else None, cores)

    @property
    def channels(self) -> tuple[Channel, ...]:
        made: list[Channel] = []
        for file, name, source in (
            (self._pressure, PRESSURE, "/proc/pressure/cpu, some avg10"),
            (self._load, LOAD, f"/proc/loadavg, one minute over {self._cores} processors"),
        ):
            if file is not None:
                made.append(Channel(name=name, quantity=Quantity.FRACTION, site="cpu", source=source))
        return tuple(made)

    def read(self, now_ns: int) -> tuple[Reading, ...]:
        readings: list[Reading] = []
        for name, value in ((PRESSURE, self._read_pressure()), (LOAD, self._read_load())):
            if value is not None:
                readings.append(Reading(channel=name, time_ns=now_ns, value=value))
        return tuple(readings)

    def _read_pressure(self) -> float | None:
        text = self._pressure.read() if self._pressure is not None else None
        for word in (text or "").partition("\n")[0].split():
            key, _, value = word.partition("=")
            if key == "avg10":
                return _number(value, 100)
        return None

    def _read_load(self) -> float | None:
        text = self._load.read() if self._load is not None else None
        return None if text is None else _number(text.split()[0], self._cores)

    def close(self) -> None:
        for file in (self._pressure, self._load):
            if file is not None:
                file.close()


def _number(text: str, divisor: float) -> float | None:
    try:
        return float(text) / divisor
    except ValueError:
        return None
