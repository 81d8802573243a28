"""The values that a sweep is made of: artifacts, jobs, and what became of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from pathlib import Path
from typing import Any


class JobState(Enum):
    """Where a job stands. DONE, FAILED and SKIPPED are final."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepArtifact:
    """A model file of a sweep. The hash is what counts: a file that was changed since is another artifact."""

    name: str
    path: Path
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """One measurement that a sweep asks for.

    `key` names it within its sweep: the same artifact, device, options and repeat give the same key in every expansion of the
    file. `position` is its place in the shuffled order. `options` are those of `host bench`, by the names of BenchOptions, as
    JSON. `movable_to` are the devices that may take it over where its own has vanished.
    """

    key: str
    position: int
    artifact: SweepArtifact
    device: str
    options: Mapping[str, Any]
    repeat: int
    movable_to: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A job as the store has it. `error` is of the last attempt; `measurement_id` is there once it is done."""

    id: int
    wanted: NewJob
    state: JobState
    device: str
    attempts: int
    controller: str | None
    error: str | None
    measurement_id: int | None
    finished_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to run a job. `token` rises with every claim of the job: what comes with an older one is refused."""

    job: Job
    token: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """A sweep as it was created. `document` is the TOML file's content, `seed` made the order."""

    id: int
    name: str
    created_at: datetime
    seed: int
    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceProgress:
    """How many of a device's jobs stand where. `set_aside` says why it gets no jobs now, None if it does."""

    device: str
    waiting: int
    running: int
    done: int
    failed: int
    skipped: int
    set_aside: str | None

    @property
    def total(self) -> int:
        """All jobs of the device."""
        return self.waiting + self.running + self.done + self.failed + self.skipped
