"""Processor clocks: cpufreq/policy*/scaling_cur_freq, in kHz.

Kernel documentation: Documentation/admin-guide/pm/cpufreq.rst. It is what the kernel asked for; firmware that throttles on
its own, as on a Raspberry Pi, may run slower.
"""

from __future__ import annotations

from pathlib import Path

from device_agent.contract.device import Channel, Quantity
from device_agent.contract.measurement import Reading
from device_agent.sensors.base import KeptFile, Sensor, natural

POLICIES = "sys/devices/system/cpu/cpufreq/policy*"


class CpuFrequency(Sensor):
    """One channel per policy, that is per group of processors that share a clock."""

    interval_s = 0.1

    def __init__(self, policies: tuple[tuple[Channel, KeptFile], ...]) -> None:
        self._policies = policies

    @classmethod
    def find(cls, root: Path) -> CpuFrequency | None:
        """Return the clocks under `root`, None if there are none (virtual machines have none)."""
        policies: list[tuple[Channel, KeptFile]] = []
        for folder in sorted(root.glob(POLICIES), key=natural):
            path = folder / "scaling_cur_freq"
            if path.exists():
                channel = Channel(
                    name=f"cpufreq.{folder.name}",
                    quantity=Quantity.FREQUENCY,
                    site="cpu",
                    source=f"/{path.relative_to(root)}",
                )
                policies.append((channel, KeptFile(path)))
        return cls(tuple(policies)) if policies else None

    @property
    def channels(self) -> tuple[Channel, ...]:
        return tuple(channel for channel, _ in self._policies)

    def read(self, now_ns: int) -> tuple[Reading, ...]:
        readings: list[Reading] = []
        for channel, file in self._policies:
            value = file.number()
            if value is not None:
                readings.append(Reading(channel=channel.name, time_ns=now_ns, value=value * 1000))
        return tuple(readings)

    def close(self) -> None:
        for _, file in self._policies:
            file.close()
