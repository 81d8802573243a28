"""What the processors do for all others while the worker runs: /proc/stat less the worker's own time in /proc/PID/stat.

Kernel documentation: Documentation/filesystems/proc.rst. Both count in ticks of 1/100 s as a rule. The load of the last minute
(`cpu.load`) has the worker in it and forgets slowly; this is only about others, and only about now.
"""

from __future__ import annotations

import os
from pathlib import Path

from device_agent.contract.device import Channel, Quantity
from device_agent.contract.measurement import Reading
from device_agent.sensors.base import KeptFile, Sensor

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_INTERVAL_S = 0.5
CHANNEL = Channel(
    name="cpu.others",
    quantity=Quantity.FRACTION,
    site="cpu",
    source="/proc/stat less /proc/PID/stat of the worker",
    interval_s=_INTERVAL_S,
    resolution=1 / _TICKS_PER_S / _INTERVAL_S,
    note="of one processor, since the reading before; all but the worker, so the agent too; 2 means that two were busy",
)
#: In /proc/stat: user, nice, system, (idle, iowait), irq, softirq. What a hypervisor stole was no work of this machine.
_BUSY = (0, 1, 2, 5, 6)


class OthersCpu(Sensor):
    """The processor time that others than one process got."""

    kind = "others"
    interval_s = _INTERVAL_S

    def __init__(self, pid: int, root: Path = Path("/")) -> None:
        self._every = KeptFile(root / "proc/stat")
        self._own = KeptFile(root / f"proc/{pid}/stat")
        self._before: tuple[int, int] | None = None

    @property
    def channels(self) -> tuple[Channel, ...]:
        return (CHANNEL,)

    def read(self, now_ns: int) -> tuple[Reading, ...]:
        before, ticks = self._before, self._ticks()
        self._before = None if ticks is None else (now_ns, ticks)
        if ticks is None or before is None or now_ns <= before[0]:
            return ()
        share = (ticks - before[1]) / _TICKS_PER_S / ((now_ns - before[0]) / 1e9)
        # The two files are read one after the other, and the worker goes on in between.
        return (Reading(channel=CHANNEL.name, time_ns=now_ns, value=max(0.0, share)),)

    def _ticks(self) -> int | None:
        """Return the ticks that others had since the start; None once the process is gone."""
        try:
            every = (self._every.read() or "").partition("\n")[0].split()[1:]
            own = (self._own.read() or "").rpartition(")")[2].split()
            return sum(int(every[place]) for place in _BUSY) - int(own[11]) - int(own[12])
        except (IndexError, ValueError):
            return None

    def close(self) -> None:
        self._every.close()
        self._own.close()
