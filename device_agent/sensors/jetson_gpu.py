"""A Jetson's GPU: its load in per mille, and its clock in Hz.

Load: /sys/devices/gpu.0/load, /sys/devices/platform/gpu.0/load or /sys/devices/platform/bus@0/17000000.gpu/load, by release.
Clock: cur_freq of its devfreq device, which is named after the unit's address and chip (57000000.gpu, 17000000.gv11b, ...ga10b).
"""

from __future__ import annotations

from pathlib import Path

from device_agent.contract.device import Channel, Quantity
from device_agent.contract.measurement import Reading
from device_agent.sensors.base import KeptFile, NotHere, Sensor, shown

LOAD, CLOCK = "jetson-gpu.load", "jetson-gpu.clock"
LOADS = ("sys/devices/gpu.0/load", "sys/devices/platform/gpu.0/load", "sys/devices/platform/bus@0/*.gpu/load")
CLOCKS = tuple(f"sys/class/devfreq/*.{chip}/cur_freq" for chip in ("gpu", "gp10b", "gv11b", "ga10b"))
FILES = (*LOADS, *CLOCKS)


class JetsonGpu(Sensor):
    """`jetson-gpu.load` and `jetson-gpu.clock`, or the one of the two that is there."""

    kind = "jetson-gpu"
    interval_s = 0.1

    def __init__(self, rows: tuple[tuple[Channel, KeptFile, int], ...]) -> None:
        self._rows = rows

    @classmethod
    def find(cls, root: Path) -> JetsonGpu | NotHere:
        """Return the sensor for the files under `root`."""
        rows: list[tuple[Channel, KeptFile, int]] = []
        for name, quantity, patterns, divisor in (
            (LOAD, Quantity.FRACTION, LOADS, 1000),
            (CLOCK, Quantity.FREQUENCY, CLOCKS, 1),
        ):
            path = next((path for pattern in patterns for path in sorted(root.glob(pattern))), None)
            if path is not None:
                step = 1 / divisor if quantity is Quantity.FRACTION else None
                channel = Channel(name=name, quantity=quantity, site="gpu", source=shown(path, root), resolution=step)
                rows.append((channel, KeptFile(path), divisor))
        return cls(tuple(rows)) if rows else NotHere(reason=f"none of {', '.join(f'/{name}' for name in FILES)}")

    @property
    def channels(self) -> tuple[Channel, ...]:
        return tuple(channel for channel, _, _ in self._rows)

    def read(self, now_ns: int) -> tuple[Reading, ...]:
        readings: list[Reading] = []
        for channel, file, divisor in self._rows:
            number = file.number()
            if number is not None:
                readings.append(Reading(channel=channel.name, time_ns=now_ns, value=number / divisor))
        return tuple(readings)

    def close(self) -> None:
        for _, file, _ in self._rows:
            file.close()
