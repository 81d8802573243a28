"""The Raspberry Pi firmware's own word on throttling: get_throttled, a hexadecimal bit field.

Raspberry Pi documentation, `vcgencmd get_throttled`: bit 0 under-voltage, 1 frequency capped, 2 throttled, 3 soft temperature
limit; bits 16 to 19 say the same of the time since boot. A file has it where the kernel offers one, else the command.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from device_agent.contract.device import Channel, Quantity
from device_agent.contract.measurement import Reading
from device_agent.sensors.base import KeptFile, NotHere, Sensor, shown
from device_agent.sensors.vcgencmd import NOT_ON_PATH, Vcgencmd, VcgencmdFailed

CHANNEL = "pi.throttled"
COMMAND = "get_throttled"
#: The folder's name differs between kernels.
FILES = ("sys/devices/platform/*firmware*/get_throttled", "sys/devices/platform/*/*firmware*/get_throttled")


class PiThrottled(Sensor):
    """The bit field as a number. Reading it asks the firmware, which takes longer than a kernel's counter."""

    kind = "pi-throttled"
    interval_s = 0.5

    def __init__(self, ask: Callable[[], str | None], source: str, *, slow: bool, close: Callable[[], None]) -> None:
        self._ask = ask
        self._close = close
        self._channel = Channel(name=CHANNEL, quantity=Quantity.FLAGS, site="soc", source=source)
        self.slow = slow

    @classmethod
    def find(cls, root: Path, vcgencmd: Vcgencmd | None = None) -> PiThrottled | NotHere:
        """Return the sensor of a board with this firmware, by the file under `root`, else by the command."""
        for pattern in FILES:
            for path in sorted(root.glob(pattern)):
                file = KeptFile(path)
                return cls(file.read, shown(path, root), slow=False, close=file.close)
        if vcgencmd is None:
            return NotHere(reason=f"no /{FILES[1]}, and {NOT_ON_PATH}")
        try:
            bits = parse(vcgencmd(COMMAND))
        except VcgencmdFailed as error:
            return NotHere(reason=f"no /{FILES[1]}, and {error}", broken=True)
        if bits is None:
            return NotHere(reason=f"no /{FILES[1]}, and vcgencmd {COMMAND} gives no number", broken=True)

        def ask() -> str | None:
            try:
                return vcgencmd(COMMAND)
            except VcgencmdFailed:
                return None

        return cls(ask, f"vcgencmd {COMMAND}", slow=True, close=lambda: None)

    @property
    def channels(self) -> tuple[Channel, ...]:
        return (self._channel,)

    def read(self, now_ns: int) -> tuple[Reading, ...]:
        bits = parse(self._ask() or "")
        return () if bits is None else (Reading(channel=CHANNEL, time_ns=now_ns, value=float(bits)),)

    def close(self) -> None:
        self._close()


def parse(text: str) -> int | None:
    """Return the bits of `0x50005`, `50005` or `throttled=0x50005`; None for anything else."""
    try:
        return int(text.strip().removeprefix("throttled="), 16)
    except ValueError:
        return None
