"""How far a sweep is: progress per device, rates, failures and the time that is left, from the queue in the history."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from host.sweep.job import DeviceProgress, Job, JobState, Sweep
from host.sweep.queue import JobQueue

#: Rates are of the jobs that ended within this time.
WINDOW = timedelta(minutes=10)
MOST_FAILURES = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepView:
    """A sweep at a moment. `running` has the artifacts that are being measured, by device; rates are in jobs per minute.

    `remaining_s` is the time that the slowest device needs at its rate, None where nothing tells.
    """

    sweep: Sweep
    devices: tuple[DeviceProgress, ...]
    running: dict[str, tuple[str, ...]]
    rates: dict[str, float]
    remaining_s: float | None
    failures: tuple[Job, ...]

    @property
    def done(self) -> int:
        """Jobs that ended, whatever came of them."""
        return sum(each.done + each.failed + each.skipped for each in self.devices)

    @property
    def total(self) -> int:
        """All jobs."""
        return sum(each.total for each in self.devices)

    @property
    def failed(self) -> int:
        """Jobs that failed or were skipped."""
        return sum(each.failed + each.skipped for each in self.devices)

    @property
    def at_work(self) -> bool:
        """Whether jobs run now."""
        return any(each.running for each in self.devices)


def view_of(queue: JobQueue, sweep: Sweep, *, now: datetime | None = None) -> SweepView:
    """Look at a sweep. Raises HistoryUnavailable."""
    now = now or datetime.now(timezone.utc)
    devices = queue.progress(sweep.id)
    running: dict[str, list[str]] = defaultdict(list)
    for job in queue.jobs(sweep.id, state=JobState.RUNNING):
        running[job.device].append(job.wanted.artifact.name)
    failures = [
        job for state in (JobState.FAILED, JobState.SKIPPED) for job in queue.jobs(sweep.id, state=state) if job.error
    ]
    newest = sorted(failures, key=lambda job: job.finished_at or sweep.created_at, reverse=True)[:MOST_FAILURES]
    rates = rates_of(queue.jobs(sweep.id, state=JobState.DONE), now) if any(each.done for each in devices) else {}
    return SweepView(
        sweep=sweep,
        devices=devices,
        running={device: tuple(names) for device, names in running.items()},
        rates=rates,
        remaining_s=remaining_s(devices, rates),
        failures=tuple(newest),
    )


def rates_of(done: Sequence[Job], now: datetime) -> dict[str, float]:
    """Return jobs per minute of each device with at least two that ended within WINDOW."""
    ended: dict[str, list[datetime]] = defaultdict(list)
    for job in done:
        if job.finished_at is not None and now - job.finished_at <= WINDOW:
            ended[job.device].append(job.finished_at)
    return {
        device: len(times) / max((now - min(times)).total_seconds() / 60, 1e-3)
        for device, times in ended.items()
        if len(times) > 1
    }


def remaining_s(devices: Sequence[DeviceProgress], rates: dict[str, float]) -> float | None:
    """Return the seconds until the last device is done; None if none has jobs left, or the rate of one is unknown."""
    left = {each.device: each.waiting + each.running for each in devices if each.set_aside is None}
    left = {device: jobs for device, jobs in left.items() if jobs}
    if not left or any(device not in rates for device in left):
        return None
    return max(jobs / rates[device] * 60 for device, jobs in left.items())
