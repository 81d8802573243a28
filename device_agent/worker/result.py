"""What a worker reports at the end. Standard library only: both sides use it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from device_agent.contract.measurement import (
    ArtifactResult,
    ColdStart,
    MeasureResult,
    MemoryPhases,
    NodeTime,
    Verdict,
    Window,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerArtifact:
    """ArtifactResult without its verdicts, and the latency that a clock tick has to be held against."""

    sha256: str
    load_ns: int
    provider: str
    provider_share: float | None
    peak_memory_bytes: int | None
    peak_rss_bytes: int | None
    nodes: tuple[NodeTime, ...] | None
    nodes_unavailable: str | None = None
    memory: MemoryPhases | None = None
    unrecorded_runs: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerResult:
    """MeasureResult without verdicts, and the facts that verdicts need. `clock_resolution_ns` is that of the run timer."""

    runtime: str
    runtime_version: str
    threads: int
    artifacts: tuple[WorkerArtifact, ...]
    device_time_ns: int
    steal_fraction: float | None
    clock_resolution_ns: int
    cpus: tuple[int, ...] | None = None
    windows: tuple[Window, ...] = ()

    def with_verdicts(
        self, verdicts: Sequence[Sequence[Verdict]], cold_starts: Sequence[Sequence[ColdStart]]
    ) -> MeasureResult:
        """Return the contract's result, given the verdicts and the cold starts of every artifact in order."""
        return MeasureResult(
            runtime=self.runtime,
            runtime_version=self.runtime_version,
            threads=self.threads,
            artifacts=tuple(
                ArtifactResult(
                    sha256=artifact.sha256,
                    load_ns=artifact.load_ns,
                    provider=artifact.provider,
                    provider_share=artifact.provider_share,
                    peak_memory_bytes=artifact.peak_memory_bytes,
                    peak_rss_bytes=artifact.peak_rss_bytes,
                    nodes=artifact.nodes,
                    nodes_unavailable=artifact.nodes_unavailable,
                    verdicts=tuple(own),
                    memory=artifact.memory,
                    cold_starts=tuple(started),
                    unrecorded_runs=artifact.unrecorded_runs,
                )
                for artifact, own, started in zip(self.artifacts, verdicts, cold_starts, strict=True)
            ),
            device_time_ns=self.device_time_ns,
            steal_fraction=self.steal_fraction,
            cpus=self.cpus,
            windows=self.windows,
        )
