"""From the options of `bench` to the request of a measurement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from device_agent.bench_options import in_option_words
from device_agent.contract.artifact import ArtifactFormat
from device_agent.contract.errors import InvalidRequest
from device_agent.contract.settings import (
    CpuGroup,
    GraphOptimization,
    InputKind,
    MeasureRequest,
    Settings,
    Stopping,
)

_STOPPING = Stopping()
#: Stands for hashes before the files are known; only their number matters.
_ANY_SHA256 = "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """What a user asked for; None where nothing was said. Times are seconds, sizes bytes, shares fractions."""

    runtime: str | None = None
    provider: str | None = None
    provider_option: tuple[tuple[str, str], ...] = ()
    graph_optimization: str | None = None
    memory_arena: bool | None = None
    threads: int | None = None
    cpus: tuple[int, ...] | None = None
    cpu_group: str | None = None
    nice: int | None = None
    batch: int | None = None
    inputs: InputKind | Path | None = None
    seed: int | None = None
    warmup_runs: int | None = None
    warmup_time: float | None = None
    min_runs: int | None = None
    min_time: float | None = None
    max_time: float | None = None
    precision: float | None = None
    soak: float | None = None
    difference: float | None = None
    layers: bool = False
    cold_starts: int | None = None
    idle: float | None = None
    memory_limit: int | None = None
    timeout: float | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any], models: int) -> BenchOptions:
        """Return the options for so many models. InvalidRequest, in the words of the options, for what does not go together."""
        known = {field.name for field in fields(cls)}
        given = {name: value for name, value in values.items() if name in known and value is not None}
        options = cls(**{**given, "provider_option": tuple(sorted(given.get("provider_option", ())))})
        options._check(models)
        return options

    @property
    def inputs_file(self) -> Path | None:
        """The .npz file to be given as inputs, None for random ones or zeros."""
        return self.inputs if isinstance(self.inputs, Path) else None

    def request(self, artifacts: Sequence[str], *, runtime: str, inputs_sha256: str | None = None) -> MeasureRequest:
        """Return the request for artifacts (their hashes). InvalidRequest in the words of the options."""
        kind = InputKind.DATA if self.inputs_file is not None else self.inputs or InputKind.RANDOM
        with in_option_words():
            settings = Settings(
                runtime=runtime,
                threads=self.threads,
                provider=self.provider,
                provider_options=self.provider_option,
                cpus=self.cpus,
                cpu_group=None if self.cpu_group is None else CpuGroup(self.cpu_group),
                nice=self.nice,
                batch=self.batch,
                graph_optimization=None
                if self.graph_optimization is None
                else GraphOptimization(self.graph_optimization),
                memory_arena=self.memory_arena,
                inputs=InputKind(kind),
                inputs_sha256=inputs_sha256,
            )
            return MeasureRequest(
                artifacts=tuple(artifacts),
                settings=settings,
                stopping=self._stopping(),
                profile_nodes=self.layers,
                seed=self.seed or 0,
                cold_starts=self.cold_starts or 0,
                soak_s=self.soak,
                idle_s=self.idle,
                deadline_s=self.timeout,
                memory_limit_bytes=self.memory_limit,
            )

    def _stopping(self) -> Stopping:
        longest = self.max_time
        if longest is None and self.min_time is not None:
            longest = max(self.min_time, _STOPPING.max_time_s)
        shortest = self.min_time
        if shortest is None and longest is not None:
            shortest = min(longest, _STOPPING.min_time_s)
        given = {
            "warmup_runs": self.warmup_runs,
            "warmup_time_s": self.warmup_time,
            "min_runs": self.min_runs,
            "min_time_s": shortest,
            "max_time_s": longest,
            "precision": self.precision,
        }
        return Stopping(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]

    def _check(self, models: int) -> None:
        names = [name for name, _ in self.provider_option]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InvalidRequest(f"--provider-option {twice} is given more than once")
        if self.provider_option and self.provider is None:
            raise InvalidRequest("--provider-option needs --provider")
        if self.min_time is not None and self.max_time is not None and self.min_time > self.max_time:
            raise InvalidRequest(f"--min-time {self.min_time:g}s is longer than --max-time {self.max_time:g}s")
        if self.soak is not None:
            idle = next((name for name in ("min_runs", "min_time", "max_time", "precision") if self._has(name)), None)
            if idle is not None:
                raise InvalidRequest(
                    f"--{idle.replace('_', '-')} has no effect with --soak, which sets the time itself"
                )
            if models > 1 or self.layers:
                raise InvalidRequest("--soak takes one model and no --layers")
        if self.difference is not None and models == 1:
            raise InvalidRequest("--difference compares several models; give another MODEL")
        if self.seed is not None and self.inputs not in (None, InputKind.RANDOM):
            raise InvalidRequest("--seed has no effect with --inputs zeros or a file")
        self.request(
            (_ANY_SHA256,) * models,
            runtime=self.runtime or "onnxruntime",
            inputs_sha256=None if self.inputs_file is None else _ANY_SHA256,
        )

    def _has(self, name: str) -> bool:
        return getattr(self, name) is not None


def one_format(names: Sequence[str]) -> ArtifactFormat:
    """Return the format of model files that share a worker. InvalidRequest for other files, and for a mixture."""
    formats = []
    for name in names:
        suffix = Path(name).suffix
        kind = next((each for each in ArtifactFormat if each.is_model and suffix.lower() == f".{each.value}"), None)
        if kind is None:
            raise InvalidRequest(f"{name} is no model file; give an .onnx or .tflite file")
        formats.append(kind)
    for name, kind in zip(names, formats, strict=True):
        if kind is not formats[0]:
            raise InvalidRequest(
                f"{names[0]} and {name} need different runtimes, and models that are compared share one; measure them in "
                "commands of their own"
            )
    return formats[0]
