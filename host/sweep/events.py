"""What happens in a sweep, as it happens: for the live view, the log, and whoever else wants to know."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceStarted:
    """The device was reached, and is held for this sweep."""

    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceWaited:
    """Somebody else uses the device. `position` is the place in its queue, from 1."""

    device: str
    holder: str | None
    position: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEnded:
    """The device was given back: nothing is left to do there now, or the sweep stops."""

    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStarted:
    """A job was begun. `attempt` counts from 1, `repeat` from 0."""

    device: str
    job: int
    artifact: str
    repeat: int
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDone:
    """A measurement is in the store. `verdicts` are codes; `p50_ns` is over all timed runs. `seconds` is the job's wall time."""

    device: str
    job: int
    artifact: str
    repeat: int
    measurement_id: int
    p50_ns: float
    verdicts: tuple[str, ...]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRetried:
    """A job failed in a way that may pass; it is due again after `wait_s`."""

    device: str
    job: int
    artifact: str
    attempt: int
    error: str
    wait_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFailed:
    """A job cannot be done, or was tried often enough."""

    device: str
    job: int
    artifact: str
    repeat: int
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsSkipped:
    """Jobs were given up without a try, for the reason that is said."""

    device: str
    count: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSetAside:
    """The device cannot be worked with now; it is tried again after `wait_s`."""

    device: str
    reason: str
    wait_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsMoved:
    """The waiting jobs of a device that is away went to an equal one."""

    device: str
    to: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cooled:
    """A wait for a lower temperature ended; `reached` says whether it came. Temperatures in degrees Celsius."""

    device: str
    from_c: float
    to_c: float
    wanted_c: float
    seconds: float
    reached: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CannotCool:
    """The device tells no temperature, so nothing is waited for."""

    device: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentChanged:
    """Facts of the device are other ones than at its first job: results before and after do not compare."""

    device: str
    fields: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimDropped:
    """A job was finished after its claim had run out, so it is another's by now; its result was not kept."""

    device: str
    job: int


SweepEvent = (
    DeviceStarted
    | DeviceWaited
    | DeviceEnded
    | JobStarted
    | JobDone
    | JobRetried
    | JobFailed
    | JobsSkipped
    | DeviceSetAside
    | JobsMoved
    | Cooled
    | CannotCool
    | EnvironmentChanged
    | ClaimDropped
)


def event_name(event: SweepEvent) -> str:
    """Return what an event is called in the log: JobDone is `job-done`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", type(event).__name__).lower()


def event_document(event: SweepEvent, at: datetime) -> Mapping[str, Any]:
    """Return an event as one line of the log: `event`, `time` (ISO 8601), and its fields."""
    values = {field.name: getattr(event, field.name) for field in fields(event)}
    return {"event": event_name(event), "time": at.isoformat(timespec="milliseconds"), **values}
