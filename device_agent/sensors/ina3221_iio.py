"""INA3221 on a Jetson with JetPack 4 or older: NVIDIA's driver ina3221x, an iio device.

/sys/bus/i2c/drivers/ina3221x/*/iio:device*/ (iio_device* on some) with rail_name_N and in_powerN_input in mW, N = 0..2.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from device_agent.contract.device import Channel
from device_agent.sensors.base import FileSensor, KeptFile, NotHere, read_once, shown
from device_agent.sensors.ina3221 import INTERVAL_S, KIND, UNUSED, rail_channel, within_total

DEVICES = "sys/bus/i2c/drivers/ina3221x/*/iio[:_]device*"
FILES = (f"{DEVICES}/rail_name_[0-2]", f"{DEVICES}/in_power[0-2]_input")


class Ina3221Iio(FileSensor):
    """One power channel per rail that is connected."""

    kind = KIND
    interval_s = INTERVAL_S
    divisor = 1000

    @classmethod
    def find(cls, root: Path) -> Ina3221Iio | NotHere:
        """Return the rails of all chips under `root`."""
        seen: Counter[str] = Counter()
        channels: list[Channel] = []
        files: list[KeptFile] = []
        for folder in sorted(root.glob(DEVICES)):
            for number in range(3):
                path = folder / f"in_power{number}_input"
                rail = read_once(folder / f"rail_name_{number}") or f"{folder.parent.name}.{number}"
                if path.exists() and rail != UNUSED:
                    channels.append(rail_channel(rail, shown(path, root), seen))
                    files.append(KeptFile(path))
        if not channels:
            return NotHere(reason=f"no /{DEVICES}")
        return cls(list(zip(within_total(channels), files, strict=True)))
