"""What a sweep found: for each artifact, device and setting its latency over the repeats, its verdicts, its failures. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from device_agent.contract.statistics import median
from host.sweep.job import Job, JobState


class MeasuredLine(Protocol):
    """What the store says of one measurement (host.results.lines.ResultLine is one)."""

    @property
    def measurement_id(self) -> int:
        """Its number."""

    @property
    def p50_ns(self) -> float | None:
        """Median over all timed runs."""

    @property
    def verdicts(self) -> tuple[str, ...]:
        """Codes of what it says about itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """The repeats of one artifact with the same options on one device. `errors` are those of failed and skipped jobs."""

    artifact: str
    sha256: str
    device: str
    options: Mapping[str, Any]
    p50s_ns: tuple[float, ...]
    verdicts: Mapping[str, int]
    done: int
    failed: int
    skipped: int
    waiting: int
    errors: tuple[str, ...]

    @property
    def p50_ns(self) -> float | None:
        """Median of the repeats' medians; None without any."""
        return median(self.p50s_ns) if self.p50s_ns else None

    @property
    def interval_ns(self) -> tuple[float, float] | None:
        """The lowest and the highest of the repeats' medians; None for less than two."""
        return (min(self.p50s_ns), max(self.p50s_ns)) if len(self.p50s_ns) > 1 else None

    @property
    def confidence(self) -> float | None:
        """How sure the interval holds the median of all repeats that could be made: both ends on one side of it has the chance
        of so many equal coins. 75 % for 3 repeats, 97 % for 6; None without an interval."""
        count = len(self.p50s_ns)
        return 1 - 2.0 ** (1 - count) if count > 1 else None


def outcome(jobs: Sequence[Job], lines: Sequence[MeasuredLine]) -> tuple[Cell, ...]:
    """Return the cells, by artifact, options and device. `lines` are those of the jobs' measurements, in any order."""
    by_number = {line.measurement_id: line for line in lines}
    groups: dict[tuple[str, str, str, str], list[Job]] = {}
    for job in jobs:
        artifact = job.wanted.artifact
        options = json.dumps(dict(job.wanted.options), sort_keys=True)
        groups.setdefault((artifact.name, artifact.sha256, options, job.device), []).append(job)
    return tuple(_cell(groups[key], by_number) for key in sorted(groups))


def _cell(jobs: Sequence[Job], by_number: Mapping[int, MeasuredLine]) -> Cell:
    first = jobs[0]
    found = [by_number[number] for job in jobs if (number := job.measurement_id) is not None and number in by_number]
    states = Counter(job.state for job in jobs)
    given_up = [job.error for job in jobs if job.state in (JobState.FAILED, JobState.SKIPPED) and job.error]
    return Cell(
        artifact=first.wanted.artifact.name,
        sha256=first.wanted.artifact.sha256,
        device=first.device,
        options=first.wanted.options,
        p50s_ns=tuple(line.p50_ns for line in found if line.p50_ns is not None),
        verdicts=dict(sorted(Counter(code for line in found for code in line.verdicts).items())),
        done=states[JobState.DONE],
        failed=states[JobState.FAILED],
        skipped=states[JobState.SKIPPED],
        waiting=states[JobState.WAITING] + states[JobState.RUNNING],
        errors=tuple(dict.fromkeys(given_up)),
    )
