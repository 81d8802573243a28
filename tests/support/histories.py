"""Histories that no board makes in a test's time: measurements of known latency, on known days, in known environments."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from made_up import DEVICE, measured
from sqlalchemy import update

from device_agent.contract.device import DeviceInfo
from device_agent.contract.measurement import Measurement
from host.results import models
from host.results.store import ResultStore


def sha256_of(letter: str) -> str:
    return letter * 64


def made(sha: str, ratio: float, **result: Any) -> Measurement:
    """A short measurement of one artifact that takes `ratio` times 5 ms."""
    found = measured(ratio, blocks=6)
    first = replace(found.result.artifacts[0], sha256=sha, peak_memory_bytes=round(9e6 * ratio))
    return replace(
        found,
        request=replace(found.request, artifacts=(sha,)),
        result=replace(found.result, artifacts=(first,), **result),
    )


def add(
    store: ResultStore,
    name: str,
    sha: str,
    ratio: float,
    *,
    day: datetime | None = None,
    device: DeviceInfo = DEVICE,
    device_name: str | None = "board",
    **result: Any,
) -> int:
    """Keep a measurement as if it had been made on that day."""
    number = store.add_measurement(
        made(sha, ratio, **result), device=device, artifact_names=(name,), device_name=device_name
    )
    if day is not None:
        moment = day if day.tzinfo else day.replace(tzinfo=timezone.utc)
        with store.writing() as session:
            session.execute(update(models.Measurement).where(models.Measurement.id == number).values(created_at=moment))
            line = models.MeasuredArtifact
            session.execute(update(line).where(line.measurement_id == number).values(created_at=moment))
    return number
