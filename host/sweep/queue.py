"""What a sweep needs of a store: jobs that are each claimed by one controller, and finished once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from device_agent.contract.device import DeviceInfo
from device_agent.contract.errors import StableError
from device_agent.contract.measurement import Measurement
from host.sweep.job import Claim, DeviceProgress, Job, JobState, NewJob, Sweep


class UnknownSweep(StableError):
    """The store has no sweep of this name or number."""


class SweepBusy(StableError):
    """Another process works on this sweep, and the store cannot share it between several."""


class ClaimLost(StableError):
    """The claim ran out, and the job is waiting again or another controller's. Nothing was stored."""


class JobQueue(ABC):
    """The jobs of sweeps. Called from many threads, and by several processes where the store can.

    What a method has returned from is on disk. Times run on the store's clock, so controllers need not agree on theirs.
    A *controller* is one process that runs jobs, under a name that no other has. Methods raise HistoryUnavailable where the
    store refuses.
    """

    @abstractmethod
    def create(self, name: str, jobs: Sequence[NewJob], *, seed: int, document: Mapping[str, Any]) -> Sweep:
        """Store a sweep with all its jobs, waiting. ValueError for two jobs of one key."""

    @abstractmethod
    def find(self, name: str) -> Sweep:
        """Return the newest sweep of this name, or that of the number in `#7`. UnknownSweep."""

    @abstractmethod
    def list_sweeps(self) -> tuple[Sweep, ...]:
        """Return all, the newest first."""

    @abstractmethod
    def attach(self, sweep_id: int, controller: str, *, ttl_s: float) -> None:
        """Begin, or go on, to work on a sweep; call it again within `ttl_s` to stay. SweepBusy, naming the other controller."""

    @abstractmethod
    def detach(self, sweep_id: int, controller: str) -> None:
        """Stop working on it: its claims and devices are free at once."""

    @abstractmethod
    def take_device(self, sweep_id: int, controller: str, *, limit: int, ttl_s: float) -> str | None:
        """Take a device with waiting jobs that no controller has, and return it; None where there is none.

        `limit` is how many a controller may have. A device stays until it is given back, or the controller's `attach` ran out.
        Devices that were set aside are left out until their time is over.
        """

    @abstractmethod
    def give_device(self, sweep_id: int, controller: str, device: str) -> None:
        """Give a device back."""

    @abstractmethod
    def set_aside(self, sweep_id: int, device: str, reason: str, *, wait_s: float) -> None:
        """Give a device no jobs for `wait_s`; it loses its controller."""

    @abstractmethod
    def claim(self, sweep_id: int, controller: str, device: str, *, ttl_s: float) -> Claim | None:
        """Return the device's next waiting job that is due, now running; None where there is none, or one is running there."""

    @abstractmethod
    def renew(self, claims: Sequence[Claim], *, ttl_s: float) -> tuple[Claim, ...]:
        """Let claims live for `ttl_s` from now. Returns those that are lost."""

    @abstractmethod
    def complete(self, claim: Claim, measurement: Measurement, *, device: DeviceInfo) -> int:
        """Store the measurement and the job's end in one transaction; return the measurement's id. ClaimLost."""

    @abstractmethod
    def retry(self, claim: Claim, error: str, *, wait_s: float) -> None:
        """Let the job wait for another attempt, not before `wait_s` from now. ClaimLost."""

    @abstractmethod
    def fail(self, claim: Claim, error: str, *, skipped: bool = False) -> None:
        """Record that the job cannot be done. ClaimLost. `skipped`: it was not tried, since others failed that are like it."""

    @abstractmethod
    def release(self, claim: Claim) -> None:
        """Let the job wait again as if it had not been claimed: the attempt does not count. ClaimLost."""

    @abstractmethod
    def skip(self, sweep_id: int, device: str, reason: str) -> int:
        """Give up a device's waiting jobs; return how many."""

    @abstractmethod
    def move(self, sweep_id: int, device: str, to: str) -> int:
        """Give the device's waiting jobs that may move there to another; return how many."""

    @abstractmethod
    def due_in_s(self, sweep_id: int) -> float | None:
        """Return the seconds until something may be claimed or taken that cannot be now; None where nothing waits."""

    @abstractmethod
    def progress(self, sweep_id: int) -> tuple[DeviceProgress, ...]:
        """Return how far each device is, by name."""

    @abstractmethod
    def jobs(self, sweep_id: int, *, state: JobState | None = None) -> tuple[Job, ...]:
        """Return the jobs in order of their positions."""
