"""How a model is run and for how long: values that travel with every measurement and are stored beside its result."""

from __future__ import annotations

import math
from dataclasses import dataclass

from device_agent.contract.errors import InvalidRequest

#: A timed loop ends after this many runs of one artifact, whatever was asked for: every run is kept and sent.
MAX_RUNS = 1_000_000
#: The most artifacts that one job may measure in turns; all are in memory at once.
MAX_ARTIFACTS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a model is run. Two results are comparable only if their settings are equal.

    `runtime` is onnxruntime, litert or tflite-runtime; `provider` is ONNX Runtime's execution provider, None for the
    runtime's default; `threads` counts intra-op threads, None for the device's default; `cpus` pins the worker.
    """

    runtime: str = "onnxruntime"
    threads: int | None = None
    provider: str | None = None
    cpus: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.threads is not None and not 1 <= self.threads <= 1024:
            raise InvalidRequest(f"threads={self.threads} is not in 1..1024")
        if self.cpus is not None and (not self.cpus or min(self.cpus) < 0 or len(set(self.cpus)) != len(self.cpus)):
            raise InvalidRequest(f"cpus={self.cpus} is not a list of different processor numbers")


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
    `deadline_s` bounds the whole job, after which its worker is killed; `memory_limit_bytes` bounds the worker's RSS.
    """

    artifacts: tuple[str, ...]
    settings: Settings = Settings()
    stopping: Stopping = Stopping()
    turn_runs: int = 5
    profile_nodes: bool = False
    seed: int = 0
    deadline_s: float | None = None
    memory_limit_bytes: int | None = None

    def __post_init__(self) -> None:
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
