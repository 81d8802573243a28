"""Artifacts on a real disk."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from device_agent.contract.artifact import Artifact, ArtifactFormat
from device_agent.contract.errors import (
    ArtifactCorrupt,
    ArtifactNotFound,
    DeviceBusy,
    InvalidRequest,
    StorageFull,
    UploadConflict,
)
from device_agent.contract.transfer import HeldBytes, UploadHeader
from device_agent.durable import lock_folder
from device_agent.store import STALE_PARTIAL_S, ArtifactStore

MB = 10**6


def artifact_of(data: bytes, *, name: str = "net.onnx", format: ArtifactFormat = ArtifactFormat.ONNX) -> Artifact:
    return Artifact(sha256=hashlib.sha256(data).hexdigest(), format=format, size_bytes=len(data), name=name)


def put(store: ArtifactStore, data: bytes, *, name: str = "net.onnx") -> Artifact:
    artifact = artifact_of(data, name=name)
    upload = store.begin(UploadHeader(artifact=artifact))
    assert upload is not None
    upload.write([data])
    return upload.finish()


def files_in(store: ArtifactStore) -> set[str]:
    return {path.name for folder in ("artifacts", "partial") for path in (store.root / folder).iterdir()}


Reopen = Callable[..., ArtifactStore]


@pytest.fixture
def reopen(tmp_path: Path) -> Iterator[Reopen]:
    """Open the store, closing the one that was open before, as a restart does."""
    opened: list[ArtifactStore] = []

    def reopen_store(*, quota_bytes: int = 10 * MB, **arguments: object) -> ArtifactStore:
        for store in opened:
            store.close()
        opened.append(ArtifactStore(tmp_path / "store", quota_bytes=quota_bytes, **arguments))  # type: ignore[arg-type]
        return opened[-1]

    yield reopen_store
    for store in opened:
        store.close()


@pytest.fixture
def store(reopen: Reopen) -> ArtifactStore:
    return reopen()


def test_what_was_stored_is_found_after_a_restart(store: ArtifactStore, reopen: Reopen) -> None:
    artifact = put(store, b"model", name="../../etc/x")
    again = reopen()
    assert again.list() == (artifact,)
    with again.use([artifact.sha256]) as [(path, found)]:
        assert path.read_bytes() == b"model"
        assert path.parent == again.root / "artifacts"
        assert found.name == "../../etc/x"


def test_a_known_hash_needs_no_bytes(store: ArtifactStore) -> None:
    artifact = put(store, b"model")
    assert store.held(artifact.sha256) == HeldBytes(complete=True, offset=5)
    assert store.begin(UploadHeader(artifact=artifact)) is None


def test_an_interrupted_upload_resumes_after_a_restart(store: ArtifactStore, reopen: Reopen) -> None:
    artifact = artifact_of(b"half and half")
    upload = store.begin(UploadHeader(artifact=artifact))
    assert upload is not None
    upload.write([b"half "])
    with pytest.raises(InvalidRequest, match="ended after 5 of 13 bytes"):
        upload.finish()
    upload.close()
    again = reopen()
    assert again.held(artifact.sha256) == HeldBytes(complete=False, offset=5)
    rest = again.begin(UploadHeader(artifact=artifact, offset=5))
    assert rest is not None
    rest.write([b"and", b" half"])
    assert rest.finish() == artifact
    assert files_in(again) == {artifact.sha256, f"{artifact.sha256}.json"}


def test_a_wrong_offset_is_refused_and_zero_starts_over(store: ArtifactStore) -> None:
    artifact = artifact_of(b"half and half")
    first = store.begin(UploadHeader(artifact=artifact))
    assert first is not None
    first.write([b"XXXXX"])
    first.close()
    with pytest.raises(UploadConflict, match="starts at byte 7, but the agent holds 5 bytes"):
        store.begin(UploadHeader(artifact=artifact, offset=7))
    over = store.begin(UploadHeader(artifact=artifact))
    assert over is not None
    over.write([b"half and half"])
    assert over.finish() == artifact


def test_a_second_writer_of_the_same_hash_is_sent_away(store: ArtifactStore) -> None:
    artifact = artifact_of(b"model")
    first = store.begin(UploadHeader(artifact=artifact))
    assert first is not None
    with pytest.raises(UploadConflict, match="another upload"):
        store.begin(UploadHeader(artifact=artifact))
    first.close()
    second = store.begin(UploadHeader(artifact=artifact))
    assert second is not None
    second.close()


def test_a_wrong_hash_leaves_nothing(store: ArtifactStore) -> None:
    artifact = artifact_of(b"model")
    upload = store.begin(UploadHeader(artifact=artifact))
    assert upload is not None
    upload.write([b"moDel"])
    with pytest.raises(ArtifactCorrupt, match="upload it again"):
        upload.finish()
    assert files_in(store) == set()
    assert put(store, b"model") == artifact


def test_more_bytes_than_announced_leave_nothing(store: ArtifactStore) -> None:
    upload = store.begin(UploadHeader(artifact=artifact_of(b"model")))
    assert upload is not None
    with pytest.raises(ArtifactCorrupt, match="more than the 5 bytes announced"):
        upload.write([b"model", b"s"])
    assert files_in(store) == set()


def test_the_least_recently_used_makes_room(store: ArtifactStore, reopen: Reopen) -> None:
    old, young, used = (put(store, bytes([number]) * (3 * MB)) for number in range(3))
    with store.use([old.sha256]):
        pass
    again = reopen(quota_bytes=10 * MB)
    fresh = put(again, b"x" * (3 * MB))
    assert young not in again.list()
    assert set(again.list()) == {used, old, fresh}


def test_an_artifact_in_use_is_neither_evicted_nor_deleted(store: ArtifactStore) -> None:
    busy = put(store, b"b" * (6 * MB))
    with store.use([busy.sha256]):
        with pytest.raises(StorageFull, match=r"quota is 10\.0 MB, 6\.0 MB of it in use"):
            put(store, b"x" * (5 * MB))
        with pytest.raises(DeviceBusy, match="in use"):
            store.delete(busy.sha256)
    put(store, b"x" * (5 * MB))
    assert busy not in store.list()


def test_nothing_is_evicted_in_vain(store: ArtifactStore) -> None:
    kept = put(store, b"k" * MB)
    with pytest.raises(StorageFull, match="quota"):
        put(store, b"x" * (11 * MB))
    assert store.list() == (kept,)


def test_the_disk_is_asked_before_a_byte_moves(reopen: Reopen) -> None:
    store = reopen(free_bytes=lambda _: 2 * MB)
    with pytest.raises(StorageFull, match=r"disk has 2\.0 MB free"):
        store.begin(UploadHeader(artifact=artifact_of(bytes(3 * MB))))
    assert put(store, bytes(MB)).size_bytes == MB


def test_an_upload_that_starts_over_needs_no_second_room(reopen: Reopen) -> None:
    """2 MB of a file of 3 MB are here and 2 MB are free: enough, since the first 2 MB are cut off."""
    artifact = artifact_of(bytes(3 * MB))
    upload = reopen().begin(UploadHeader(artifact=artifact))
    assert upload is not None
    upload.write([bytes(2 * MB)])
    upload.close()
    store = reopen(free_bytes=lambda _: 2 * MB)
    again = store.begin(UploadHeader(artifact=artifact))
    assert again is not None
    again.write([bytes(3 * MB)])
    assert again.finish() == artifact


def test_unfinished_uploads_make_room_first(store: ArtifactStore) -> None:
    kept = put(store, b"k" * (4 * MB))
    lost = artifact_of(b"l" * (4 * MB))
    upload = store.begin(UploadHeader(artifact=lost))
    assert upload is not None
    upload.write([b"l" * (3 * MB)])
    upload.close()
    put(store, b"x" * (5 * MB))
    assert kept in store.list()
    assert store.held(lost.sha256) == HeldBytes(complete=False, offset=0)


def test_delete(store: ArtifactStore) -> None:
    artifact = put(store, b"model")
    store.delete(artifact.sha256)
    assert files_in(store) == set()
    with pytest.raises(ArtifactNotFound, match="upload it first"):
        store.delete(artifact.sha256)
    with pytest.raises(InvalidRequest, match="not a sha256"):
        store.delete("../../etc/x")


def test_a_file_that_somebody_removed_is_not_found_and_can_be_stored_again(store: ArtifactStore) -> None:
    artifact = put(store, b"model")
    (store.root / "artifacts" / artifact.sha256).unlink()
    with pytest.raises(ArtifactNotFound, match="upload it first"), store.use([artifact.sha256]):
        pass
    assert store.held(artifact.sha256) == HeldBytes(complete=False, offset=0)
    assert put(store, b"model") == artifact


@pytest.mark.parametrize("name", ["", "x" * 201, "a\nb", "a\x00b"])
def test_a_name_that_cannot_be_shown_is_refused(store: ArtifactStore, name: str) -> None:
    with pytest.raises(InvalidRequest, match="name must be"):
        store.begin(UploadHeader(artifact=artifact_of(b"model", name=name)))


class TestStart:
    """What a crash leaves behind is put right when the store is opened."""

    def test_old_partial_files_go_and_young_ones_stay(self, store: ArtifactStore, reopen: Reopen) -> None:
        for data in (b"old", b"young"):
            upload = store.begin(UploadHeader(artifact=artifact_of(data)))
            assert upload is not None
            upload.write([data[:1]])
            upload.close()
        path = store.root / "partial" / artifact_of(b"old").sha256
        past = path.stat().st_mtime - STALE_PARTIAL_S - 1
        os.utime(path, (past, past))
        assert files_in(reopen()) == {artifact_of(b"young").sha256}

    def test_a_sidecar_alone_goes(self, store: ArtifactStore, reopen: Reopen) -> None:
        artifact = put(store, b"model")
        (store.root / "artifacts" / artifact.sha256).unlink()
        (store.root / "artifacts" / "0.json.tmp").write_text("torn")
        assert files_in(reopen()) == set()

    @pytest.mark.parametrize("sidecar", [None, "", "[]", '{"name": 1}', '{"format": "gguf", "name": "x"}'])
    @pytest.mark.parametrize(
        ("data", "format"),
        [
            (b"\x1c\0\0\0TFL3model", ArtifactFormat.TFLITE),
            (b"\x08\x09model", ArtifactFormat.ONNX),
            (b"PK\x03\x04arrays", ArtifactFormat.NPZ),
        ],
    )
    def test_a_lost_sidecar_is_written_again(
        self, store: ArtifactStore, reopen: Reopen, sidecar: str | None, data: bytes, format: ArtifactFormat
    ) -> None:
        artifact = put(store, data)
        path = store.root / "artifacts" / f"{artifact.sha256}.json"
        path.unlink()
        if sidecar is not None:
            path.write_text(sidecar)
        [repaired] = reopen().list()
        assert (repaired.sha256, repaired.format, repaired.size_bytes) == (artifact.sha256, format, len(data))
        assert path.exists()

    def test_a_file_that_is_not_its_hash_goes(self, store: ArtifactStore, reopen: Reopen) -> None:
        artifact = put(store, b"model")
        (store.root / "artifacts" / artifact.sha256).write_bytes(b"mode")
        assert reopen().list() == ()

    def test_the_identity_stays(self, store: ArtifactStore, reopen: Reopen) -> None:
        assert len(store.device_id()) == 32
        assert reopen().device_id() == store.device_id()

    def test_two_agents_do_not_share_a_store(self, store: ArtifactStore) -> None:
        with pytest.raises(DeviceBusy, match=rf"process {os.getpid()}\) serves from"):
            ArtifactStore(store.root, quota_bytes=MB)

    def test_an_agent_waits_for_the_workers_of_one_that_was_killed(self, tmp_path: Path) -> None:
        killed = """
import os, subprocess, sys
from pathlib import Path
from device_agent.durable import inherited_locks, lock_folder
lock = lock_folder(Path(sys.argv[1]))
worker = subprocess.Popen(["sleep", "1"], pass_fds=inherited_locks(), stdout=subprocess.DEVNULL)
print(worker.pid, flush=True)
os._exit(1)
"""
        done = subprocess.run([sys.executable, "-c", killed, tmp_path], capture_output=True, text=True, check=False)
        with lock_folder(tmp_path):
            assert not _runs(int(done.stdout))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
