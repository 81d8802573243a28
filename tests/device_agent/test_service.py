"""The agent's calls, over the wire to a real process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from running_agent import RunningAgent, StartAgent, wait_until, workers_of
from wire_client import ENDLESS, SHORT, Connect, WireClient, artifact_of, error_of

from device_agent import __version__, codec, service
from device_agent.contract.artifact import Artifact, ArtifactFormat, Tensor
from device_agent.contract.device import CONTRACT_VERSION
from device_agent.contract.errors import (
    ArtifactNotFound,
    DeadlineExceeded,
    DeviceBusy,
    InvalidRequest,
    LeaseLost,
    ModelRejected,
    RuntimeUnavailable,
)
from device_agent.contract.lease import Lease
from device_agent.contract.measurement import Phase, Progress, Reading, ReadingBatch, Run, RunBatch, RunKind
from device_agent.contract.settings import InputKind, Settings
from device_agent.contract.transfer import HeldBytes, InferHeader, UploadHeader
from device_agent.wire.v1 import agent_pb2 as pb


def test_describe(client: WireClient, agent: RunningAgent) -> None:
    info = client.describe()
    assert info.agent_version == __version__
    assert info.contract_version == CONTRACT_VERSION
    assert info.device_id == (agent.store / "device-id").read_text()
    assert info.cores >= 1
    assert info.default_threads >= 1
    assert {runtime.name for runtime in info.runtimes} >= {"onnxruntime", "litert", "tflite-runtime"}
    assert "worker.rss" in {channel.name for channel in info.channels}


def test_a_measurement_streams_runs_readings_and_a_result(client: WireClient, tiny_onnx: Path) -> None:
    artifact = client.put(tiny_onnx)
    events, result = client.measure(artifact)
    runs: list[Run] = []
    readings: list[Reading] = []
    for event in events:
        if isinstance(event, RunBatch):
            runs.extend(event.runs)
        elif isinstance(event, ReadingBatch):
            readings.extend(event.readings)
    assert any(isinstance(event, Progress) for event in events)
    assert len([run for run in runs if run.kind is RunKind.TIMED]) >= 5
    assert all(run.latency_ns > 0 for run in runs)
    assert any(reading.channel == "worker.rss" and reading.value > 0 for reading in readings)
    assert result.runtime == "onnxruntime"
    assert result.threads == 1
    [found] = result.artifacts
    assert found.sha256 == artifact.sha256
    assert found.verdicts
    assert found.peak_memory_bytes is not None


def test_two_artifacts_are_measured_in_turns(client: WireClient, tiny_onnx: Path) -> None:
    first = client.put(tiny_onnx)
    # The same network under another hash: an unknown field at the end, which readers of protobuf skip.
    data = tiny_onnx.read_bytes() + b"\xfa\x3f\x01x"
    second = client.upload(artifact_of(data, "twin.onnx"), data)
    events, result = client.measure(first, second)
    runs = [run for event in events if isinstance(event, RunBatch) for run in event.runs]
    assert {run.artifact for run in runs if run.kind is RunKind.TIMED} == {0, 1}
    assert [artifact.sha256 for artifact in result.artifacts] == [first.sha256, second.sha256]
    assert result.artifacts[0].peak_memory_bytes is None


def test_inference_answers_every_batch(client: WireClient, tiny_onnx: Path) -> None:
    import onnxruntime

    artifact = client.put(tiny_onnx)
    session = onnxruntime.InferenceSession(tiny_onnx)
    [spec] = session.get_inputs()
    shape = [size if isinstance(size, int) else 1 for size in spec.shape]
    inputs = [np.random.default_rng(seed).standard_normal(shape, dtype=np.float32) for seed in range(3)]
    batches = [[Tensor(name=spec.name, dtype="float32", shape=tuple(shape), data=array.tobytes())] for array in inputs]
    header = InferHeader(sha256=artifact.sha256, settings=Settings(threads=1))
    answers = client.infer(header, batches)
    assert len(answers) == 3
    for array, (answer, *_) in zip(inputs, answers, strict=True):
        expected = session.run(None, {spec.name: array})[0]
        got = np.frombuffer(answer.data, answer.dtype).reshape(answer.shape)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_list_and_delete(client: WireClient, tiny_onnx: Path) -> None:
    artifact = client.put(tiny_onnx)
    assert client.list() == (artifact,)
    assert client.held(artifact.sha256) == HeldBytes(complete=True, offset=artifact.size_bytes)
    client.delete(artifact.sha256)
    assert client.list() == ()
    with pytest.raises(ArtifactNotFound, match="upload it first"):
        client.delete(artifact.sha256)


def test_a_known_hash_moves_no_bytes(client: WireClient, tiny_onnx: Path) -> None:
    artifact = client.put(tiny_onnx)
    assert client.upload(artifact, b"") == artifact


class TestOneJobAtATime:
    def test_the_second_is_told_what_runs_and_for_whom(
        self, client: WireClient, agent: RunningAgent, connect: Connect, tiny_onnx: Path
    ) -> None:
        artifact = client.put(tiny_onnx)
        running = client.start_measure(artifact, stopping=ENDLESS)
        next(running)
        other = connect(agent)
        with pytest.raises(DeviceBusy, match=r"measuring tiny\.onnx for the caller at ipv4:127\.0\.0\.1"):
            other.measure(artifact)
        with pytest.raises(DeviceBusy, match=r"measuring tiny\.onnx"):
            other.infer(InferHeader(sha256=artifact.sha256), [])
        with pytest.raises(DeviceBusy, match=r"measuring tiny\.onnx"):
            other.acquire("bob")
        with pytest.raises(DeviceBusy, match="in use"):
            other.delete(artifact.sha256)
        assert other.describe().cores >= 1
        running.cancel()

    def test_a_cancelled_job_frees_the_device(self, client: WireClient, tiny_onnx: Path) -> None:
        artifact = client.put(tiny_onnx)
        running = client.start_measure(artifact, stopping=ENDLESS)
        next(running)
        running.cancel()
        with pytest.raises(grpc.RpcError):
            list(running)
        # The worker is killed at once, and reaped within moments that no caller should have to count.
        wait_until(lambda: measured(client, artifact), "the device is free after its job was cancelled")


def measured(client: WireClient, artifact: Artifact) -> bool:
    try:
        _, result = client.measure(artifact)
    except DeviceBusy:
        return False
    assert result.artifacts
    return True


class TestLease:
    def test_others_are_kept_out_and_told_by_whom(
        self, client: WireClient, agent: RunningAgent, connect: Connect, tiny_onnx: Path
    ) -> None:
        lease = client.acquire("ann", "compress resnet20")
        assert 0 < lease.remaining_s <= 60
        artifact = client.put(tiny_onnx, token=lease.token)
        other = connect(agent)
        told = r"leased to 'ann' for 'compress resnet20', \d+ s remaining"
        with pytest.raises(DeviceBusy, match=told):
            other.measure(artifact)
        with pytest.raises(DeviceBusy, match=told):
            other.put(tiny_onnx)
        with pytest.raises(DeviceBusy, match=told):
            other.delete(artifact.sha256)
        with pytest.raises(DeviceBusy, match=told):
            other.infer(InferHeader(sha256=artifact.sha256), [])
        with pytest.raises(DeviceBusy, match=told):
            other.acquire("bob")
        _, result = client.measure(artifact, token=lease.token)
        assert result.artifacts

    def test_a_released_token_is_worth_nothing(self, client: WireClient, tiny_onnx: Path) -> None:
        lease = client.acquire()
        client.call("RenewLease", codec.renew_request_to_pb(token=lease.token, ttl_s=30))
        client.call("ReleaseLease", codec.release_request_to_pb(lease.token))
        with pytest.raises(LeaseLost, match="expired, was released"):
            client.put(tiny_onnx, token=lease.token)
        assert client.put(tiny_onnx)

    def test_a_job_ends_with_its_lease_and_its_host_is_told(
        self, client: WireClient, agent: RunningAgent, connect: Connect, tiny_onnx: Path
    ) -> None:
        artifact = client.put(tiny_onnx)
        lease = client.acquire("ann", "compress resnet20", ttl_s=4.0)
        running = client.start_measure(artifact, stopping=ENDLESS, token=lease.token)
        next(running)
        assert workers_of(agent.process.pid)
        request = codec.queue_request_to_pb(holder="bob", reason="bench", ttl_s=30, ticket="b" * 16, hold_s=10)
        other = connect(agent)
        while not isinstance(codec.queue_response_from_pb(other.call("QueueLease", request)), Lease):
            pass
        assert not workers_of(agent.process.pid)
        with pytest.raises(LeaseLost, match=r"measuring .* was ended on the device: the lease of 'ann' expired"):
            client.drain(running)

    def test_an_upload_ends_with_its_lease(self, client: WireClient, tiny_onnx: Path) -> None:
        lease = client.acquire("ann", "compress resnet20", ttl_s=30.0)
        artifact = artifact_of(tiny_onnx.read_bytes(), "tiny.onnx")
        sent = threading.Event()

        def parts() -> Iterator[Any]:
            yield codec.upload_header_to_pb(UploadHeader(artifact=artifact), lease.token)
            yield codec.upload_chunk_to_pb(tiny_onnx.read_bytes()[:10])
            sent.set()
            threading.Event().wait(20)  # a link that is silent from now on

        call = client.stub.UploadArtifact.future(parts())
        assert sent.wait(20)
        wait_until(lambda: bool(client.call("DescribeUse", pb.DescribeUseRequest()).jobs), "the upload counts as use")
        client.call("ReleaseLease", codec.release_request_to_pb(lease.token))
        with pytest.raises(grpc.RpcError) as caught:
            call.result()
        assert isinstance(error_of(caught.value), LeaseLost)
        client.acquire("bob")

    def test_a_restart_voids_it(
        self, start: StartAgent, agent: RunningAgent, client: WireClient, connect: Connect, tiny_onnx: Path
    ) -> None:
        lease = client.acquire()
        agent.stop()
        again = connect(start(store=agent.store))
        with pytest.raises(LeaseLost):
            again.put(tiny_onnx, token=lease.token)


class TestBadInput:
    def test_an_unknown_model(self, client: WireClient) -> None:
        with pytest.raises(ArtifactNotFound, match="upload it first"):
            client.measure(artifact_of(b"never sent"))

    def test_a_corrupt_model(self, client: WireClient) -> None:
        data = b"not a model at all" * 100
        artifact = client.upload(artifact_of(data, "noise.onnx"), data)
        with pytest.raises(ModelRejected, match=r"noise\.onnx") as caught:
            client.measure(artifact)
        assert artifact.sha256 not in str(caught.value), "a path of the agent's store leaked"
        assert client.describe().cores >= 1

    def test_an_unknown_runtime(self, client: WireClient, tiny_onnx: Path) -> None:
        artifact = client.put(tiny_onnx)
        with pytest.raises(RuntimeUnavailable, match="tensorrt"):
            client.measure(artifact, runtime="tensorrt")

    @pytest.mark.parametrize("text", ["../../etc/x", "", "A" * 64, "0" * 63, "0" * 63 + "/"])
    def test_a_hash_that_is_none(self, client: WireClient, agent: RunningAgent, text: str) -> None:
        for name, request in (
            ("QueryArtifact", pb.QueryArtifactRequest(sha256=text)),
            ("DeleteArtifact", pb.DeleteArtifactRequest(sha256=text)),
            (
                "UploadArtifact",
                iter(
                    [
                        pb.UploadArtifactRequest(
                            header=pb.UploadHeader(artifact=pb.Artifact(sha256=text, format=1, size_bytes=1, name="x"))
                        )
                    ]
                ),
            ),
        ):
            with pytest.raises(InvalidRequest, match="not a sha256"):
                client.call(name, request)

    def test_a_path_as_a_name_stays_a_name(self, client: WireClient, agent: RunningAgent, tmp_path: Path) -> None:
        data = b"model"
        artifact = client.upload(artifact_of(data, "../../etc/x.onnx"), data)
        assert artifact.name == "../../etc/x.onnx"
        stored = {path.relative_to(agent.store) for path in agent.store.rglob("*") if path.is_file()}
        assert {path.parts[0] for path in stored} <= {"artifacts", "device-id", "lock"}
        assert not list(tmp_path.rglob("etc"))

    def test_an_unknown_enum_number(self, client: WireClient) -> None:
        artifact = pb.Artifact(sha256="0" * 64, format=99, size_bytes=1, name="x")
        parts = iter([pb.UploadArtifactRequest(header=pb.UploadHeader(artifact=artifact))])
        with pytest.raises(InvalidRequest, match="number 99"):
            client.call("UploadArtifact", parts)

    def test_a_stream_without_a_header(self, client: WireClient) -> None:
        with pytest.raises(InvalidRequest, match="before its first message"):
            client.call("UploadArtifact", iter(()))
        with pytest.raises(InvalidRequest, match="lacks its field 'header'"):
            client.call("UploadArtifact", iter([codec.upload_chunk_to_pb(b"x")]))

    def test_the_status_and_the_code_come_together(self, client: WireClient) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            client.stub.QueryArtifact(pb.QueryArtifactRequest(sha256="x"))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert ("boardfit-error", "invalid-request") in caught.value.trailing_metadata()
        assert type(error_of(caught.value)) is InvalidRequest


class TestCallersThatStall:
    def test_one_that_reads_nothing_loses_the_device(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Full:
            """A call whose stream has no room, and never will."""

            async def write(self, message: object) -> None:
                await asyncio.Event().wait()

        monkeypatch.setattr(service, "READ_IDLE_S", 0.01)
        with pytest.raises(DeadlineExceeded, match="read nothing"):
            asyncio.run(service._write(Full(), "message"))

    def test_a_file_in_the_smallest_pieces_is_whole(self, client: WireClient) -> None:
        data = bytes(range(256)) * 40
        artifact = artifact_of(data, "pieces.onnx")

        def parts() -> Iterator[Any]:
            yield codec.upload_header_to_pb(UploadHeader(artifact=artifact))
            for place in range(len(data)):
                yield codec.upload_chunk_to_pb(data[place : place + 1])

        assert codec.upload_response_from_pb(client.call("UploadArtifact", parts())) == artifact


def arrays(folder: Path, **named: Any) -> Path:
    path = folder / "inputs.npz"
    np.savez(path, **named)
    return path


def data_settings(artifact: Artifact) -> Settings:
    return Settings(threads=1, inputs=InputKind.DATA, inputs_sha256=artifact.sha256)


def test_inputs_from_an_uploaded_file(client: WireClient, tiny_onnx: Path, tmp_path: Path) -> None:
    model = client.put(tiny_onnx)
    data = client.put(arrays(tmp_path, x=np.zeros((2, 3, 16, 16), np.float32)))
    assert data.format is ArtifactFormat.NPZ
    assert {model, data} <= set(client.list())
    _, result = client.measure(model, settings=data_settings(data))
    assert result.artifacts[0].sha256 == model.sha256
    wrong = client.put(arrays(tmp_path, x=np.zeros((2, 3, 16, 15), np.float32)))
    with pytest.raises(InvalidRequest, match=r"model 'tiny.onnx': input 'x' wants float32 \[1, 3, 16, 16\].*16, 15\]"):
        client.measure(model, settings=data_settings(wrong))


def test_inputs_that_the_device_does_not_hold_are_not_found(client: WireClient, tiny_onnx: Path) -> None:
    model = client.put(tiny_onnx)
    with pytest.raises(ArtifactNotFound, match=r"f{12}"):
        client.measure(model, settings=Settings(inputs=InputKind.DATA, inputs_sha256="f" * 64))


def test_input_arrays_are_no_model_and_a_model_is_no_input(client: WireClient, tiny_onnx: Path, tmp_path: Path) -> None:
    model = client.put(tiny_onnx)
    data = client.put(arrays(tmp_path, x=np.zeros(3)))
    with pytest.raises(InvalidRequest, match=r"'inputs.npz' is a file of input arrays and no model"):
        client.measure(data)
    with pytest.raises(InvalidRequest, match=r"'inputs.npz' is a file of input arrays and no model"):
        client.infer(InferHeader(sha256=data.sha256, settings=Settings()), [])
    with pytest.raises(InvalidRequest, match=r"'tiny.onnx' is a model and has no input arrays"):
        client.measure(model, settings=data_settings(model))


def test_inputs_stay_while_a_job_uses_them(client: WireClient, tiny_onnx: Path, tmp_path: Path) -> None:
    model = client.put(tiny_onnx)
    data = client.put(arrays(tmp_path, x=np.zeros((2, 3, 16, 16), np.float32)))
    call = client.start_measure(model, stopping=ENDLESS, settings=data_settings(data))
    next(call)
    with pytest.raises(DeviceBusy, match=r"'inputs.npz' .* is in use by a running job"):
        client.delete(data.sha256)
    call.cancel()
    with pytest.raises(grpc.RpcError):
        list(call)
    wait_until(lambda: deleted(client, data.sha256), "the file can be deleted when the job is over")


def deleted(client: WireClient, sha256: str) -> bool:
    try:
        client.delete(sha256)
    except DeviceBusy:
        return False
    return True


def test_what_a_measurement_rests_on_is_in_its_result(client: WireClient, tiny_onnx: Path) -> None:
    """Cold starts, rests, memory by phase, processors: over the wire, of a real runtime."""
    model = client.put(tiny_onnx)
    last = client.describe().cores - 1
    settings = Settings(threads=1, cpus=(last,), nice=5)
    events, result = client.measure(model, settings=settings, cold_starts=2, idle_s=0.05)
    [one] = result.artifacts
    assert result.cpus == (last,)
    assert [window.kind.value for window in result.windows] == ["idle-before", "timed", "idle-after"]
    assert len(one.cold_starts) == 2
    assert one.memory is not None
    assert one.memory.runtime_bytes > one.memory.load_bytes > 0
    assert {event.phase for event in events if isinstance(event, Progress)} >= {Phase.COLD_START, Phase.IDLE}
    assert result.device_time_ns > sum(start.total_ns for start in one.cold_starts)


def test_a_soak_lasts_as_long_as_asked_whatever_the_stopping_rule_says(client: WireClient, tiny_onnx: Path) -> None:
    events, result = client.measure(client.put(tiny_onnx), soak_s=0.5)
    runs = [run for event in events if isinstance(event, RunBatch) for run in event.runs if run.kind is RunKind.TIMED]
    [timed] = result.windows
    assert timed.end_ns - timed.start_ns >= 500_000_000
    assert timed.start_ns <= runs[0].start_ns < runs[-1].start_ns <= timed.end_ns


def test_what_others_did_during_the_timed_part_is_in_the_record(client: WireClient, tiny_onnx: Path) -> None:
    longer = replace(SHORT, min_time_s=2.5, max_time_s=2.5)
    events, result = client.measure(client.put(tiny_onnx), stopping=longer)
    [timed] = result.windows
    readings = [one for event in events if isinstance(event, ReadingBatch) for one in event.readings]
    during = {one.channel for one in readings if timed.start_ns <= one.time_ns <= timed.end_ns}
    known = {channel.name for channel in client.describe().channels}
    assert {"cpu.others", "cpu.load", "worker.rss"} <= during
    assert ("cpu.pressure" in during) == Path("/proc/pressure/cpu").exists()
    assert {one.channel for one in readings} <= known
