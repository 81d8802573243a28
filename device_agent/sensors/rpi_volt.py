"""Under-voltage as the kernel saw it on a Raspberry Pi: in0_lcrit_alarm of the hardware monitor rpi_volt.

Kernel: drivers/hwmon/raspberrypi-hwmon.c. It asks the firmware every two seconds whether the voltage was too low since it last
asked, so that a dip between two of our own looks at get_throttled is not lost.
"""

from __future__ import annotations

from pathlib import Path

from device_agent.contract.device import Channel, Quantity
from device_agent.sensors.base import FileSensor, KeptFile, NotHere, shown
from device_agent.sensors.hwmon import MONITORS, NAME_FILE, monitors

CHANNEL = "rpi-volt.under-voltage"
FILES = (NAME_FILE, f"{MONITORS}/in0_lcrit_alarm")


class RpiVolt(FileSensor):
    """Flags, of which only bit 0 is used, as in get_throttled: under-voltage."""

    kind = "rpi-volt"
    interval_s = 1.0

    @classmethod
    def find(cls, root: Path) -> RpiVolt | NotHere:
        """Return the sensor of a board with this monitor."""
        for folder in monitors(root, ("rpi_volt",)):
            path = folder / "in0_lcrit_alarm"
            if path.exists():
                channel = Channel(
                    name=CHANNEL,
                    quantity=Quantity.FLAGS,
                    site="board",
                    source=shown(path, root),
                    interval_s=2.0,
                    note="bit 0: the voltage was too low within the last two seconds",
                )
                return cls([(channel, KeptFile(path))])
        return NotHere(reason=f"no hardware monitor rpi_volt in /{MONITORS}; the module is raspberrypi_hwmon")
