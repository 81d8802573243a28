"""What a measurement yields: events while it runs, and the record that they add up to.

Definitions. A run is timed from inputs in memory to outputs in memory (IO binding in ONNX Runtime, invoke in LiteRT); the
conversion of inputs and copies to and from the network are left out. Times are CLOCK_MONOTONIC of the device, in nanoseconds.
Warm-up runs and settling runs are kept in the record and never in the statistics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from device_agent.contract.settings import MeasureRequest


class RunKind(str, Enum):
    """Why a run was made. Only TIMED runs enter the statistics; PROFILED runs belong to a profiled twin."""

    WARM_UP = "warm-up"
    TIMED = "timed"
    SETTLING = "settling"  # the first run of a turn, with a cold cache
    PROFILED = "profiled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One timed inference. `artifact` is its index in the request; `turn` counts the turns over all artifacts.

    `disturbed` is true if the kernel preempted the worker during this run or the one before it
    (involuntary context switches of the thread, or of the process when several threads compute).
    """

    artifact: int
    kind: RunKind
    turn: int
    start_ns: int
    latency_ns: int
    disturbed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RunBatch:
    """Runs in the order in which they were made; inside the agent they are columns (device_agent.contract.runs)."""

    runs: Sequence[Run]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One sample of a channel, by the channel's name, at a monotonic time. A failed read yields no reading."""

    channel: str
    time_ns: int
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingBatch:
    """Readings in the order of their times."""

    readings: tuple[Reading, ...]


class Phase(str, Enum):
    """Where a job is."""

    STARTING = "starting"
    LOADING = "loading"
    WARM_UP = "warm-up"
    TIMING = "timing"
    PROFILING = "profiling"
    IDLE = "idle"
    COLD_START = "cold-start"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """`fraction` is the share of the time or runs that the stopping rule asks for at least; it may end before 1."""

    phase: Phase
    fraction: float
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTime:
    """One node as the runtime ran it, after fusion. `share` is its part of the sum over nodes; `runs` were profiled.

    `median_ns` is the median over those runs, interpolated within the microsecond that runtimes resolve. `sources` names the
    file's own nodes that the runtime made this one of, in their order; a node without a name (all in TFLite) goes by that of its
    first output tensor. It is empty for what the runtime added (changes of layout, for one) and where it is not known.
    """

    name: str
    op_type: str
    median_ns: float
    share: float
    runs: int
    input_shapes: tuple[tuple[int, ...], ...] = ()
    output_shapes: tuple[tuple[int, ...], ...] = ()
    sources: tuple[str, ...] = ()


class VerdictCode(str, Enum):
    """What a measurement says about itself. STABLE stands alone."""

    STABLE = "stable"
    UNSTABLE = "unstable"
    CONTENDED = "contended"
    THROTTLED = "throttled"
    UNDER_VOLTAGE = "under-voltage"
    HOT = "hot"
    TOO_SHORT = "too-short"
    FELL_BACK = "fell-back"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One finding: the figure behind it, its unit, the threshold that it crossed, and the next thing to do."""

    code: VerdictCode
    value: float | None = None
    unit: str | None = None
    threshold: float | None = None
    hint: str | None = None


class WindowKind(str, Enum):
    """What the worker did in a window of time."""

    IDLE_BEFORE = "idle-before"
    TIMED = "timed"
    IDLE_AFTER = "idle-after"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A stretch of a job in which the worker did one thing; in the idle ones it slept with its models loaded."""

    kind: WindowKind
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPhases:
    """Where a worker's memory went. `runtime_bytes` was resident after the runtime's import; the others are the high-water marks
    above it while the model was loaded, in its first run, and from then to the end of the warm-up."""

    runtime_bytes: int
    load_bytes: int
    first_run_bytes: int
    steady_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdStart:
    """A fresh process: from its start to the runtime's import done, then to the model loaded, then to its first outputs.

    The file's pages and the libraries are in the kernel's cache unless this is the first process since the device started.
    """

    import_ns: int
    load_ns: int
    first_run_ns: int

    @property
    def total_ns(self) -> int:
        """From the process's start to the first outputs."""
        return self.import_ns + self.load_ns + self.first_run_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactResult:
    """What is known of one artifact apart from its runs.

    `peak_memory_bytes` is the worker's high-water mark above the runtime's import, `peak_rss_bytes` the gross one; both are None
    when several artifacts shared the worker, as is `memory`. `provider` is the one that really ran; `provider_share` its share of
    nodes. `unrecorded_runs` were made in the timed window of a soak and are only counted. `nodes_unavailable` says why there
    are no `nodes` although they were asked for.
    """

    sha256: str
    load_ns: int
    provider: str
    provider_share: float | None
    peak_memory_bytes: int | None
    peak_rss_bytes: int | None
    nodes: tuple[NodeTime, ...] | None
    verdicts: tuple[Verdict, ...]
    memory: MemoryPhases | None = None
    cold_starts: tuple[ColdStart, ...] = ()
    unrecorded_runs: int = 0
    nodes_unavailable: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureResult:
    """The last event of a successful job. `device_time_ns` is the wall time that the job held the device.

    `cpus` are the processors that the worker was pinned to, None where it was not. `windows` are in order of time.
    """

    runtime: str
    runtime_version: str
    threads: int
    artifacts: tuple[ArtifactResult, ...]
    device_time_ns: int
    steal_fraction: float | None  # time that the hypervisor took, of one core's time, over the job
    cpus: tuple[int, ...] | None = None
    windows: tuple[Window, ...] = ()

    @property
    def timed_span(self) -> tuple[int, int] | None:
        """Start and end of the timed part (ns), None if the record does not say."""
        timed = [window for window in self.windows if window.kind is WindowKind.TIMED]
        return (timed[0].start_ns, timed[-1].end_ns) if timed else None


MeasureEvent = Progress | RunBatch | ReadingBatch | MeasureResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """A finished job: request, result and all raw samples. Statistics are derived when they are read."""

    request: MeasureRequest
    result: MeasureResult
    runs: tuple[Run, ...]
    readings: tuple[Reading, ...]

    def timed(self, artifact: int = 0) -> list[Run]:
        """Return the timed runs of one artifact in their order."""
        return [run for run in self.runs if run.artifact == artifact and run.kind is RunKind.TIMED]

    def latencies_ns(self, artifact: int = 0, *, undisturbed: bool = False) -> list[int]:
        """Return the timed latencies of one artifact in the order of the runs; optionally only the undisturbed ones."""
        return [
            run.latency_ns
            for run in self.runs
            if run.artifact == artifact and run.kind is RunKind.TIMED and not (undisturbed and run.disturbed)
        ]
