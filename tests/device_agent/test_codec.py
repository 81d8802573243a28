"""Every pair of conversions gives back what went in, and refuses what it does not know."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from device_agent import codec
from device_agent.contract.artifact import Artifact, ArtifactFormat, Tensor
from device_agent.contract.device import Channel, DeviceInfo, MissingSensor, Quantity, RuntimeInfo
from device_agent.contract.errors import InvalidRequest
from device_agent.contract.lease import DeviceUse, Job, Lease, Place, Waiter
from device_agent.contract.load import LoadRequest, LoadResult, LoadTrial, ServedBatch, ServedRequest
from device_agent.contract.measurement import (
    ArtifactResult,
    ColdStart,
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
from device_agent.contract.runs import RunColumns
from device_agent.contract.settings import (
    MAX_RUNS,
    CpuGroup,
    GraphOptimization,
    InputKind,
    MeasureRequest,
    Settings,
    Stopping,
)
from device_agent.contract.transfer import HeldBytes, InferHeader, UploadHeader
from device_agent.wire.v1 import agent_pb2 as pb

# protobuf strings are UTF-8, which has no lone surrogates.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
i64 = st.integers(-(2**63), 2**63 - 1)
floats = st.floats(allow_nan=False)
hashes = st.text("0123456789abcdef", min_size=64, max_size=64)
formats = st.sampled_from(ArtifactFormat)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def several(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(strategy, max_size=4).map(tuple)


artifacts = st.builds(Artifact, sha256=hashes, format=formats, size_bytes=st.integers(1, 2**64 - 1), name=texts)
tensors = st.builds(Tensor, name=texts, dtype=texts, shape=several(u64), data=st.binary(max_size=64))
channels = st.builds(
    Channel,
    name=texts,
    quantity=st.sampled_from(Quantity),
    site=texts,
    source=texts,
    meter=maybe(texts),
    part_of=maybe(texts),
    interval_s=maybe(floats),
    resolution=maybe(floats),
    note=maybe(texts),
)
missing_sensors = st.builds(MissingSensor, kind=texts, reason=texts)
runtimes = st.builds(
    RuntimeInfo,
    name=texts,
    version=maybe(texts),
    formats=several(formats),
    providers=several(texts),
    max_onnx_opset=maybe(u32),
    max_onnx_ir=maybe(u32),
    unavailable=maybe(texts),
)
devices = st.builds(
    DeviceInfo,
    device_id=texts,
    agent_version=texts,
    contract_version=u32,
    profile=maybe(texts),
    board=texts,
    architecture=texts,
    cpu=texts,
    cores=u32,
    memory_bytes=u64,
    operating_system=texts,
    kernel=texts,
    python=texts,
    governor=maybe(texts),
    default_threads=u32,
    runtimes=several(runtimes),
    channels=several(channels),
    missing_sensors=several(missing_sensors),
)
pins = (
    st.builds(dict, cpus=st.lists(st.integers(0, 63), min_size=1, max_size=4, unique=True).map(tuple))
    | st.builds(dict, cpu_group=st.sampled_from(CpuGroup))
    | st.builds(dict)
)
fed = st.builds(dict, inputs=st.sampled_from([InputKind.RANDOM, InputKind.ZEROS])) | st.builds(
    dict, inputs=st.just(InputKind.DATA), inputs_sha256=hashes
)
run_settings = st.builds(
    lambda pin, feed, **rest: Settings(**pin, **feed, **rest),
    pin=pins,
    feed=fed,
    runtime=texts,
    threads=maybe(st.integers(1, 1024)),
    provider=maybe(texts),
    provider_options=st.dictionaries(texts, texts, max_size=3).map(lambda found: tuple(sorted(found.items()))),
    nice=maybe(st.integers(-20, 19)),
    batch=maybe(st.integers(1, 65536)),
    graph_optimization=maybe(st.sampled_from(GraphOptimization)),
    memory_arena=maybe(st.booleans()),
)
stoppings = st.builds(
    lambda times, **rest: Stopping(min_time_s=min(times), max_time_s=max(times), **rest),
    times=st.tuples(st.floats(0, 86400), st.floats(0, 86400)),
    warmup_runs=st.integers(1, MAX_RUNS),
    warmup_time_s=st.floats(0, 3600),
    min_runs=st.integers(1, MAX_RUNS),
    precision=maybe(st.floats(1e-6, 0.5)),
)
deadlines = maybe(st.floats(1e-3, 1e6))
limits = maybe(st.integers(1, 2**64 - 1))
modes = (
    st.builds(dict, artifacts=st.lists(hashes, min_size=1, max_size=3).map(tuple), profile_nodes=st.booleans())
) | st.builds(dict, artifacts=hashes.map(lambda one: (one,)), soak_s=st.floats(1e-3, 1e5))
requests = st.builds(
    lambda mode, **rest: MeasureRequest(**mode, **rest),
    mode=modes,
    settings=run_settings,
    stopping=stoppings,
    turn_runs=st.integers(2, 10_000),
    cold_starts=st.integers(0, 1000),
    idle_s=maybe(st.floats(0, 600)),
    seed=u64,
    deadline_s=deadlines,
    memory_limit_bytes=limits,
)
runs = st.builds(
    Run,
    artifact=u32,
    kind=st.sampled_from(RunKind),
    turn=u32,
    start_ns=u64,
    latency_ns=u64,
    disturbed=st.booleans(),
)
run_batches = st.builds(RunBatch, runs=several(runs))
readings = st.builds(Reading, channel=texts, time_ns=u64, value=floats)
reading_batches = st.builds(ReadingBatch, readings=several(readings))
progresses = st.builds(Progress, phase=st.sampled_from(Phase), fraction=floats, runs=u64)
shapes = several(several(i64))
nodes = st.builds(
    NodeTime,
    name=texts,
    op_type=texts,
    median_ns=floats,
    share=floats,
    runs=u32,
    input_shapes=shapes,
    output_shapes=shapes,
    sources=several(texts),
)
verdicts = st.builds(
    Verdict,
    code=st.sampled_from(VerdictCode),
    value=maybe(floats),
    unit=maybe(texts),
    threshold=maybe(floats),
    hint=maybe(texts),
)
memories = st.builds(MemoryPhases, runtime_bytes=u64, load_bytes=u64, first_run_bytes=u64, steady_bytes=u64)
cold_starts = st.builds(ColdStart, import_ns=u64, load_ns=u64, first_run_ns=u64)
windows = st.builds(Window, kind=st.sampled_from(WindowKind), start_ns=u64, end_ns=u64)
pinned = maybe(st.lists(u32, min_size=1, max_size=4).map(tuple))
artifact_results = st.builds(
    ArtifactResult,
    sha256=hashes,
    load_ns=u64,
    provider=texts,
    provider_share=maybe(floats),
    peak_memory_bytes=maybe(u64),
    peak_rss_bytes=maybe(u64),
    nodes=maybe(several(nodes)),
    verdicts=several(verdicts),
    memory=maybe(memories),
    cold_starts=several(cold_starts),
    unrecorded_runs=u64,
    nodes_unavailable=maybe(texts),
)
results = st.builds(
    MeasureResult,
    runtime=texts,
    runtime_version=texts,
    threads=u32,
    artifacts=several(artifact_results),
    device_time_ns=u64,
    steal_fraction=maybe(floats),
    cpus=pinned,
    windows=several(windows),
)
positive = maybe(st.floats(1e-6, 1e12))
load_requests = st.builds(
    LoadRequest,
    artifact=hashes,
    settings=run_settings,
    streams=st.integers(1, 64),
    rate_per_s=positive,
    bound_ns=positive,
    percent=st.floats(50, 99.99),
    duration_s=st.floats(1e-3, 86400),
    warmup_s=st.floats(0, 3600),
    min_requests=st.integers(1, 1_000_000),
    seed=u64,
    deadline_s=positive,
    memory_limit_bytes=limits,
)
served = st.builds(
    ServedBatch,
    requests=several(st.builds(ServedRequest, trial=u32, stream=u32, arrival_ns=u64, start_ns=u64, end_ns=u64)),
)
trials = st.builds(
    LoadTrial,
    rate_per_s=maybe(floats),
    start_ns=u64,
    end_ns=u64,
    requests=u64,
    unserved=u64,
    within_bound=maybe(st.booleans()),
)
load_results = st.builds(
    LoadResult,
    runtime=texts,
    runtime_version=texts,
    provider=texts,
    threads=u32,
    streams=u32,
    cpus=pinned,
    load_ns=u64,
    trials=several(trials),
    highest_rate_per_s=maybe(floats),
    device_time_ns=u64,
    steal_fraction=maybe(floats),
    verdicts=several(verdicts),
)
leases = st.builds(Lease, token=texts, holder=texts, reason=texts, remaining_s=floats)
places = st.integers(1, 64).flatmap(
    lambda position: st.builds(
        Place,
        position=st.just(position),
        waiting=st.integers(position, 64),
        holder=maybe(texts),
        reason=maybe(texts),
        remaining_s=maybe(floats),
    )
)
queues = {
    "jobs": several(st.builds(Job, what=texts, holder=texts, running_s=floats)),
    "waiting": several(st.builds(Waiter, holder=texts, reason=texts, waited_s=floats)),
}
uses = st.builds(DeviceUse, **queues) | st.builds(
    DeviceUse, holder=texts, reason=texts, remaining_s=floats, held_s=floats, **queues
)
held = st.builds(HeldBytes, complete=st.booleans(), offset=u64)
upload_headers = artifacts.flatmap(
    lambda artifact: st.builds(UploadHeader, artifact=st.just(artifact), offset=st.integers(0, artifact.size_bytes))
)
infer_headers = st.builds(
    InferHeader, sha256=hashes, settings=run_settings, deadline_s=deadlines, memory_limit_bytes=limits
)

PAIRS = {
    "artifact": artifacts,
    "artifacts": several(artifacts),
    "tensor": tensors,
    "infer_inputs": several(tensors),
    "infer_outputs": several(tensors),
    "channel": channels,
    "runtime_info": runtimes,
    "device_info": devices,
    "settings": run_settings,
    "stopping": stoppings,
    "runs": run_batches,
    "readings": reading_batches,
    "progress": progresses,
    "node_time": nodes,
    "verdict": verdicts,
    "artifact_result": artifact_results,
    "measure_result": results,
    "missing_sensor": missing_sensors,
    "memory_phases": memories,
    "cold_start": cold_starts,
    "window": windows,
    "served": served,
    "load_trial": trials,
    "load_result": load_results,
    "load_event": progresses | served | reading_batches | load_results,
    "event": progresses | run_batches | reading_batches | results,
    "lease": leases,
    "queue_response": leases | places,
    "leave_request": texts,
    "use": uses,
    "held_bytes": held,
    "query_request": hashes,
    "upload_chunk": st.binary(max_size=64),
    "upload_response": artifacts,
    "release_request": texts,
}
PAIRS_WITH_TOKEN = {
    "measure_request": requests,
    "load_request": load_requests,
    "upload_header": upload_headers,
    "infer_header": infer_headers,
    "delete_request": hashes,
}


def over_the_wire(message: Any) -> Any:
    return type(message).FromString(message.SerializeToString())


@pytest.mark.parametrize("name", PAIRS)
def test_a_value_comes_back_as_it_went(name: str) -> None:
    to_pb, from_pb = getattr(codec, f"{name}_to_pb"), getattr(codec, f"{name}_from_pb")

    @seed(2)
    @settings(max_examples=25, deadline=None, database=None)
    @given(PAIRS[name])
    def comes_back(value: Any) -> None:
        assert from_pb(over_the_wire(to_pb(value))) == value

    comes_back()


@pytest.mark.parametrize("name", PAIRS_WITH_TOKEN)
def test_a_request_comes_back_with_its_lease_token(name: str) -> None:
    to_pb, from_pb = getattr(codec, f"{name}_to_pb"), getattr(codec, f"{name}_from_pb")

    @seed(2)
    @settings(max_examples=25, deadline=None, database=None)
    @given(PAIRS_WITH_TOKEN[name], maybe(texts))
    def comes_back(value: Any, token: str | None) -> None:
        assert from_pb(over_the_wire(to_pb(value, token))) == (value, token)

    comes_back()


def test_lease_requests_come_back() -> None:
    acquire = codec.acquire_request_to_pb(holder="ann", reason="compress", ttl_s=30.5)
    assert codec.acquire_request_from_pb(over_the_wire(acquire)) == ("ann", "compress", 30.5, None)
    again = codec.acquire_request_to_pb(holder="ann", reason="compress", ttl_s=30.5, ticket="mine")
    assert codec.acquire_request_from_pb(over_the_wire(again)) == ("ann", "compress", 30.5, "mine")
    queue = codec.queue_request_to_pb(holder="ann", reason="compress", ttl_s=30.5, ticket="mine", hold_s=2.0)
    assert codec.queue_request_from_pb(over_the_wire(queue)) == ("ann", "compress", 30.5, "mine", 2.0)
    for token in ("mine", None):
        read = codec.read_sensors_request_to_pb(token)
        assert codec.read_sensors_request_from_pb(over_the_wire(read)) == token
    renew = codec.renew_request_to_pb(token="t", ttl_s=2.25)
    assert codec.renew_request_from_pb(over_the_wire(renew)) == ("t", 2.25)


def test_every_public_pair_is_tested() -> None:
    tested = {*PAIRS, *PAIRS_WITH_TOKEN, "acquire_request", "queue_request", "renew_request", "read_sensors_request"}
    public = {name.removesuffix("_from_pb") for name in codec.__all__ if name.endswith("_from_pb")}
    assert public == tested


def test_runs_in_columns_make_the_same_message() -> None:
    every = [
        Run(artifact=i, kind=kind, turn=i * 70_000, start_ns=2**60 + i, latency_ns=i * 10**9, disturbed=bool(i % 2))
        for i, kind in enumerate(list(RunKind) * 3)
    ]
    columns = RunColumns()
    for run in every:
        columns.add(run.artifact, run.kind, run.turn, run.start_ns, run.latency_ns, run.disturbed)
    message = codec.runs_to_pb(RunBatch(runs=columns))
    assert message == codec.runs_to_pb(RunBatch(runs=tuple(every)))
    assert codec.runs_from_pb(message).runs == tuple(every)
    assert codec.runs_from_pb(codec.runs_to_pb(RunBatch(runs=RunColumns()))).runs == ()


@pytest.mark.parametrize(
    ("from_pb", "message"),
    [
        (codec.artifact_from_pb, pb.Artifact(sha256="0" * 64, size_bytes=1)),
        (codec.artifact_from_pb, pb.Artifact(sha256="0" * 64, size_bytes=1, format=99)),
        (codec.channel_from_pb, pb.Channel(quantity=99)),
        (codec.runtime_info_from_pb, pb.RuntimeInfo(formats=[99])),
        (codec.progress_from_pb, pb.Progress(phase=99)),
        (codec.verdict_from_pb, pb.Verdict(code=99)),
        (
            codec.runs_from_pb,
            pb.RunBatch(artifact=[0], kind=[99], turn=[0], start_ns=[0], latency_ns=[0], disturbed=[False]),
        ),
    ],
)
def test_an_unknown_enum_number_is_refused(from_pb: Any, message: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"number (0|99), which this version does not know"):
        from_pb(message)


@pytest.mark.parametrize(
    ("from_pb", "message", "says"),
    [
        (codec.runs_from_pb, pb.RunBatch(artifact=[0]), "differ in length"),
        (codec.readings_from_pb, pb.ReadingBatch(names=["a"], channel=[0]), "differ in length"),
        (codec.readings_from_pb, pb.ReadingBatch(channel=[0], time_ns=[0], value=[0.0]), "points past"),
        (codec.measure_request_from_pb, pb.MeasureRequest(artifacts=["0" * 64]), "lacks its field 'settings'"),
        (codec.upload_header_from_pb, pb.UploadArtifactRequest(chunk=b"x"), "lacks its field 'header'"),
        (codec.upload_chunk_from_pb, pb.UploadArtifactRequest(), "lacks its field 'chunk'"),
        (codec.upload_chunk_from_pb, pb.UploadArtifactRequest(chunk=bytes(2**21 + 1)), "at most 2097152"),
        (codec.infer_header_from_pb, pb.InferRequest(), "lacks its field 'header'"),
        (codec.query_request_from_pb, pb.QueryArtifactRequest(sha256="../../etc/x"), "not a sha256"),
        (codec.event_from_pb, pb.MeasureEvent(), "does not know"),
        (codec.load_event_from_pb, pb.LoadEvent(), "does not know"),
        (codec.served_from_pb, pb.ServedBatch(trial=[0]), "differ in length"),
    ],
)
def test_a_malformed_message_is_refused(from_pb: Any, message: Any, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        from_pb(message)


def test_absence_survives_and_is_not_zero() -> None:
    absent = Verdict(code=VerdictCode.STABLE)
    zero = Verdict(code=VerdictCode.STABLE, value=0.0, unit="", threshold=0.0, hint="")
    assert codec.verdict_from_pb(over_the_wire(codec.verdict_to_pb(absent))) == absent
    assert codec.verdict_from_pb(over_the_wire(codec.verdict_to_pb(zero))) == zero


def test_not_a_number_survives() -> None:
    batch = ReadingBatch(readings=(Reading(channel="c", time_ns=1, value=math.nan),))
    [reading] = codec.readings_from_pb(over_the_wire(codec.readings_to_pb(batch))).readings
    assert math.isnan(reading.value)
