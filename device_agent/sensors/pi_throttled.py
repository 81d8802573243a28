"""The Raspberry Pi firmware's own word on throttling: get_throttled, a hexadecimal bit field.

Raspberry Pi documentation, `vcgencmd get_throttled`: bit 0 under-voltage, 1 frequency capped, 2 throttled, 3 soft temperature
limit; bits 16 to 19 say the same of the time since boot.
"""

from __future__ import annotations

from pathlib import Path

from device_agent.contract.device import Channel, Quantity
from device_agent.contract.measurement import Reading
from device_agent.sensors.base import KeptFile, Sensor

CHANNEL = "pi.throttled"


class PiThrottled(Sensor):
    """The bit field as a number. Reading it asks the firmware, which takes longer than a kernel's counter."""

    interval_s = 0.5

    def __init__(self, path: Path, source: str) -> None:
        self._file = KeptFile(path)
        self._channel = Channel(name=CHANNEL, quantity=Quantity.FLAGS, site="soc", source=source)

    @classmethod
    def find(cls, root: Path) -> PiThrottled | None:
        """Return the sensor of a board with this firmware, None elsewhere. The folder's name differs between kernels."""
        for pattern in ("*firmware*/get_throttled", "*/*firmware*/get_throttled"):
            for path in sorted((root / "sys/devices/platform").glob(pattern)):
                return cls(path, f"/{path.relative_to(root)}")
        return None

    @property
    def channels(self) -> tuple[Channel, ...]:
        return (self._channel,)

    def read(self, now_ns: int) -> tuple[Reading, ...]:
        text = self._file.read()
        try:
            bits = None if text is None else int(text, 16)
        except ValueError:
            bits = None
        if bits is None:
            return ()
        return (Reading(channel=CHANNEL, time_ns=now_ns, value=float(bits)),)

    def close(self) -> None:
        self._file.close()
