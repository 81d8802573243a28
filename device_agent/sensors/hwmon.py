"""Hardware monitors: /sys/class/hwmon/hwmon*/name. Their numbers change with the order of probing, so they are found by name.

Kernel documentation: Documentation/hwmon/sysfs-interface.rst.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from device_agent.sensors.base import natural, read_once

MONITORS = "sys/class/hwmon/hwmon*"
NAME_FILE = f"{MONITORS}/name"


def monitors(root: Path, names: Collection[str]) -> list[Path]:
    """Return the folders of the monitors that have one of these names, in the order of their numbers."""
    return [folder for folder in sorted(root.glob(MONITORS), key=natural) if read_once(folder / "name") in names]


def update_interval_s(folder: Path) -> float | None:
    """Return the time between two conversions of a monitor, None where it does not say (update_interval, in ms)."""
    text = read_once(folder / "update_interval") or ""
    return int(text) / 1000 if text.isdigit() and int(text) > 0 else None


def micro_ohms(path: Path) -> int | None:
    """Return the shunt resistance in a file, None where there is none (shunt_resistor, shuntN_resistor, in uOhm)."""
    text = read_once(path) or ""
    return int(text) if text.isdigit() and int(text) > 0 else None
