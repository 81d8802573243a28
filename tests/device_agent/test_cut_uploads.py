"""What came over a slow link is on the disk, however the transfer ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from running_agent import RunningAgent, StartAgent, wait_until
from wire_client import Connect, WireClient, artifact_of, error_of

from device_agent import codec
from device_agent.contract.artifact import Artifact
from device_agent.contract.errors import UploadConflict
from device_agent.contract.transfer import UploadHeader
from device_agent.store import ArtifactStore
from device_agent.upload import Upload

#: Far less than what the agent hands to its disk at once.
CHUNK = 100_000
DATA = bytes(range(256)) * 4000


class SlowUpload:
    """An upload that sends three chunks and then nothing, until it is cancelled."""

    def __init__(self, client: WireClient, artifact: Artifact) -> None:
        self._go_on = threading.Event()
        self._artifact = artifact
        self.call = client.stub.UploadArtifact.future(self._parts(), timeout=120)

    def _parts(self) -> Iterator[Any]:
        yield codec.upload_header_to_pb(UploadHeader(artifact=self._artifact))
        for start in range(0, 3 * CHUNK, CHUNK):
            yield codec.upload_chunk_to_pb(DATA[start : start + CHUNK])
        self._go_on.wait(120)

    def end(self) -> None:
        self.call.cancel()
        self._go_on.set()


@pytest.fixture
def slow(client: WireClient) -> Iterator[SlowUpload]:
    upload = SlowUpload(client, artifact_of(DATA))
    yield upload
    upload.end()


def test_an_agent_that_is_killed_keeps_what_came(
    agent: RunningAgent, client: WireClient, slow: SlowUpload, start: StartAgent, connect: Connect
) -> None:
    artifact = artifact_of(DATA)
    wait_until(
        lambda: client.held(artifact.sha256).offset == 3 * CHUNK, "chunks reach the disk while the link is silent"
    )
    agent.kill()
    again = connect(start(store=agent.store))
    held = again.held(artifact.sha256)
    assert not held.complete
    assert held.offset == 3 * CHUNK
    again.upload(artifact, DATA[held.offset :], offset=held.offset)
    assert again.held(artifact.sha256).complete


def test_a_link_that_is_cut_loses_nothing_that_came(client: WireClient, slow: SlowUpload) -> None:
    artifact = artifact_of(DATA)
    wait_until(lambda: client.held(artifact.sha256).offset > 0, "the first chunks reach the disk")
    slow.end()
    with pytest.raises(grpc.FutureCancelledError):
        slow.call.result()
    wait_until(lambda: client.held(artifact.sha256).offset % CHUNK == 0, "whole chunks are kept")
    offset = client.held(artifact.sha256).offset
    wait_until(lambda: uploaded(client, artifact, offset), "the rest is taken when the cut upload has ended")


def uploaded(client: WireClient, artifact: Artifact, offset: int) -> bool:
    try:
        client.upload(artifact, DATA[offset:], offset=offset)
    except UploadConflict:  # the agent has not noticed the cut yet
        return False
    return client.held(artifact.sha256).complete


@pytest.fixture
def upload(tmp_path: Path) -> Iterator[Upload]:
    store = ArtifactStore(tmp_path, quota_bytes=10**9)
    opened = store.begin(UploadHeader(artifact=artifact_of(b"half and half")))
    assert opened is not None
    yield opened
    opened.close()
    store.close()


def test_the_last_chunks_of_a_cut_transfer_are_kept(upload: Upload, tmp_path: Path) -> None:
    upload.write([b"half "])
    upload.keep([b"and"])
    assert (tmp_path / "partial" / upload.artifact.sha256).read_bytes() == b"half and"


def test_nothing_is_appended_after_a_write_that_failed(upload: Upload, tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half "
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        upload.write(broken())
    upload.keep([b"half"])
    assert (tmp_path / "partial" / upload.artifact.sha256).read_bytes() == b"half "


def test_nothing_is_appended_once_it_is_closed(upload: Upload, tmp_path: Path) -> None:
    upload.write([b"half "])
    upload.close()
    upload.keep([b"and half"])
    assert (tmp_path / "partial" / upload.artifact.sha256).read_bytes() == b"half "


def test_a_silent_upload_gives_way_to_another(
    client: WireClient, slow: SlowUpload, connect: Connect, agent: RunningAgent
) -> None:
    """The host notices a cut before the agent does, and must not be told that another upload is under way."""
    artifact = artifact_of(DATA)
    wait_until(lambda: client.held(artifact.sha256).offset == 3 * CHUNK, "what came is on the disk")
    wait_until(lambda: uploaded(connect(agent), artifact, 3 * CHUNK), "it takes over when the first has been silent")
    with pytest.raises(grpc.RpcError) as cut:
        slow.call.result()
    assert isinstance(error_of(cut.value), UploadConflict), "the first one is told that it may come again"
