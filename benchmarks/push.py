"""How fast a file reaches an agent, and what a cut costs.

Compares: AgentClient.push of 100 MB of random bytes over loopback with a bare program's way of moving the same bytes on the
    same disk: read and hash them, write them to a second file while hashing again, fsync, rename.
On: this machine, agent and host as two processes; the agent's store and the bare copy lie in the same folder.
Fair because: a push is the whole call of a user: the host hashes the file, asks what is there, sends 1 MiB chunks, the agent
    hashes and writes each, synchronises file and folders and renames; the bare copy has the same two hashes and the same
    fsync, and takes turns with the pushes. The file is in the page cache for both. Then: what a known hash costs, and what is
    sent twice when the agent is killed (SIGKILL) midway: what was on its way between the two programs, on a busy machine some
    10 MB, but nothing that the agent had written.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from benchmarks.agents import ServingAgent, free_port, serving
from benchmarks.processes import Others
from benchmarks.table import Benchmark, CannotMeasure, Goal, Row, interval_of, judged, progress
from host.fleet.client import AgentClient

_MB = 1_000_000
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Push:
    """Seconds of one push: until the first chunk was taken, until the last one was, and to the end."""

    total_s: float
    hashing_s: float
    sending_s: float
    finishing_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Copy:
    """Seconds of one bare copy: all of it, of it hashing (both times), of it in fsync."""

    total_s: float
    hashing_s: float
    fsync_s: float


def measure(quick: bool) -> list[Row]:
    """Push, copy, push again, and push while the agent is killed."""
    size, repeats = (20 * _MB, 6) if quick else (100 * _MB, 15)
    with tempfile.TemporaryDirectory(prefix="boardfit-bench-") as name:
        folder = Path(name)
        path = folder / "random.onnx"
        path.write_bytes(os.urandom(size))
        rows = _speed(folder, path, size, repeats)
        for place, fraction in enumerate((0.5,) if quick else (0.25, 0.5, 0.9)):
            rows += _interrupted(folder / f"killed-{place}", path, size, fraction)
        return rows


def _speed(folder: Path, path: Path, size: int, repeats: int) -> list[Row]:
    pushes: list[_Push] = []
    copies: list[_Copy] = []
    with serving(folder / "store") as agent, AgentClient(agent.address, timeout_s=120) as client:
        client.describe()
        others = Others(agent.pid)
        for number in range(repeats + 1):
            progress(f"push and bare copy {number} of {repeats}")
            copy = _copy(path, folder / "copy")
            push = _push(client, path)
            if number:  # the first opens the connection and touches the disk for the first time
                copies.append(copy)
                pushes.append(push)
            sha256 = client.list_artifacts()[0].sha256
            if number < repeats:
                client.delete_artifact(sha256)
        noise = others.doubt()
        known_start = time.perf_counter()
        known = client.push(path)
        known_s = time.perf_counter() - known_start
    megabytes = size / _MB
    rate, interval = interval_of([megabytes / push.total_s for push in pushes])
    bare, bare_interval = interval_of([megabytes / copy.total_s for copy in copies])
    goal = Goal(low=100)
    doubt = None
    if not goal.holds(rate) and not goal.holds(bare):
        doubt = f"this disk is too slow to tell: the bare copy itself reaches {bare:.0f} MB/s"
    elif not goal.holds(rate):
        doubt = noise
    rows = [
        judged(f"push of {megabytes:g} MB", rate, "MB/s", goal, interval=interval, doubt=doubt),
        Row(metric="bare copy of the same file", value=bare, unit="MB/s", interval=bare_interval),
    ]
    parts = (
        ("push: hash on the host, ask, first chunk", [push.hashing_s for push in pushes]),
        ("push: send, hash and write", [push.sending_s for push in pushes]),
        ("push: last writes, fsync, rename", [push.finishing_s for push in pushes]),
        ("bare copy: sha256, twice", [copy.hashing_s for copy in copies]),
        ("bare copy: fsync", [copy.fsync_s for copy in copies]),
    )
    rows += [Row(metric=metric, value=1000 * median(values), unit="ms") for metric, values in parts]
    rows.append(judged("bytes sent for a known hash", known.bytes_sent, "bytes", Goal(low=0, high=0)))
    rows.append(Row(metric="push of a known hash", value=1000 * known_s, unit="ms"))
    return rows


def _push(client: AgentClient, path: Path) -> _Push:
    times: list[float] = []

    def note(_position: int, _size: int) -> None:
        times.append(time.perf_counter())

    start = time.perf_counter()
    client.push(path, on_progress=note)
    end = time.perf_counter()
    return _Push(
        total_s=end - start, hashing_s=times[0] - start, sending_s=times[-1] - times[0], finishing_s=end - times[-1]
    )


def _copy(source: Path, target: Path) -> _Copy:
    """Do what a push does to the bytes, in one process and without a network: hash, then copy, hash again, fsync, rename."""
    start = time.perf_counter()
    hashing = 0.0
    digest, again = hashlib.sha256(), hashlib.sha256()
    temporary = target.with_suffix(".tmp")
    with source.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
        hashing += time.perf_counter() - start
        file.seek(0)
        with temporary.open("wb", buffering=0) as out:
            while block := file.read(_BLOCK):
                before = time.perf_counter()
                again.update(block)
                hashing += time.perf_counter() - before
                out.write(block)
            before = time.perf_counter()
            os.fsync(out.fileno())
            fsync = time.perf_counter() - before
    temporary.replace(target)
    end = time.perf_counter()
    if digest.digest() != again.digest():
        raise CannotMeasure(f"{source} changed while it was copied")
    target.unlink()
    return _Copy(total_s=end - start, hashing_s=hashing, fsync_s=fsync)


def _interrupted(store: Path, path: Path, size: int, fraction: float) -> list[Row]:
    """Kill the agent when the given fraction was sent, restart it on its store and port, and see what the push did."""
    port = free_port()
    agents = [ServingAgent(store, port=port)]
    reached, killed = threading.Event(), threading.Event()
    positions: list[int] = []
    on_disk = 0

    def note(position: int, _: int) -> None:
        positions.append(position)
        if position >= fraction * size and not reached.is_set():
            reached.set()
            killed.wait(30)  # what is sent after this goes to a dead agent

    def kill_and_restart() -> None:
        nonlocal on_disk
        if reached.wait(60):
            agents[0].kill()
            on_disk = sum(part.stat().st_size for part in (store / "partial").iterdir())
            killed.set()
            agents.append(ServingAgent(store, port=port))

    progress(f"killing the agent after {100 * fraction:g} % of a push")
    killer = threading.Thread(target=kill_and_restart)
    try:
        with AgentClient(agents[0].address, timeout_s=120) as client:
            client.describe()
            killer.start()
            report = client.push(path, on_progress=note)
    finally:
        reached.set()
        killer.join()
        agents[-1].stop()
    stored = store / "artifacts" / report.artifact.sha256
    intact = hashlib.sha256(stored.read_bytes()).hexdigest() == hashlib.sha256(path.read_bytes()).hexdigest()
    where = f"killed at {100 * fraction:g} %"
    twice = (report.bytes_sent - size) / _MB
    # A second stream begins where positions stop growing: all that the first one sent came before.
    first = next((here for here, after in pairwise(positions) if after <= here), size)
    resumed = first + size - report.bytes_sent
    return [
        judged(f"{where}: sent twice", twice, "MB", Goal(below=fraction * size / _MB)),
        judged(
            f"{where}: sent twice although it was on the disk", max(0, on_disk - resumed), "bytes", Goal(low=0, high=0)
        ),
        judged(f"{where}: sha256 of the stored file is right", int(intact), "of 1", Goal(low=1, high=1)),
        Row(metric=f"{where}: whole push, restart of the agent included", value=report.seconds, unit="s"),
    ]


BENCHMARK = Benchmark(name="push", about=__doc__ or "", measure=measure)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
