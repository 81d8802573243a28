"""What the user asks of a compression."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from device_agent.contract.errors import InvalidRequest
from host.compress.plan_file import digest

METHODS = ("latency", "uniform")
#: The criteria of host.compress.importance by name; named here too, since that module needs torch.
CRITERIA = ("taylor", "hessian", "l1", "l2", "fpgm", "bn-gamma", "random")
#: Runtimes that a network can be compressed for; each decides the format of the files.
RUNTIMES = ("onnxruntime", "litert", "tflite-runtime")
#: Where the loss of a width comes from: the network with those channels masked, or the criterion's scores alone.
SENSITIVITIES = ("measured", "criterion")
PRECISIONS = ("auto", "float32", "int8")

#: Percentiles of a latency target.
PERCENTILES = (50, 90)
#: Refitted weights are lost at higher rates.
LEARNING_RATE = 0.01
#: Below this ratio the cut is made in rounds with fine-tuning between them. At 0.49x, weights refitted, two rounds were no
#: better than one (docs/search.md), and take twice the searching and measuring.
ONE_SHOT_RATIO = 0.45


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyTarget:
    """Either a ratio to the baseline's latency or a latency in nanoseconds, of the median or the 90th percentile of runs."""

    ratio: float | None = None
    latency_ns: float | None = None
    percentile: int = 50

    def __post_init__(self) -> None:
        if (self.ratio is None) == (self.latency_ns is None):
            raise InvalidRequest("a latency target is either a ratio (0.5x) or a time (30ms)")
        if self.percentile not in PERCENTILES:
            raise InvalidRequest(f"percentile {self.percentile} is not one of {', '.join(map(str, PERCENTILES))}")
        if self.ratio is not None and not 0 < self.ratio < 1:
            raise InvalidRequest(
                f"target ratio {self.ratio:g}x is not between 0 and 1: it is a share of the baseline's latency"
            )
        if self.latency_ns is not None and self.latency_ns <= 0:
            raise InvalidRequest(f"target latency {self.latency_ns:g} ns is not positive")

    @property
    def name(self) -> str:
        """The percentile's key in a record's latencies."""
        return f"p{self.percentile}"

    def of(self, baseline_ns: float) -> float:
        """Return the target as a ratio to the baseline's latency, which is of the same percentile."""
        if self.ratio is not None:
            return self.ratio
        assert self.latency_ns is not None
        return self.latency_ns / baseline_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyBudget:
    """Either a ratio to the baseline's energy per run or joules per run."""

    ratio: float | None = None
    joules: float | None = None

    def __post_init__(self) -> None:
        if (self.ratio is None) == (self.joules is None):
            raise InvalidRequest("an energy budget is either a ratio (0.5x) or an energy per run (20mJ)")
        if not (self.ratio or self.joules or 0) > 0:
            raise InvalidRequest(f"energy budget {self.ratio or self.joules:g} is not positive")

    def of(self, baseline_j: float) -> float:
        """Return the budget as a ratio to the baseline's energy per run."""
        if self.ratio is not None:
            return self.ratio
        assert self.joules is not None
        return self.joules / baseline_j


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressOptions:
    """Every field changes the result; together they identify a run (see `identity`).

    `epochs` is the fine-tuning budget over all rounds; `recipe` holds what a recipe file says of the rest of the fine-tuning, as
    host.compress.recipe_file reads it; `workers` None lets the GPUs decide, `rounds` None the target; `probes` is the number of
    variants that the latency model is learned from; accuracies are fractions, sizes bytes. `precision` auto lets the device
    decide, float32 tries no other, int8 takes it whatever the device says. `plan` is the path of a plan.json to cut instead of
    planning; `drop_blocks` lets a plan leave out whole residual branches; `resolutions` are heights (pixels) of smaller images
    that it may ask for. `sensitivity` says where the first losses come from; a round's search ranks up to `candidates` plans, and
    begins no other after `search_seconds` (None: no limit).
    """

    model: str
    data: str
    target: LatencyTarget
    checkpoint: str | None = None
    method: str = "latency"
    criterion: str = "taylor"
    sensitivity: str = "measured"
    candidates: int = 32
    search_seconds: float | None = None
    epochs: int = 8
    batch_size: int = 64
    learning_rate: float = LEARNING_RATE
    recipe: Mapping[str, Any] = field(default_factory=dict)
    rounds: int | None = None
    workers: int | None = None
    probes: int = 6
    runtime: str = "onnxruntime"
    threads: int | None = None
    provider: str | None = None
    max_size_bytes: int | None = None
    max_memory_bytes: int | None = None
    max_energy: EnergyBudget | None = None
    max_accuracy_drop: float | None = None
    drop_blocks: bool = False
    resolutions: tuple[int, ...] = ()
    precision: str = "auto"
    plan: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InvalidRequest(f"method {self.method!r} is not one of {', '.join(METHODS)}")
        if self.criterion not in CRITERIA:
            raise InvalidRequest(f"criterion {self.criterion!r} is not one of {', '.join(CRITERIA)}")
        if self.sensitivity not in SENSITIVITIES:
            raise InvalidRequest(f"sensitivity {self.sensitivity!r} is not one of {', '.join(SENSITIVITIES)}")
        if self.runtime not in RUNTIMES:
            raise InvalidRequest(f"runtime {self.runtime!r} is not one of {', '.join(RUNTIMES)}")
        if self.precision not in PRECISIONS:
            raise InvalidRequest(f"precision {self.precision!r} is not one of {', '.join(PRECISIONS)}")
        for name in ("epochs", "batch_size", "probes", "candidates"):
            if getattr(self, name) < 1:
                raise InvalidRequest(f"{name}={getattr(self, name)} must be at least 1")
        if self.rounds is not None and not 1 <= self.rounds <= self.epochs:
            raise InvalidRequest(
                f"rounds={self.rounds} must lie between 1 and epochs={self.epochs}: each round is fine-tuned"
            )
        if not 0 < self.learning_rate < 10:
            raise InvalidRequest(f"learning_rate={self.learning_rate} is not between 0 and 10")
        if min(self.resolutions, default=1) < 1 or len(set(self.resolutions)) < len(self.resolutions):
            raise InvalidRequest(f"resolutions {self.resolutions} must be different heights in pixels")
        if self.resolutions and self.precision == "int8":
            raise InvalidRequest(
                "int8 is planned at the model's own resolution only: leave out --resolutions, or --precision int8"
            )
        if self.resolutions and self.plan is not None:
            raise InvalidRequest("a given plan says its resolution itself: leave out --resolutions")
        for name in ("max_size_bytes", "max_memory_bytes", "max_accuracy_drop", "search_seconds"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise InvalidRequest(f"{name}={value} must not be negative")

    def rounds_for(self, ratio: float) -> int:
        """Return how many rounds a cut to `ratio` of the latency takes: steps of ONE_SHOT_RATIO each, at most one per epoch."""
        if self.rounds is not None:
            return self.rounds
        rounds = 1
        while ratio < ONE_SHOT_RATIO**rounds - 1e-9 and rounds < self.epochs:
            rounds += 1
        return rounds

    def identity(self) -> dict[str, Any]:
        """Return all fields as JSON values: a run is resumed only under the same ones. A plan counts by its content."""
        return {**dataclasses.asdict(self), "plan": None if self.plan is None else digest(Path(self.plan))}
