"""What a sweep does about an error: try again, give the job up, or leave the device for a while. Pure."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from pathlib import PurePath

from device_agent.contract.errors import (
    AgentStopping,
    ArtifactCorrupt,
    BoardfitError,
    DeviceBusy,
    DeviceUnreachable,
    InvalidRequest,
    LeaseLost,
    ModelRejected,
    RuntimeUnavailable,
    WorkerCrashed,
    WorkerOutOfMemory,
    WorkerTimedOut,
)
from host.sweep.job import Job

#: After one of these the device has to be opened again: it is away, somebody else's, or forgot that it is held.
DEVICE_ERRORS = (DeviceUnreachable, LeaseLost, AgentStopping, DeviceBusy)
#: A model may bring a worker down by bad luck once.
_CHANCE = (WorkerCrashed, WorkerOutOfMemory, WorkerTimedOut)
_CHANCES = 2
#: Options that decide whether a runtime takes a model at all.
_LOADING = ("runtime", "provider", "provider_option", "graph_optimization", "batch", "inputs")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Waits that double from `first_s` to `longest_s`, with full jitter: anything from 0 to that.

    So 200 devices whose switch came back do not call at once (Brooker, AWS Architecture Blog, 2015).
    """

    first_s: float
    longest_s: float

    def wait_s(self, failures: int, rng: random.Random) -> float:
        """Return the seconds before the next try; `failures` counts those in a row, from 1."""
        return rng.uniform(0, self.bound_s(failures))

    def bound_s(self, failures: int) -> float:
        """Return the longest that this wait may be."""
        return min(self.first_s * 2.0 ** min(failures - 1, 30), self.longest_s)


class Alike:
    """Remembers failures of one device that others are sure to repeat."""

    def __init__(self) -> None:
        self._reasons: dict[tuple[str, ...], str] = {}
        self._counts: dict[tuple[str, ...], int] = {}

    def failed(self, job: Job, error: BoardfitError) -> None:
        """Learn from a stable error of a job."""
        key = _key(job, error)
        if key is None:
            return
        self._counts[key] = self._counts.get(key, 0) + 1
        if not isinstance(error, _CHANCE) or self._counts[key] >= _CHANCES:
            self._reasons.setdefault(key, str(error))

    def reason(self, job: Job) -> str | None:
        """Return why a job would fail, None if nothing is known against it."""
        return next((self._reasons[key] for key in _keys(job) if key in self._reasons), None)


def _key(job: Job, error: BoardfitError) -> tuple[str, ...] | None:
    runtime, file, loading, exact = _keys(job)
    if isinstance(error, RuntimeUnavailable):
        return runtime
    if isinstance(error, ArtifactCorrupt):
        return file
    if isinstance(error, ModelRejected):
        return loading
    return exact if isinstance(error, (*_CHANCE, InvalidRequest)) else None


def _keys(job: Job) -> tuple[tuple[str, ...], ...]:
    """Return what a job has in common with others, in the order of `_key`: runtime, file, way of loading, all but the repeat."""
    options, artifact = job.wanted.options, job.wanted.artifact
    suffix = PurePath(artifact.path).suffix.lower()
    return (
        ("runtime", suffix, str(options.get("runtime")), str(options.get("provider"))),
        ("file", artifact.sha256),
        ("loading", artifact.sha256, *(json.dumps(options.get(name)) for name in _LOADING)),
        ("exact", artifact.sha256, json.dumps(dict(options), sort_keys=True)),
    )
