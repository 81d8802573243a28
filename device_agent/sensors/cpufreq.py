"""Processor clocks: cpufreq/policy*/scaling_cur_freq, in kHz.

Kernel documentation: Documentation/admin-guide/pm/cpufreq.rst. It is what the kernel asked for; firmware that throttles on
its own, as on a Raspberry Pi, may run slower.
"""

from __future__ import annotations

from pathlib import Path

from device_agent.contract.device import Channel, Quantity
from device_agent.sensors.base import FileSensor, KeptFile, NotHere, natural, shown

POLICIES = "sys/devices/system/cpu/cpufreq/policy*"
FILES = (f"{POLICIES}/scaling_cur_freq", f"{POLICIES}/scaling_governor")


class CpuFrequency(FileSensor):
    """One channel per policy, that is per group of processors that share a clock."""

    kind = "cpufreq"
    interval_s = 0.1
    factor = 1000

    @classmethod
    def find(cls, root: Path) -> CpuFrequency | NotHere:
        """Return the clocks under `root`."""
        policies: list[tuple[Channel, KeptFile]] = []
        for folder in sorted(root.glob(POLICIES), key=natural):
            path = folder / "scaling_cur_freq"
            if path.exists():
                name = f"cpufreq.{folder.name}"
                channel = Channel(name=name, quantity=Quantity.FREQUENCY, site="cpu", source=shown(path, root))
                policies.append((channel, KeptFile(path)))
        return cls(policies) if policies else NotHere(reason=f"no /{POLICIES}; virtual machines have none")
