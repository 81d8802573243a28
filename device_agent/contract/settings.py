"""How a model is run and for how long: values that travel with every measurement and are stored beside its result."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from device_agent.contract.artifact import check_sha256
from device_agent.contract.errors import InvalidRequest

#: A timed loop ends after this many runs of one artifact, whatever was asked for: every run is kept and sent.
MAX_RUNS = 1_000_000
#: The most artifacts that one job may measure in turns; all are in memory at once.
MAX_ARTIFACTS = 64


class CpuGroup(str, Enum):
    """Processors of one kind, told apart by the kernel's capacities or highest clocks. A device of equal ones has no groups."""

    BIG = "big"
    LITTLE = "little"


class GraphOptimization(str, Enum):
    """How far the runtime may rewrite the graph when it loads a model (ONNX Runtime's levels)."""

    DISABLED = "disabled"
    BASIC = "basic"
    EXTENDED = "extended"
    ALL = "all"


class InputKind(str, Enum):
    """What the model is fed: random values with a seed, zeros, or the arrays of an uploaded artifact of format npz."""

    RANDOM = "random"
    ZEROS = "zeros"
    DATA = "data"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a model is run. Two results are comparable only if their settings are equal. None leaves a choice to runtime or device.

    `runtime` is onnxruntime, litert, tflite-runtime or one that was added; `provider` is ONNX Runtime's execution provider or
    LiteRT's delegate, `provider_options` its options as (name, value) in order of their names. `threads` counts intra-op threads.
    `cpus` pins the worker to processors, `cpu_group` to those of one kind; only one of the two may be given. `nice` is the
    worker's niceness, -20 to 19. `batch` is the size of a dynamic first dimension of every input. `memory_arena` says whether the
    runtime may keep freed memory for its next run. `inputs_sha256` is the artifact that `inputs` DATA takes.
    """

    runtime: str = "onnxruntime"
    threads: int | None = None
    provider: str | None = None
    provider_options: tuple[tuple[str, str], ...] = ()
    cpus: tuple[int, ...] | None = None
    cpu_group: CpuGroup | None = None
    nice: int | None = None
    batch: int | None = None
    graph_optimization: GraphOptimization | None = None
    memory_arena: bool | None = None
    inputs: InputKind = InputKind.RANDOM
    inputs_sha256: str | None = None

    def __post_init__(self) -> None:
        if self.threads is not None and not 1 <= self.threads <= 1024:
            raise InvalidRequest(f"threads={self.threads} is not in 1..1024")
        if self.cpus is not None and (not self.cpus or min(self.cpus) < 0 or len(set(self.cpus)) != len(self.cpus)):
            raise InvalidRequest(f"cpus={self.cpus} is not a list of different processor numbers")
        if self.cpus is not None and self.cpu_group is not None:
            raise InvalidRequest(f"cpus={self.cpus} and cpu_group={self.cpu_group.value} exclude each other; give one")
        if self.nice is not None and not -20 <= self.nice <= 19:
            raise InvalidRequest(f"nice={self.nice} is not in -20..19")
        if self.batch is not None and not 1 <= self.batch <= 65536:
            raise InvalidRequest(f"batch={self.batch} is not in 1..65536")
        names = [name for name, _ in self.provider_options]
        if names != sorted(set(names)):
            raise InvalidRequest(
                f"provider_options={self.provider_options} must name each option once, in order of the names"
            )
        if (self.inputs is InputKind.DATA) != (self.inputs_sha256 is not None):
            raise InvalidRequest(
                f"inputs={self.inputs.value} with inputs_sha256={self.inputs_sha256}: data inputs need an artifact, others none"
            )
        if self.inputs_sha256 is not None:
            check_sha256(self.inputs_sha256)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopping:
    """When a timed loop ends: after `min_runs`, `min_time_s` and `precision` are all reached, or after `max_time_s`, or after
    MAX_RUNS runs.

    `precision` is the half-width of the 95 % interval of the median, relative to it; with several artifacts that of each one's
    paired ratio to the first, since a drift that they share widens the medians only. None asks for no precision.
    Counts and times are per artifact; warm-up is apart and comes first.
    """

    warmup_runs: int = 5
    warmup_time_s: float = 0.5
    min_runs: int = 50
    min_time_s: float = 1.0
    max_time_s: float = 10.0
    precision: float | None = 0.01

    def __post_init__(self) -> None:
        if self.warmup_runs < 1 or self.min_runs < 1:
            raise InvalidRequest(f"warmup_runs={self.warmup_runs} and min_runs={self.min_runs} must be at least 1")
        if max(self.warmup_runs, self.min_runs) > MAX_RUNS:
            raise InvalidRequest(
                f"warmup_runs={self.warmup_runs} and min_runs={self.min_runs} may be {MAX_RUNS} at most"
            )
        if not 0 <= self.warmup_time_s <= 3600 or not 0 <= self.min_time_s <= self.max_time_s <= 86400:
            raise InvalidRequest(
                f"times must satisfy 0 <= min_time_s ({self.min_time_s}) <= max_time_s ({self.max_time_s}) <= 86400"
                f" and 0 <= warmup_time_s ({self.warmup_time_s}) <= 3600"
            )
        if self.precision is not None and not 0 < self.precision < 1:
            raise InvalidRequest(f"precision={self.precision} is not between 0 and 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureRequest:
    """A measurement of one artifact, or of several in balanced turns inside one worker process.

    `artifacts` are sha256 hashes; the first is the baseline of a paired measurement. `turn_runs` is the number of runs of one
    artifact before the next has its turn; with several artifacts the first run of each turn is marked as settling.
    `profile_nodes` adds profiled twins for node times; their runs are never given as latency. Inputs are random with `seed`.
    `cold_starts` counts fresh processes that load each artifact and run it once, before the timed part; each is reported apart.
    `soak_s` runs the only artifact without a pause for so long, whatever `stopping` says of times and precision; of a long soak
    only turns at even distances are recorded, and the other runs are counted. `idle_s` is how long the worker rests with its
    models loaded before and after the timed part, as the baseline of energy; None leaves it to the device: 0 without a power
    sensor, or for several artifacts.
    `deadline_s` bounds the whole job, after which its worker is killed; `memory_limit_bytes` bounds the worker's RSS.
    """

    artifacts: tuple[str, ...]
    settings: Settings = Settings()
    stopping: Stopping = Stopping()
    turn_runs: int = 5
    profile_nodes: bool = False
    seed: int = 0
    cold_starts: int = 0
    soak_s: float | None = None
    idle_s: float | None = None
    deadline_s: float | None = None
    memory_limit_bytes: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.cold_starts <= 1000:
            raise InvalidRequest(f"cold_starts={self.cold_starts} is not in 0..1000")
        if self.soak_s is not None and not 0 < self.soak_s <= 7 * 86400:
            raise InvalidRequest(f"soak_s={self.soak_s} is not in 0..604800 seconds")
        if self.soak_s is not None and (len(self.artifacts) > 1 or self.profile_nodes):
            raise InvalidRequest(
                "a soak runs one artifact and profiles no nodes; measure the others in jobs of their own"
            )
        if self.idle_s is not None and not 0 <= self.idle_s <= 600:
            raise InvalidRequest(f"idle_s={self.idle_s} is not in 0..600 seconds")
        if not self.artifacts:
            raise InvalidRequest("a measurement needs at least one artifact")
        if len(self.artifacts) > MAX_ARTIFACTS:
            raise InvalidRequest(
                f"{len(self.artifacts)} artifacts in one measurement; {MAX_ARTIFACTS} at most, so measure them in groups"
            )
        if not 1 <= self.turn_runs <= 10_000:
            raise InvalidRequest(f"turn_runs={self.turn_runs} is not in 1..10000")
        if self.turn_runs == 1 and len(self.artifacts) > 1:
            raise InvalidRequest(
                "turn_runs=1 leaves no timed run: with several artifacts the first of each turn settles"
            )
        if not 0 <= self.seed < 2**64:
            raise InvalidRequest(f"seed={self.seed} is not in 0..2**64-1")
        if self.deadline_s is not None and not 0 < self.deadline_s < math.inf:
            raise InvalidRequest(f"deadline_s={self.deadline_s} is not a positive, finite time")
        if self.memory_limit_bytes is not None and self.memory_limit_bytes <= 0:
            raise InvalidRequest(f"memory_limit_bytes={self.memory_limit_bytes} is not positive")
