"""What the work on one device shares with the sweep around it: times, memory between its turns, the way to the store."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from device_agent.contract.device import DeviceInfo
from host.fleet.devices import Device
from host.sweep import events
from host.sweep.job import Claim
from host.sweep.limits import Limits
from host.sweep.measuring import KnownFiles
from host.sweep.pace import Pace
from host.sweep.queue import JobQueue
from host.sweep.reactions import Alike, Backoff

OpenDevice = Callable[[str], AbstractContextManager[Device]]


_RETRY = Backoff(first_s=4.0, longest_s=120.0)
_REOPEN = Backoff(first_s=1.0, longest_s=8.0)
_ASIDE = Backoff(first_s=15.0, longest_s=300.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Times of the machinery in seconds.

    What a killed controller had is free `ttl_s` later, its leases `lease_ttl_s` later. A device that is away for `move_after_s`
    may have its jobs moved; most boards restart faster.
    """

    ttl_s: float = 60.0
    lease_ttl_s: float = 30.0
    lease_wait_s: float = 60.0
    retry: Backoff = _RETRY
    reopen: Backoff = _REOPEN
    reopen_tries: int = 3
    aside: Backoff = _ASIDE
    move_after_s: float = 90.0
    info_age_s: float = 10.0


class SweepStopped(Exception):
    """The sweep is to stop, and what was waited for is not worth waiting for any more."""


class StoreFailed(Exception):
    """The store refused; the cause says why. The sweep ends."""


@dataclass(slots=True)
class DeviceMemory:
    """What a sweep remembers of a device between its turns.

    `away_since` is None while it answers, and minus infinity where waiting alone will not bring it back.
    """

    alike: Alike = field(default_factory=Alike)
    info: DeviceInfo | None = None
    first_c: float | None = None
    away_since: float | None = None
    times_aside: int = 0
    cannot_cool: bool = False

    def answered(self) -> None:
        """Note that the device is there and works."""
        self.away_since, self.times_aside = None, 0


class Surroundings(Protocol):
    """What the work on one device needs of the sweep around it."""

    sweep_id: int
    controller: str
    holder: str
    reason: str
    queue: JobQueue
    limits: Limits
    timing: Timing
    files: KnownFiles
    pace: Pace
    open_device: OpenDevice
    rng: random.Random
    stopping: threading.Event
    aborted: threading.Event

    def emit(self, event: events.SweepEvent) -> None:
        """Tell everybody who listens."""

    def hold_claim(self, claim: Claim) -> None:
        """Renew a claim until it is let go."""

    def let_go(self, claim: Claim) -> None:
        """Renew it no more."""

    def opened(self, name: str, device: Device | None) -> None:
        """Say which device is open now, so that an abort can close it; None: none any more."""

    def move_jobs(self, device: str) -> None:
        """Move the jobs of a device to an equal one, if that is wanted and there is one."""
