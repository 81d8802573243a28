"""What the rows of a sweep say: its jobs, how far each device is, and when something is next to be done."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, RowMapping, and_, case, func, select

from host.results import models
from host.results.clock import now_of
from host.sweep.job import DeviceProgress, Job, JobState, NewJob, Sweep, SweepArtifact

_WAITING, _RUNNING = JobState.WAITING.value, JobState.RUNNING.value


def sweep_of(row: RowMapping) -> Sweep:
    """Return the sweep of a row."""
    return Sweep(
        id=row["id"], name=row["name"], created_at=row["created_at"], seed=row["seed"], document=row["document"]
    )


def job_of(row: RowMapping) -> Job:
    """Return the job of a row."""
    finished_s = row["finished_s"]
    return Job(
        id=row["id"],
        wanted=NewJob(
            key=row["key"],
            position=row["position"],
            artifact=SweepArtifact(name=row["artifact_name"], path=Path(row["artifact_path"]), sha256=row["sha256"]),
            device=row["wanted_device"],
            options=row["options"],
            repeat=row["repeat"],
            movable_to=tuple(row["movable_to"]),
        ),
        state=JobState(row["state"]),
        device=row["device"],
        attempts=row["attempts"],
        controller=row["controller"],
        error=row["error"],
        measurement_id=row["measurement_id"],
        finished_at=None if finished_s is None else datetime.fromtimestamp(finished_s, timezone.utc),
    )


class Progress:
    """One sweep, read in one transaction."""

    def __init__(self, connection: Connection, sweep_id: int) -> None:
        self._connection = connection
        self._sweep_id = sweep_id

    def devices(self) -> tuple[DeviceProgress, ...]:
        """Return how many jobs of each device stand where. Devices that others could move to are there without jobs."""
        job, device = models.SweepJob, models.SweepDevice
        now = now_of(self._connection)
        state = case((_lost(now), _WAITING), else_=job.state)
        rows = self._connection.execute(
            select(job.device, state.label("state"), func.count().label("jobs"))
            .where(job.sweep_id == self._sweep_id)
            .group_by(job.device, state)
        )
        counts: dict[str, dict[str, int]] = {}
        for row in rows:
            counts.setdefault(row.device, {})[row.state] = row.jobs
        aside: dict[str, str] = {}
        for found in self._connection.execute(
            select(device.device, device.aside_until_s, device.aside_reason).where(device.sweep_id == self._sweep_id)
        ):
            counts.setdefault(found.device, {})
            if found.aside_until_s is not None and found.aside_until_s > now:
                aside[found.device] = found.aside_reason
        return tuple(
            DeviceProgress(
                device=name,
                set_aside=aside.get(name),
                **{state.value: counts[name].get(state.value, 0) for state in JobState},
            )
            for name in sorted(counts)
        )

    def due_in_s(self) -> float | None:
        """Return the seconds until a job may be claimed or a device taken that cannot be now; None where no job waits."""
        job, device, controller = models.SweepJob, models.SweepDevice, models.SweepController
        now = now_of(self._connection)
        waiting = case((job.state == _WAITING, job.not_before_s), (_lost(now), 0.0))
        running = case((and_(job.state == _RUNNING, ~_lost(now)), job.claimed_until_s))
        jobs = self._connection.execute(
            select(job.device, func.min(waiting).label("due"), func.max(running).label("until"))
            .where(job.sweep_id == self._sweep_id, job.state.in_((_WAITING, _RUNNING)))
            .group_by(job.device)
        ).all()
        if all(row.due is None for row in jobs):
            return None
        expiries = {
            row.controller: row.expires_s
            for row in self._connection.execute(
                select(controller.controller, controller.expires_s).where(
                    controller.sweep_id == self._sweep_id, controller.expires_s > now
                )
            )
        }
        places = {
            row.device: row
            for row in self._connection.execute(
                select(device.device, device.controller, device.aside_until_s).where(device.sweep_id == self._sweep_id)
            )
        }
        moments = []
        for row in jobs:
            if row.due is None:
                continue
            place = places[row.device]
            ready = max(row.due, row.until or 0.0, place.aside_until_s or 0.0)
            if ready > now:
                moments.append(ready)
            elif place.controller in expiries:
                moments.append(expiries[place.controller])
        return max(0.0, min(moments) - now) if moments else 0.0


def _lost(now: float) -> Any:
    job = models.SweepJob
    return and_(job.state == _RUNNING, job.claimed_until_s <= now)
