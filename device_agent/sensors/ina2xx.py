"""INA219, INA226 and their kin, as a hat or a breakout board: power1_input in microwatts of the hardware monitor ina2xx.

Kernel documentation: Documentation/hwmon/ina2xx.rst. The monitor has the chip's own name. The step of a power is that of the
chip's register as the driver programs it: 20 steps of current on an INA219 or INA220 (10 uV over the shunt), 25 on the others
(2.5 uV); data sheets SBOS448 and SBOS547.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from device_agent.contract.device import Channel, Quantity
from device_agent.sensors.base import FileSensor, KeptFile, NotHere, numbered, read_once, shown
from device_agent.sensors.hwmon import MONITORS, NAME_FILE, micro_ohms, monitors, update_interval_s

KIND = "ina2xx"
FILES = (NAME_FILE, *(f"{MONITORS}/{name}" for name in ("power1_input", "shunt_resistor", "update_interval")))
#: Chip -> (steps of current in a step of power, step of the shunt voltage in uV).
_STEPS = {
    "ina219": (20, 10.0),
    "ina220": (20, 10.0),
    "ina226": (25, 2.5),
    "ina230": (25, 2.5),
    "ina231": (25, 2.5),
}
_NAMES = frozenset({*_STEPS, "ina2xx", "ina209", "ina234", "ina260"})


class Ina2xx(FileSensor):
    """One power channel per chip. Each chip is a meter of its own, since nobody knows what is wired through whose shunt."""

    kind = KIND
    divisor = 10**6

    def __init__(self, rows: list[tuple[Channel, KeptFile]]) -> None:
        super().__init__(rows)
        self.interval_s = max(0.05, *(channel.interval_s or 0.0 for channel, _ in rows))

    @classmethod
    def find(cls, root: Path) -> Ina2xx | NotHere:
        """Return the chips under `root`."""
        seen: Counter[str] = Counter()
        rows: list[tuple[Channel, KeptFile]] = []
        for folder in monitors(root, _NAMES):
            path = folder / "power1_input"
            if path.exists():
                chip = read_once(folder / "name") or KIND
                name = f"{KIND}.{numbered(chip, seen)}"
                channel = Channel(
                    name=name,
                    quantity=Quantity.POWER,
                    site="board",
                    source=shown(path, root),
                    meter=KIND if not rows else name,
                    interval_s=update_interval_s(folder),
                    resolution=_step_w(folder, chip),
                    note="whatever is wired through its shunt",
                )
                rows.append((channel, KeptFile(path)))
        return cls(rows) if rows else NotHere(reason=f"no hardware monitor {', '.join(sorted(_STEPS))} in /{MONITORS}")


def _step_w(folder: Path, chip: str) -> float | None:
    """Return the step of the power register, None for a chip or a shunt that is not known."""
    resistance = micro_ohms(folder / "shunt_resistor")
    if resistance is None or chip not in _STEPS:
        return None
    currents, step_uv = _STEPS[chip]
    return currents * step_uv / resistance
