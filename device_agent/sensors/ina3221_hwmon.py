"""INA3221 on a Jetson with JetPack 5 or newer: the kernel's own driver, a hardware monitor.

/sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*/ with inN_label, inN_input in mV and currN_input in mA, N = 1..3. There is no power
file: P = V * I. in4 to in6 are shunt voltages, in7 is their sum. Kernel documentation: Documentation/hwmon/ina3221.rst.
The step of a current is 40 uV over the shunt (data sheet SBOS576, "shunt voltage register").
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from device_agent.contract.device import Channel
from device_agent.contract.measurement import Reading
from device_agent.sensors.base import KeptFile, NotHere, Sensor, read_once, shown
from device_agent.sensors.hwmon import micro_ohms, update_interval_s
from device_agent.sensors.ina3221 import INTERVAL_S, KIND, UNUSED, rail_channel, within_total

MONITORS = "sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*"
_NAMES = ("in[1-3]_label", "in[1-3]_input", "curr[1-3]_input", "shunt[1-3]_resistor", "update_interval")
FILES = tuple(f"{MONITORS}/{name}" for name in _NAMES)
_SHUNT_STEP_UV = 40


class Ina3221Hwmon(Sensor):
    """One power channel per rail that is connected; a rail of which voltage or current fails is silent."""

    kind = KIND

    def __init__(self, rows: tuple[tuple[Channel, KeptFile, KeptFile], ...]) -> None:
        self._rows = rows
        self.interval_s = max(INTERVAL_S, *(channel.interval_s or 0.0 for channel, _, _ in rows))

    @classmethod
    def find(cls, root: Path) -> Ina3221Hwmon | NotHere:
        """Return the rails of all chips under `root`."""
        seen: Counter[str] = Counter()
        channels: list[Channel] = []
        files: list[tuple[KeptFile, KeptFile]] = []
        for folder in sorted(root.glob(MONITORS)):
            interval_s = update_interval_s(folder)
            for number in (1, 2, 3):
                voltage, current = folder / f"in{number}_input", folder / f"curr{number}_input"
                # The chip's folder is hwmon/hwmonN below the I2C device, whose name is its address.
                rail = read_once(folder / f"in{number}_label") or f"{folder.parents[1].name}.{number}"
                if not voltage.exists() or not current.exists() or rail == UNUSED:
                    continue
                source = f"{shown(voltage, root)} * {current.name}"
                channel = rail_channel(rail, source, seen)
                channels.append(replace(channel, interval_s=interval_s, resolution=_step_w(folder, number)))
                files.append((KeptFile(voltage), KeptFile(current)))
        if not channels:
            return NotHere(reason=f"no /{MONITORS}")
        pairs = zip(within_total(channels), files, strict=True)
        return cls(tuple((channel, voltage, current) for channel, (voltage, current) in pairs))

    @property
    def channels(self) -> tuple[Channel, ...]:
        return tuple(channel for channel, _, _ in self._rows)

    def read(self, now_ns: int) -> tuple[Reading, ...]:
        readings: list[Reading] = []
        for channel, voltage, current in self._rows:
            millivolts, milliamperes = voltage.number(), current.number()
            if millivolts is not None and milliamperes is not None:
                power_w = millivolts * milliamperes / 1e6
                readings.append(Reading(channel=channel.name, time_ns=now_ns, value=power_w))
        return tuple(readings)

    def close(self) -> None:
        for _, voltage, current in self._rows:
            voltage.close()
            current.close()


def _step_w(folder: Path, number: int) -> float | None:
    """Return the step of a rail's power at the voltage that it has now, None where shunt or voltage is not known."""
    resistance = micro_ohms(folder / f"shunt{number}_resistor")
    millivolts = read_once(folder / f"in{number}_input") or ""
    if resistance is None or not millivolts.isdigit():
        return None
    return _SHUNT_STEP_UV / resistance * int(millivolts) / 1000
