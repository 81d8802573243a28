"""What a measurement yields."""

from __future__ import annotations

from device_agent.codec.fields import enum_from_pb, equal_lengths, optional
from device_agent.contract.errors import InvalidRequest
from device_agent.contract.measurement import (
    ArtifactResult,
    ColdStart,
    MeasureEvent,
    MeasureResult,
    MemoryPhases,
    NodeTime,
    Phase,
    Progress,
    Reading,
    ReadingBatch,
    Run,
    RunBatch,
    RunKind,
    Verdict,
    VerdictCode,
    Window,
    WindowKind,
)
from device_agent.contract.runs import KINDS, RunColumns
from device_agent.wire.v1 import agent_pb2 as pb

PHASES = {
    Phase.STARTING: pb.PHASE_STARTING,
    Phase.LOADING: pb.PHASE_LOADING,
    Phase.WARM_UP: pb.PHASE_WARM_UP,
    Phase.TIMING: pb.PHASE_TIMING,
    Phase.PROFILING: pb.PHASE_PROFILING,
    Phase.IDLE: pb.PHASE_IDLE,
    Phase.COLD_START: pb.PHASE_COLD_START,
}
RUN_KINDS = {
    RunKind.WARM_UP: pb.RUN_KIND_WARM_UP,
    RunKind.TIMED: pb.RUN_KIND_TIMED,
    RunKind.SETTLING: pb.RUN_KIND_SETTLING,
    RunKind.PROFILED: pb.RUN_KIND_PROFILED,
}
#: From a kind's place in KINDS to its number on the wire.
_KIND_NUMBERS = bytes(RUN_KINDS[kind] for kind in KINDS).ljust(256, b"\0")
WINDOW_KINDS = {
    WindowKind.IDLE_BEFORE: pb.WINDOW_KIND_IDLE_BEFORE,
    WindowKind.TIMED: pb.WINDOW_KIND_TIMED,
    WindowKind.IDLE_AFTER: pb.WINDOW_KIND_IDLE_AFTER,
}
VERDICTS = {
    VerdictCode.STABLE: pb.VERDICT_CODE_STABLE,
    VerdictCode.UNSTABLE: pb.VERDICT_CODE_UNSTABLE,
    VerdictCode.CONTENDED: pb.VERDICT_CODE_CONTENDED,
    VerdictCode.THROTTLED: pb.VERDICT_CODE_THROTTLED,
    VerdictCode.UNDER_VOLTAGE: pb.VERDICT_CODE_UNDER_VOLTAGE,
    VerdictCode.HOT: pb.VERDICT_CODE_HOT,
    VerdictCode.TOO_SHORT: pb.VERDICT_CODE_TOO_SHORT,
    VerdictCode.FELL_BACK: pb.VERDICT_CODE_FELL_BACK,
}


def progress_to_pb(progress: Progress) -> pb.Progress:
    return pb.Progress(phase=PHASES[progress.phase], fraction=progress.fraction, runs=progress.runs)


def progress_from_pb(message: pb.Progress) -> Progress:
    return Progress(phase=enum_from_pb(PHASES, message.phase, "phase"), fraction=message.fraction, runs=message.runs)


def runs_to_pb(batch: RunBatch) -> pb.RunBatch:
    runs = batch.runs
    if isinstance(runs, RunColumns):
        return pb.RunBatch(
            artifact=runs.artifacts,
            kind=runs.kinds.tobytes().translate(_KIND_NUMBERS),  # type: ignore[arg-type]  # bytes are numbers
            turn=runs.turns,
            start_ns=runs.starts,
            latency_ns=runs.latencies,
            disturbed=map(bool, runs.marks),
        )
    return pb.RunBatch(
        artifact=[run.artifact for run in runs],
        kind=[RUN_KINDS[run.kind] for run in runs],
        turn=[run.turn for run in runs],
        start_ns=[run.start_ns for run in runs],
        latency_ns=[run.latency_ns for run in runs],
        disturbed=[run.disturbed for run in runs],
    )


def runs_from_pb(message: pb.RunBatch) -> RunBatch:
    equal_lengths(message, "artifact", "kind", "turn", "start_ns", "latency_ns", "disturbed")
    columns = zip(
        message.artifact,
        message.kind,
        message.turn,
        message.start_ns,
        message.latency_ns,
        message.disturbed,
        strict=True,
    )
    return RunBatch(
        runs=tuple(
            Run(
                artifact=artifact,
                kind=enum_from_pb(RUN_KINDS, kind, "run kind"),
                turn=turn,
                start_ns=start_ns,
                latency_ns=latency_ns,
                disturbed=disturbed,
            )
            for artifact, kind, turn, start_ns, latency_ns, disturbed in columns
        )
    )


def readings_to_pb(batch: ReadingBatch) -> pb.ReadingBatch:
    names = sorted({reading.channel for reading in batch.readings})
    index = {name: number for number, name in enumerate(names)}
    return pb.ReadingBatch(
        names=names,
        channel=[index[reading.channel] for reading in batch.readings],
        time_ns=[reading.time_ns for reading in batch.readings],
        value=[reading.value for reading in batch.readings],
    )


def readings_from_pb(message: pb.ReadingBatch) -> ReadingBatch:
    equal_lengths(message, "channel", "time_ns", "value")
    names = list(message.names)
    if any(channel >= len(names) for channel in message.channel):
        raise InvalidRequest(f"a reading points past the {len(names)} channel names of its batch")
    columns = zip(message.channel, message.time_ns, message.value, strict=True)
    return ReadingBatch(
        readings=tuple(
            Reading(channel=names[channel], time_ns=time_ns, value=value) for channel, time_ns, value in columns
        )
    )


def read_sensors_request_to_pb(lease_token: str | None = None) -> pb.ReadSensorsRequest:
    return pb.ReadSensorsRequest(lease_token=lease_token)


def read_sensors_request_from_pb(message: pb.ReadSensorsRequest) -> str | None:
    """Return the lease token."""
    token: str | None = optional(message, "lease_token")
    return token


def node_time_to_pb(node: NodeTime) -> pb.NodeTime:
    return pb.NodeTime(
        name=node.name,
        op_type=node.op_type,
        median_ns=node.median_ns,
        share=node.share,
        runs=node.runs,
        input_shapes=[pb.Shape(dims=shape) for shape in node.input_shapes],
        output_shapes=[pb.Shape(dims=shape) for shape in node.output_shapes],
        sources=node.sources,
    )


def node_time_from_pb(message: pb.NodeTime) -> NodeTime:
    return NodeTime(
        name=message.name,
        op_type=message.op_type,
        median_ns=message.median_ns,
        share=message.share,
        runs=message.runs,
        input_shapes=tuple(tuple(shape.dims) for shape in message.input_shapes),
        output_shapes=tuple(tuple(shape.dims) for shape in message.output_shapes),
        sources=tuple(message.sources),
    )


def verdict_to_pb(verdict: Verdict) -> pb.Verdict:
    return pb.Verdict(
        code=VERDICTS[verdict.code],
        value=verdict.value,
        unit=verdict.unit,
        threshold=verdict.threshold,
        hint=verdict.hint,
    )


def verdict_from_pb(message: pb.Verdict) -> Verdict:
    return Verdict(
        code=enum_from_pb(VERDICTS, message.code, "verdict"),
        value=optional(message, "value"),
        unit=optional(message, "unit"),
        threshold=optional(message, "threshold"),
        hint=optional(message, "hint"),
    )


def memory_phases_to_pb(memory: MemoryPhases) -> pb.MemoryPhases:
    return pb.MemoryPhases(
        runtime_bytes=memory.runtime_bytes,
        load_bytes=memory.load_bytes,
        first_run_bytes=memory.first_run_bytes,
        steady_bytes=memory.steady_bytes,
    )


def memory_phases_from_pb(message: pb.MemoryPhases) -> MemoryPhases:
    return MemoryPhases(
        runtime_bytes=message.runtime_bytes,
        load_bytes=message.load_bytes,
        first_run_bytes=message.first_run_bytes,
        steady_bytes=message.steady_bytes,
    )


def cold_start_to_pb(start: ColdStart) -> pb.ColdStart:
    return pb.ColdStart(import_ns=start.import_ns, load_ns=start.load_ns, first_run_ns=start.first_run_ns)


def cold_start_from_pb(message: pb.ColdStart) -> ColdStart:
    return ColdStart(import_ns=message.import_ns, load_ns=message.load_ns, first_run_ns=message.first_run_ns)


def window_to_pb(window: Window) -> pb.Window:
    return pb.Window(kind=WINDOW_KINDS[window.kind], start_ns=window.start_ns, end_ns=window.end_ns)


def window_from_pb(message: pb.Window) -> Window:
    return Window(
        kind=enum_from_pb(WINDOW_KINDS, message.kind, "window"), start_ns=message.start_ns, end_ns=message.end_ns
    )


def artifact_result_to_pb(result: ArtifactResult) -> pb.ArtifactResult:
    nodes = None
    if result.nodes is not None:
        nodes = pb.NodeTimes(nodes=[node_time_to_pb(node) for node in result.nodes])
    return pb.ArtifactResult(
        sha256=result.sha256,
        load_ns=result.load_ns,
        provider=result.provider,
        provider_share=result.provider_share,
        peak_memory_bytes=result.peak_memory_bytes,
        peak_rss_bytes=result.peak_rss_bytes,
        nodes=nodes,
        verdicts=[verdict_to_pb(verdict) for verdict in result.verdicts],
        memory=None if result.memory is None else memory_phases_to_pb(result.memory),
        cold_starts=[cold_start_to_pb(start) for start in result.cold_starts],
        unrecorded_runs=result.unrecorded_runs,
        nodes_unavailable=result.nodes_unavailable,
    )


def artifact_result_from_pb(message: pb.ArtifactResult) -> ArtifactResult:
    nodes = None
    if message.HasField("nodes"):
        nodes = tuple(node_time_from_pb(node) for node in message.nodes.nodes)
    return ArtifactResult(
        sha256=message.sha256,
        load_ns=message.load_ns,
        provider=message.provider,
        provider_share=optional(message, "provider_share"),
        peak_memory_bytes=optional(message, "peak_memory_bytes"),
        peak_rss_bytes=optional(message, "peak_rss_bytes"),
        nodes=nodes,
        verdicts=tuple(verdict_from_pb(verdict) for verdict in message.verdicts),
        memory=memory_phases_from_pb(message.memory) if message.HasField("memory") else None,
        cold_starts=tuple(cold_start_from_pb(start) for start in message.cold_starts),
        unrecorded_runs=message.unrecorded_runs,
        nodes_unavailable=optional(message, "nodes_unavailable"),
    )


def measure_result_to_pb(result: MeasureResult) -> pb.MeasureResult:
    return pb.MeasureResult(
        runtime=result.runtime,
        runtime_version=result.runtime_version,
        threads=result.threads,
        artifacts=[artifact_result_to_pb(artifact) for artifact in result.artifacts],
        device_time_ns=result.device_time_ns,
        steal_fraction=result.steal_fraction,
        cpus=result.cpus or (),
        windows=[window_to_pb(window) for window in result.windows],
    )


def measure_result_from_pb(message: pb.MeasureResult) -> MeasureResult:
    return MeasureResult(
        runtime=message.runtime,
        runtime_version=message.runtime_version,
        threads=message.threads,
        artifacts=tuple(artifact_result_from_pb(artifact) for artifact in message.artifacts),
        device_time_ns=message.device_time_ns,
        steal_fraction=optional(message, "steal_fraction"),
        cpus=tuple(message.cpus) or None,
        windows=tuple(window_from_pb(window) for window in message.windows),
    )


def event_to_pb(event: MeasureEvent) -> pb.MeasureEvent:
    if isinstance(event, Progress):
        return pb.MeasureEvent(progress=progress_to_pb(event))
    if isinstance(event, RunBatch):
        return pb.MeasureEvent(runs=runs_to_pb(event))
    if isinstance(event, ReadingBatch):
        return pb.MeasureEvent(readings=readings_to_pb(event))
    return pb.MeasureEvent(result=measure_result_to_pb(event))


def event_from_pb(message: pb.MeasureEvent) -> MeasureEvent:
    which = message.WhichOneof("event")
    if which == "progress":
        return progress_from_pb(message.progress)
    if which == "runs":
        return runs_from_pb(message.runs)
    if which == "readings":
        return readings_from_pb(message.readings)
    if which == "result":
        return measure_result_from_pb(message.result)
    raise InvalidRequest("the measurement sent an event that this version does not know; update the older side")
