"""Exclusive use of a device: leases, places in the queue, and who uses it now."""

from __future__ import annotations

from dataclasses import dataclass

from device_agent.contract.errors import InvalidRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A promise of exclusive use. `token` is the fencing token that every call carries; a restart of the agent voids it."""

    token: str
    holder: str
    reason: str
    remaining_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A place in the queue for a device: `position` 1 is next, of `waiting` in all.

    `holder`, `reason` and `remaining_s` (unless renewed) are those of the lease that is waited for; a job that runs without a
    lease has no remaining time. All three are None while the device is free and only the owner of the place has yet to take it.
    """

    position: int
    waiting: int
    holder: str | None = None
    reason: str | None = None
    remaining_s: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.position <= self.waiting:
            raise InvalidRequest(f"position={self.position} is not in 1..waiting={self.waiting}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiter:
    """Somebody who waits for the device, for `waited_s` so far."""

    holder: str
    reason: str
    waited_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Something that runs on the device, such as a measurement, for `running_s` so far. `holder` is whoever asked for it."""

    what: str
    holder: str
    running_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceUse:
    """Who uses the device: the lease without its token, the jobs that run, and the queue, who is next first."""

    holder: str | None = None
    reason: str | None = None
    remaining_s: float | None = None
    held_s: float | None = None
    jobs: tuple[Job, ...] = ()
    waiting: tuple[Waiter, ...] = ()

    def __post_init__(self) -> None:
        absent = [value is None for value in (self.holder, self.reason, self.remaining_s, self.held_s)]
        if any(absent) and not all(absent):
            raise InvalidRequest(f"a lease has a holder, a reason and its times, or there is none: {self}")
