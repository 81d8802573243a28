"""What a fleet report shows, as plain values: pages are pure functions of these."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from device_agent.contract.measurement import Verdict, VerdictCode
from device_agent.contract.statistics import median


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What results must share before they may be put together: artifact, device, runtime, settings and environment.

    `settings` are those that were not left to the device, in words. `environment` tells apart what has no words here: the kernel,
    the agent's version and the like.
    """

    artifact: str
    artifact_name: str
    device: str
    device_id: str
    profile: str | None
    runtime: str
    runtime_version: str
    provider: str
    threads: int
    settings: str = ""
    environment: str = ""

    @property
    def how(self) -> str:
        """Runtime, threads and settings in words."""
        threads = f"{self.threads} thread{'' if self.threads == 1 else 's'}"
        return ", ".join(filter(None, (f"{self.runtime} {self.runtime_version}", threads, self.settings)))

    @property
    def way(self) -> str:
        """The same without the threads."""
        return ", ".join(filter(None, (f"{self.runtime} {self.runtime_version}", self.settings)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One artifact in one measurement. Times in nanoseconds over all timed runs; energy is gross, per run."""

    measurement_id: int
    created_at: datetime
    setup: Setup
    runs: int
    p50_ns: float
    p90_ns: float
    p99_ns: float
    undisturbed_p50_ns: float | None = None
    peak_memory_bytes: int | None = None
    energy_j: float | None = None
    verdicts: tuple[Verdict, ...] = ()

    @property
    def stable(self) -> bool:
        """Whether nothing speaks against the figures."""
        return all(each.code is VerdictCode.STABLE for each in self.verdicts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The timed runs of one result: latencies in nanoseconds in the order of the runs, and which were disturbed."""

    setup: Setup
    measurement_id: int
    latencies_ns: tuple[int, ...]
    disturbed: tuple[bool, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What one quantity did during a measurement: (seconds since its start, value). `name` says which sensors are in it."""

    quantity: str
    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """The sensors of a device during one measurement, the timed windows in seconds since its start, and why this one is shown."""

    device: str
    artifact_name: str
    measurement_id: int
    created_at: datetime
    why: str
    lines: tuple[Line, ...]
    timed: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTimes:
    """Node times of two artifacts of one job by layer, in nanoseconds; None where a side has no such layer."""

    device: str
    measurement_id: int
    baseline: str
    compressed: str | None
    layers: tuple[tuple[str, float | None, float | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactFacts:
    """What is known of an artifact apart from its measurements. `accuracy` is on the test images of a compression."""

    accuracy: float | None = None
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """What a device said of itself when it was measured last."""

    name: str
    profile: str | None
    board: str
    cpu: str
    cores: int
    memory_bytes: int
    governor: str | None
    system: str
    agent_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A job of a sweep that gave no result. `state` is failed or skipped."""

    artifact_name: str
    device: str
    state: str
    attempts: int
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepFacts:
    """A sweep and how far it is: jobs by state."""

    id: int
    name: str
    created_at: datetime
    seed: int
    states: Mapping[str, int]
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A moment at which the latency of a setup moved to another level. `ratio` is the new level over the old."""

    setup: Setup
    at: datetime
    ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetData:
    """All that a page shows. `chosen` says in words which results these are, `left_out` what of them is not shown and why.

    `spreads` and `courses` are of chosen measurements only, since they come from raw samples.
    """

    title: str
    made_at: datetime
    boardfit: str
    command: str
    chosen: str
    results: tuple[Result, ...]
    spreads: tuple[Spread, ...] = ()
    courses: tuple[Course, ...] = ()
    layers: tuple[LayerTimes, ...] = ()
    changes: tuple[Change, ...] = ()
    artifacts: Mapping[str, ArtifactFacts] = field(default_factory=dict)
    devices: tuple[DeviceFacts, ...] = ()
    sweep: SweepFacts | None = None
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """All results of one setup, the oldest first. Figures are medians over them, None where none of them has one."""

    setup: Setup
    results: tuple[Result, ...]

    @property
    def p50_ns(self) -> float:
        """Median over the repeats of the median latency."""
        return median(each.p50_ns for each in self.results)

    @property
    def p90_ns(self) -> float:
        """Median over the repeats of p90."""
        return median(each.p90_ns for each in self.results)

    @property
    def p99_ns(self) -> float:
        """Median over the repeats of p99."""
        return median(each.p99_ns for each in self.results)

    @property
    def range_ns(self) -> tuple[float, float]:
        """Smallest and largest p50 of the repeats."""
        values = [each.p50_ns for each in self.results]
        return min(values), max(values)

    @property
    def peak_memory_bytes(self) -> float | None:
        """Median over the repeats that know it."""
        return _median(each.peak_memory_bytes for each in self.results)

    @property
    def energy_j(self) -> float | None:
        """Median over the repeats that know it, gross, per run."""
        return _median(each.energy_j for each in self.results)

    @property
    def stable(self) -> int:
        """How many of the repeats nothing speaks against."""
        return sum(each.stable for each in self.results)


def _median(values: Iterable[float | None]) -> float | None:
    known = [each for each in values if each is not None]
    return median(known) if known else None


def cells(data: FleetData) -> tuple[Cell, ...]:
    """Return the results by setup, ordered by artifact, device, runtime and threads."""
    found: dict[Setup, list[Result]] = {}
    for result in data.results:
        found.setdefault(result.setup, []).append(result)
    made = [
        Cell(setup=setup, results=tuple(sorted(results, key=lambda each: (each.created_at, each.measurement_id))))
        for setup, results in found.items()
    ]
    return tuple(
        sorted(
            made,
            key=lambda each: (
                each.setup.artifact_name, each.setup.artifact, each.setup.device, each.setup.runtime,
                each.setup.runtime_version, each.setup.threads, each.setup.settings, each.results[-1].created_at,
            ),
        )
    )  # fmt: skip


def artifact_names(data: FleetData) -> dict[str, str]:
    """Return a name per artifact that no other has: of two files of one name, the hash's beginning tells which."""
    last = {each.setup.artifact: each.setup.artifact_name for each in data.results}
    count: dict[str, int] = {}
    for name in last.values():
        count[name] = count.get(name, 0) + 1
    return {sha: name if count[name] == 1 else f"{name} ({sha[:6]})" for sha, name in last.items()}
