"""Over-current and under-voltage on a Jetson: the event counters of the hardware monitor soctherm_oc.

oc1_event_cnt to oc3_event_cnt (NVIDIA Jetson Linux developer guide, "Over-current event detection"). They count since boot:
take differences over the run. While an event lasts the hardware slows CPU and GPU.
"""

from __future__ import annotations

from pathlib import Path

from device_agent.contract.device import Channel, Quantity
from device_agent.sensors.base import FileSensor, KeptFile, NotHere, natural, shown
from device_agent.sensors.hwmon import MONITORS, NAME_FILE, monitors

FILES = (NAME_FILE, f"{MONITORS}/oc[0-9]_event_cnt")


class SocthermOc(FileSensor):
    """One cumulative count per detector."""

    kind = "soctherm-oc"
    interval_s = 0.5

    @classmethod
    def find(cls, root: Path) -> SocthermOc | NotHere:
        """Return the counters under `root`."""
        rows: list[tuple[Channel, KeptFile]] = []
        for folder in monitors(root, ("soctherm_oc",)):
            for path in sorted(folder.glob("oc[0-9]_event_cnt"), key=natural):
                channel = Channel(
                    name=f"soctherm.{path.name.partition('_')[0]}",
                    quantity=Quantity.COUNT,
                    site="soc",
                    source=shown(path, root),
                    resolution=1.0,
                    note="over-current or under-voltage events since boot, during which the hardware slows down",
                )
                rows.append((channel, KeptFile(path)))
        return cls(rows) if rows else NotHere(reason=f"no hardware monitor soctherm_oc in /{MONITORS}")
