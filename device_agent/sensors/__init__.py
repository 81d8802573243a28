"""Sensors: one module per kernel interface, found under a root folder. docs/adding-a-sensor.md shows how to add one."""

from __future__ import annotations

from device_agent.sensors.base import Sensor
from device_agent.sensors.survey import Survey, discover, survey
from device_agent.sensors.worker_rss import CHANNEL as WORKER_RSS
from device_agent.sensors.worker_rss import WorkerRss

__all__ = ["WORKER_RSS", "Sensor", "Survey", "discover", "survey", "worker_rss"]


def worker_rss(pid: int) -> Sensor:
    """Return the sensor of a worker's resident memory; its only channel is `worker.rss`."""
    return WorkerRss(pid)
