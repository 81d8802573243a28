"""Moving files to a real agent."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from device_agent.contract.errors import ArtifactNotFound
from host.fleet.client import AgentClient
from host.fleet.upload import CHUNK_BYTES, CHUNK_S, SMALL_CHUNK_BYTES, ChunkSizes, Retry


def random_file(folder: Path, size: int, seed: int = 0) -> Path:
    path = folder / f"random-{seed}.onnx"
    path.write_bytes(random.Random(seed).randbytes(size))
    return path


def test_a_known_file_moves_no_bytes(agent: Any, tmp_path: Path) -> None:
    path = random_file(tmp_path, 3 * CHUNK_BYTES + 17)
    seen: list[tuple[int, int]] = []
    with AgentClient(agent.address) as client:
        first = client.push(path, on_progress=lambda position, size: seen.append((position, size)))
        again = client.push(path, name="other")
        assert client.list_artifacts() == (first.artifact,)
        client.delete_artifact(first.artifact.sha256)
        assert client.list_artifacts() == ()
        with pytest.raises(ArtifactNotFound):
            client.delete_artifact(first.artifact.sha256)
    size = path.stat().st_size
    assert (first.bytes_sent, again.bytes_sent) == (size, 0)
    assert seen[-1] == (size, size)
    assert [position for position, _ in seen] == sorted(position for position, _ in seen)


def test_a_push_goes_on_after_the_agent_is_killed(start: Callable[..., Any], tmp_path: Path) -> None:
    path = random_file(tmp_path, 64 * CHUNK_BYTES)
    store = tmp_path / "store"
    agents = [start(store=store)]
    address = agents[0].address
    seen: list[int] = []

    def restart() -> None:
        agents[0].kill()
        agents.append(start(store=store, arguments=("--listen", address)))

    thread = threading.Thread(target=restart)

    def on_progress(position: int, size: int) -> None:
        seen.append(position)
        if position > size // 2 and thread.ident is None:
            thread.start()
            thread.join(0.05)  # the rest of the file would otherwise be gone before the signal

    with AgentClient(address, retry=Retry(attempts=20)) as client:
        report = client.push(path, on_progress=on_progress)
        thread.join()
        assert client.list_artifacts() == (report.artifact,)
        assert client.push(path).bytes_sent == 0
    restarts = [after for before, after in pairwise(seen) if after <= before]
    assert len(agents) == 2
    assert restarts, "the agent was killed too late to cut the push"
    assert restarts[0] > CHUNK_BYTES, "the push began again from the start"
    assert path.stat().st_size < report.bytes_sent < 2 * path.stat().st_size
    stored = next(each for each in store.rglob(report.artifact.sha256) if each.is_file())
    assert stored.read_bytes() == path.read_bytes()


def sizes_on_a_link(rate: float, buffered: int, count: int) -> list[int]:
    """The sizes of so many chunks where a buffer takes the first bytes at once, and the link the others at its rate."""
    now, room = 0.0, float(buffered)
    sizes = ChunkSizes(clock=lambda: now)
    sizes.taken(0)
    found = []
    for _ in range(count):
        found.append(sizes.size)
        now += max(0.0, sizes.size - room) / rate + 1e-4
        room = max(0.0, room - sizes.size)
        sizes.taken(sizes.size)
    return found


def test_chunks_grow_to_what_the_link_takes() -> None:
    """A chunk that is cut is lost, so on a slow link it is small; on a fast one large chunks move fastest."""
    assert sizes_on_a_link(100e6, 0, 40)[-1] == CHUNK_BYTES
    assert set(sizes_on_a_link(50e3, 0, 40)) == {SMALL_CHUNK_BYTES}
    slow = sizes_on_a_link(2.5e6, 400_000, 60)
    assert slow[0] == SMALL_CHUNK_BYTES
    assert max(slow) < CHUNK_BYTES, "a buffer that is filled at once is not taken for a fast link"
    assert slow[-1] == pytest.approx(2.5e6 * CHUNK_S, rel=0.2)
