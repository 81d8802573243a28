"""What a report says of a sweep: how far it is, and which jobs gave no result."""

from __future__ import annotations

from collections import Counter

from host.report.fleet.data import Failure, SweepFacts
from host.sweep.job import JobState, Sweep
from host.sweep.queue import JobQueue


def sweep_facts(queue: JobQueue, sweep: Sweep) -> SweepFacts:
    """Return the sweep's jobs by state, and those that failed or were skipped. Raises HistoryUnavailable."""
    states: Counter[str] = Counter()
    for device in queue.progress(sweep.id):
        for state in JobState:
            states[state.value] += getattr(device, state.value)
    lost = [job for state in (JobState.FAILED, JobState.SKIPPED) for job in queue.jobs(sweep.id, state=state)]
    return SweepFacts(
        id=sweep.id,
        name=sweep.name,
        created_at=sweep.created_at,
        seed=sweep.seed,
        states=dict(states),
        failures=tuple(
            Failure(
                artifact_name=job.wanted.artifact.name,
                device=job.device,
                state=job.state.value,
                attempts=job.attempts,
                error=job.error or "no reason is on record",
            )
            for job in lost
        ),
    )
