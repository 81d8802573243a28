"""A queue of sweep jobs in memory, on a clock of one's own. It keeps every result, so that tests can count them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from device_agent.contract.device import DeviceInfo
from device_agent.contract.measurement import Measurement
from host.sweep.job import Claim, DeviceProgress, Job, JobState, NewJob, Sweep
from host.sweep.queue import ClaimLost, JobQueue, UnknownSweep


@dataclass
class Row:
    number: int
    wanted: NewJob
    device: str
    state: JobState = JobState.WAITING
    attempts: int = 0
    token: int = 0
    due: float = 0.0
    until: float = 0.0
    controller: str | None = None
    error: str | None = None
    measurement_id: int | None = None

    def job(self) -> Job:
        return Job(
            id=self.number,
            wanted=self.wanted,
            state=self.state,
            device=self.device,
            attempts=self.attempts,
            controller=self.controller,
            error=self.error,
            measurement_id=self.measurement_id,
            finished_at=None,
        )


@dataclass
class Place:
    controller: str | None = None
    aside: str | None = None
    aside_until: float = 0.0


@dataclass
class PlainQueue(JobQueue):
    """One sweep's jobs. `refuse` is raised by every call, as by a store whose disk is full."""

    clock: Callable[[], float] = time.monotonic
    rows: list[Row] = field(default_factory=list)
    places: dict[str, Place] = field(default_factory=dict)
    results: dict[int, tuple[Measurement, DeviceInfo]] = field(default_factory=dict)
    sweep: Sweep | None = None
    refuse: Exception | None = None

    def __post_init__(self) -> None:
        self._lock = threading.RLock()

    def create(self, name: str, jobs: Sequence[NewJob], *, seed: int, document: Mapping[str, Any]) -> Sweep:
        if len({job.key for job in jobs}) != len(jobs):
            raise ValueError("two jobs of one key")
        self.rows = [
            Row(number, wanted, wanted.device)
            for number, wanted in enumerate(sorted(jobs, key=lambda job: job.position), start=1)
        ]
        self.places = {job.device: Place() for job in jobs}
        self.sweep = Sweep(id=1, name=name, created_at=datetime.now(timezone.utc), seed=seed, document=document)
        return self.sweep

    def find(self, name: str) -> Sweep:
        if self.sweep is None or name not in (self.sweep.name, "#1"):
            raise UnknownSweep(name)
        return self.sweep

    def list_sweeps(self) -> tuple[Sweep, ...]:
        return () if self.sweep is None else (self.sweep,)

    def attach(self, sweep_id: int, controller: str, *, ttl_s: float) -> None:
        self._check()

    def detach(self, sweep_id: int, controller: str) -> None:
        with self._lock:
            for row in self.rows:
                if row.state is JobState.RUNNING and row.controller == controller:
                    row.state, row.attempts = JobState.WAITING, row.attempts - 1
            for place in self.places.values():
                if place.controller == controller:
                    place.controller = None

    def take_device(self, sweep_id: int, controller: str, *, limit: int, ttl_s: float) -> str | None:
        with self._lock:
            self._check()
            if sum(place.controller == controller for place in self.places.values()) >= limit:
                return None
            for name, place in self.places.items():
                if place.controller is None and self._free(place) and self._next(name) is not None:
                    place.controller, place.aside = controller, None
                    return name
            return None

    def give_device(self, sweep_id: int, controller: str, device: str) -> None:
        with self._lock:
            if self.places[device].controller == controller:
                self.places[device].controller = None

    def set_aside(self, sweep_id: int, device: str, reason: str, *, wait_s: float) -> None:
        with self._lock:
            self._check()
            self.places[device] = Place(aside=reason, aside_until=self.clock() + wait_s)

    def claim(self, sweep_id: int, controller: str, device: str, *, ttl_s: float) -> Claim | None:
        with self._lock:
            self._check()
            if any(row.state is JobState.RUNNING and row.device == device for row in self.rows):
                return None
            row = self._next(device)
            if row is None:
                return None
            row.state, row.controller, row.until = JobState.RUNNING, controller, self.clock() + ttl_s
            row.token += 1
            row.attempts += 1
            return Claim(job=row.job(), token=row.token)

    def renew(self, claims: Sequence[Claim], *, ttl_s: float) -> tuple[Claim, ...]:
        with self._lock:
            self._check()
            return tuple(claim for claim in claims if not self._holds(claim))

    def complete(self, claim: Claim, measurement: Measurement, *, device: DeviceInfo) -> int:
        with self._lock:
            row = self._row(claim)
            number = len(self.results) + 1
            self.results[number] = (measurement, device)
            row.state, row.measurement_id, row.error = JobState.DONE, number, None
            return number

    def retry(self, claim: Claim, error: str, *, wait_s: float) -> None:
        with self._lock:
            row = self._row(claim)
            row.state, row.error, row.due = JobState.WAITING, error, self.clock() + wait_s

    def fail(self, claim: Claim, error: str, *, skipped: bool = False) -> None:
        with self._lock:
            row = self._row(claim)
            row.state, row.error = JobState.SKIPPED if skipped else JobState.FAILED, error

    def release(self, claim: Claim) -> None:
        with self._lock:
            row = self._row(claim)
            row.state, row.attempts = JobState.WAITING, row.attempts - 1

    def skip(self, sweep_id: int, device: str, reason: str) -> int:
        with self._lock:
            self._check()
            waiting = self._waiting(device)
            for row in waiting:
                row.state, row.error = JobState.SKIPPED, reason
            return len(waiting)

    def move(self, sweep_id: int, device: str, to: str) -> int:
        with self._lock:
            self._check()
            moving = [row for row in self._waiting(device) if to in row.wanted.movable_to]
            for row in moving:
                row.device = to
            return len(moving)

    def due_in_s(self, sweep_id: int) -> float | None:
        with self._lock:
            self._check()
            waiting = [row for row in self.rows if row.state is JobState.WAITING]
            if not waiting:
                return None
            now = self.clock()
            return max(0.0, min(max(row.due, self.places[row.device].aside_until) for row in waiting) - now)

    def progress(self, sweep_id: int) -> tuple[DeviceProgress, ...]:
        with self._lock:
            self._check()
            return tuple(
                DeviceProgress(
                    device=name,
                    **{
                        state.value: sum(row.device == name and row.state is state for row in self.rows)
                        for state in JobState
                    },
                    set_aside=place.aside,
                )
                for name, place in sorted(self.places.items())
            )

    def jobs(self, sweep_id: int, *, state: JobState | None = None) -> tuple[Job, ...]:
        with self._lock:
            return tuple(row.job() for row in self.rows if state in (None, row.state))

    def lose(self, number: int) -> None:
        """Let another controller have the job, as after a claim that ran out."""
        with self._lock:
            self.rows[number - 1].token += 1

    def _check(self) -> None:
        if self.refuse is not None:
            raise self.refuse

    def _free(self, place: Place) -> bool:
        return place.aside is None or self.clock() >= place.aside_until

    def _waiting(self, device: str) -> list[Row]:
        return [row for row in self.rows if row.device == device and row.state is JobState.WAITING]

    def _next(self, device: str) -> Row | None:
        return next((row for row in self._waiting(device) if row.due <= self.clock()), None)

    def _holds(self, claim: Claim) -> bool:
        row = self.rows[claim.job.id - 1]
        return row.state is JobState.RUNNING and row.token == claim.token

    def _row(self, claim: Claim) -> Row:
        self._check()
        if not self._holds(claim):
            raise ClaimLost(f"job {claim.job.id}")
        return self.rows[claim.job.id - 1]
