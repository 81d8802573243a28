"""Sensors: one module per kernel interface, found under a root folder.

To add one: subclass `Sensor` in a module of its own with a `find(root)` that returns None where the interface is missing,
and add it to `_KINDS`.
"""

from __future__ import annotations

from pathlib import Path

from device_agent.sensors.base import Sensor
from device_agent.sensors.busyness import Busyness
from device_agent.sensors.cpufreq import CpuFrequency
from device_agent.sensors.pi_throttled import PiThrottled
from device_agent.sensors.thermal import ThermalZones
from device_agent.sensors.worker_rss import CHANNEL as WORKER_RSS
from device_agent.sensors.worker_rss import WorkerRss

__all__ = ["WORKER_RSS", "Sensor", "discover", "worker_rss"]

_KINDS = (ThermalZones, CpuFrequency, PiThrottled, Busyness)


def discover(root: Path = Path("/")) -> tuple[Sensor, ...]:
    """Return the sensors that this board has. An interface that is not there yields no sensor and no channel."""
    return tuple(found for kind in _KINDS if (found := kind.find(root)) is not None)


def worker_rss(pid: int) -> Sensor:
    """Return the sensor of a worker's resident memory; its only channel is `worker.rss`."""
    return WorkerRss(pid)
