"""Faults of callers, models, disks and processes, each of them real; the agent goes on serving."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import misbehaving_runtime
import pytest
from running_agent import RunningAgent, StartAgent, wait_until, workers_of
from wire_client import CHUNK_BYTES, ENDLESS, TIMEOUT_S, Connect, WireClient, artifact_of, error_of

from device_agent import codec
from device_agent.contract.artifact import Artifact
from device_agent.contract.errors import (
    ArtifactCorrupt,
    BoardfitError,
    DeviceBusy,
    InvalidRequest,
    JobAborted,
    StorageFull,
    UploadConflict,
    WorkerCrashed,
    WorkerOutOfMemory,
    WorkerTimedOut,
)
from device_agent.contract.measurement import RunBatch
from device_agent.contract.transfer import HeldBytes, UploadHeader

MB = 10**6


def files_in(agent: RunningAgent) -> set[str]:
    return {path.name for folder in ("artifacts", "partial") for path in (agent.store / folder).iterdir()}


class TestUpload:
    def test_a_truncated_upload_resumes(self, client: WireClient, agent: RunningAgent) -> None:
        data = random.Random(1).randbytes(5 * MB)
        artifact = artifact_of(data)
        with pytest.raises(InvalidRequest, match=r"ended after 3000000 of 5000000 bytes"):
            client.upload(artifact, data[: 3 * MB])
        assert client.held(artifact.sha256) == HeldBytes(complete=False, offset=3 * MB)
        with pytest.raises(UploadConflict, match="holds 3000000 bytes"):
            client.upload(artifact, data[4 * MB :], offset=4 * MB)
        assert client.upload(artifact, data[3 * MB :], offset=3 * MB) == artifact
        assert (agent.store / "artifacts" / artifact.sha256).read_bytes() == data

    def test_a_pulled_cable_keeps_what_came(self, client: WireClient) -> None:
        data = random.Random(2).randbytes(12 * MB)
        artifact = artifact_of(data)
        stuck = threading.Event()

        def parts() -> Iterator[Any]:
            yield codec.upload_header_to_pb(UploadHeader(artifact=artifact))
            for start in range(0, 10 * MB, CHUNK_BYTES):
                yield codec.upload_chunk_to_pb(data[start : start + CHUNK_BYTES])
            stuck.wait(TIMEOUT_S)

        call = client.stub.UploadArtifact.future(parts(), timeout=TIMEOUT_S)
        wait_until(lambda: client.held(artifact.sha256).offset >= 4 * MB, "4 MB have arrived")
        call.cancel()
        stuck.set()

        def resume() -> bool:
            offset = client.held(artifact.sha256).offset
            assert offset > 0
            try:
                return client.upload(artifact, data[offset:], offset=offset) == artifact
            except UploadConflict:  # the agent has not noticed yet
                return False

        wait_until(resume, "the upload was resumed")

    def test_a_signal_in_the_middle_keeps_what_came(
        self, client: WireClient, agent: RunningAgent, start: StartAgent, connect: Connect
    ) -> None:
        data = random.Random(6).randbytes(12 * MB)
        artifact = artifact_of(data)
        stuck = threading.Event()

        def parts() -> Iterator[Any]:
            yield codec.upload_header_to_pb(UploadHeader(artifact=artifact))
            for offset in range(0, 10 * MB, CHUNK_BYTES):
                yield codec.upload_chunk_to_pb(data[offset : offset + CHUNK_BYTES])
            stuck.wait(TIMEOUT_S)

        call = client.stub.UploadArtifact.future(parts(), timeout=TIMEOUT_S)
        wait_until(lambda: client.held(artifact.sha256).offset >= 4 * MB, "4 MB have arrived")
        assert agent.stop() == 0
        stuck.set()
        assert isinstance(error_of(call.exception()), JobAborted)
        assert "Traceback" not in agent.log.read_text()
        again = connect(start(store=agent.store))
        offset = again.held(artifact.sha256).offset
        assert offset >= 4 * MB
        assert again.upload(artifact, data[offset:], offset=offset) == artifact

    def test_a_wrong_hash_leaves_nothing(self, client: WireClient, agent: RunningAgent) -> None:
        data = b"a model"
        with pytest.raises(ArtifactCorrupt, match="upload it again"):
            client.upload(artifact_of(data), b"A model")
        assert files_in(agent) == set()
        assert client.upload(artifact_of(data), data)

    def test_an_upload_resumes_after_the_agent_was_killed(
        self, client: WireClient, agent: RunningAgent, start: StartAgent, connect: Connect
    ) -> None:
        data = random.Random(3).randbytes(12 * MB)
        artifact = artifact_of(data)

        def parts() -> Iterator[Any]:
            yield codec.upload_header_to_pb(UploadHeader(artifact=artifact))
            for offset in range(0, 10 * MB, CHUNK_BYTES):
                yield codec.upload_chunk_to_pb(data[offset : offset + CHUNK_BYTES])
            wait_until(lambda: (agent.store / "partial" / artifact.sha256).stat().st_size > 0, "bytes on disk")
            agent.kill()

        with pytest.raises(grpc.RpcError):
            client.stub.UploadArtifact(parts(), timeout=TIMEOUT_S)
        again = connect(start(store=agent.store))
        held = again.held(artifact.sha256)
        assert not held.complete
        assert 0 < held.offset < len(data)
        assert again.upload(artifact, data[held.offset :], offset=held.offset) == artifact


class TestFullDisk:
    @pytest.fixture
    def small_disk(self, tmp_path: Path) -> Iterator[Path]:
        if os.geteuid() != 0:
            pytest.skip("only root may mount a small tmpfs")
        disk = tmp_path / "disk"
        disk.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(disk)], capture_output=True, text=True
        )
        if mounted.returncode != 0:
            pytest.skip(f"this container may not mount a tmpfs: {mounted.stderr.strip()}")
        yield disk
        subprocess.run(["umount", "--lazy", str(disk)], check=True)

    def test_what_cannot_fit_is_refused_with_figures(
        self, small_disk: Path, start: StartAgent, connect: Connect, tiny_onnx: Path
    ) -> None:
        agent = start(store=small_disk / "store", arguments=("--quota", "1G"))
        client = connect(agent)
        data = bytes(20 * MB)
        with pytest.raises(StorageFull, match=r"\(20\.0 MB\).*the disk has 1\d\.\d MB free"):
            client.upload(artifact_of(data), data)
        assert files_in(agent) == set()
        _, result = client.measure(client.put(tiny_onnx))
        assert result.artifacts
        agent.stop()

    def test_a_disk_that_fills_up_meanwhile(self, small_disk: Path, start: StartAgent, connect: Connect) -> None:
        agent = start(store=small_disk / "store", arguments=("--quota", "1G"))
        client = connect(agent)
        data = random.Random(4).randbytes(10 * MB)
        artifact = artifact_of(data)
        filler = small_disk / "filler"

        def parts() -> Iterator[Any]:
            yield codec.upload_header_to_pb(UploadHeader(artifact=artifact))
            wait_until(lambda: artifact.sha256 in files_in(agent), "the agent has begun")
            with filler.open("wb") as file:
                file.truncate(0)
                os.posix_fallocate(file.fileno(), 0, 12 * MB)
            for offset in range(0, len(data), CHUNK_BYTES):
                yield codec.upload_chunk_to_pb(data[offset : offset + CHUNK_BYTES])

        with pytest.raises(grpc.RpcError) as caught:
            client.stub.UploadArtifact(parts(), timeout=TIMEOUT_S)
        error = error_of(caught.value)
        assert isinstance(error, StorageFull)
        assert "disk is full after" in str(error)
        assert "of 10000000 bytes" in str(error)
        assert files_in(agent) == set()
        filler.unlink()
        assert client.upload(artifact, data) == artifact
        agent.stop()


class TestWorker:
    @pytest.fixture
    def artifact(self, client: WireClient, tiny_onnx: Path) -> Artifact:
        return client.put(tiny_onnx)

    @pytest.fixture
    def agent(self, start: StartAgent) -> RunningAgent:
        return start(environment=misbehaving_runtime.ENVIRONMENT)

    @pytest.fixture(autouse=True)
    def _goes_on_serving(
        self, agent: RunningAgent, client: WireClient, artifact: Artifact, tiny_onnx: Path
    ) -> Iterator[None]:
        yield
        _, result = client.measure(artifact)
        assert result.artifacts
        wait_until(lambda: workers_of(agent.process.pid) == [], "no worker is left")

    def test_a_segfault(self, client: WireClient, artifact: Artifact) -> None:
        with pytest.raises(WorkerCrashed, match=r"tiny\.onnx.*SIGSEGV"):
            client.measure(artifact, runtime="segfault")

    def test_the_memory_limit(self, client: WireClient, artifact: Artifact) -> None:
        with pytest.raises(WorkerOutOfMemory, match=r"tiny\.onnx"):
            client.measure(artifact, runtime="glutton", stopping=ENDLESS, memory_limit_bytes=300 * MB)

    def test_the_deadline(self, client: WireClient, artifact: Artifact) -> None:
        with pytest.raises(WorkerTimedOut, match=r"tiny\.onnx.*deadline of 2 s"):
            client.measure(artifact, runtime="sleeper", deadline_s=2.0)

    def test_a_hanging_job_ends_with_its_call(
        self, client: WireClient, agent: RunningAgent, artifact: Artifact
    ) -> None:
        running = client.start_measure(artifact, runtime="sleeper")
        next(running)
        wait_until(lambda: workers_of(agent.process.pid) != [], "the worker runs")
        running.cancel()
        wait_until(lambda: workers_of(agent.process.pid) == [], "the worker is gone")
        wait_until(lambda: not self._is_busy(client, artifact), "the device is free")

    @staticmethod
    def _is_busy(client: WireClient, artifact: Artifact) -> bool:
        try:
            client.measure(artifact)
        except DeviceBusy:  # the job's worker has gone a moment before the job
            return True
        return False


class _Load:
    """One caller that uploads and one that measures, until the agent dies."""

    def __init__(self, client: WireClient, model: Artifact, seed: int) -> None:
        self.acknowledged: list[str] = []
        self.timing = threading.Event()
        self._client = client
        self._model = model
        self._random = random.Random(seed)
        self._threads = [threading.Thread(target=target) for target in (self._upload, self._measure)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(TIMEOUT_S)
            assert not thread.is_alive()

    def _upload(self) -> None:
        while True:
            data = self._random.randbytes(200_000)
            try:
                self.acknowledged.append(self._client.upload(artifact_of(data), data).sha256)
            except BoardfitError:
                return

    def _measure(self) -> None:
        try:
            for message in self._client.start_measure(self._model, stopping=ENDLESS):
                if isinstance(codec.event_from_pb(message), RunBatch):
                    self.timing.set()
        except grpc.RpcError:
            return


@pytest.mark.timeout(900)
def test_killed_at_random_moments(start: StartAgent, connect: Connect, tiny_onnx: Path, tmp_path: Path) -> None:
    """No corrupt artifact, no acknowledged artifact lost, no orphan; each restart works. tests/faults kills fifty times."""
    moments = random.Random(5)
    store, temporary = tmp_path / "store", tmp_path / "tmp"
    temporary.mkdir()
    environment = {"TMPDIR": str(temporary)}
    acknowledged: set[str] = set()
    agent = start(store=store, environment=environment)
    for round_number in range(10):
        client = connect(agent)
        model = client.put(tiny_onnx)
        listed = {artifact.sha256 for artifact in client.list()}
        assert acknowledged <= listed
        load = _Load(client, model, round_number)
        load.start()
        if round_number % 2:  # half of the agents die while their worker times, the others while they start
            assert load.timing.wait(TIMEOUT_S)
        time.sleep(moments.uniform(0.0, 0.4))
        agent.kill()
        load.join()
        acknowledged.update(load.acknowledged)
        wait_until(lambda pid=agent.process.pid: workers_of(pid) == [], "no orphan is left")  # type: ignore[misc]
        agent = start(store=store, environment=environment)
    assert connect(agent).describe().cores >= 1
    assert agent.stop() == 0
    assert acknowledged
    for path in (store / "artifacts").iterdir():
        if path.suffix == "":
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    assert list(temporary.iterdir()) == []
