"""What TLS with certificates of both sides costs: the agent's memory, a push, a call, a connection.

Compares: two real agents on loopback that differ in nothing but that one has joined a host's authority.
On: this machine, host and agents as processes; the file is in the page cache.
Fair because: both agents take the same calls in turns, from one process. Memory is taken of each alone, started anew, after the
    same Describes by a process that has ended; Pss is given as it would be if nobody shared Python and its packages. A push is
    the whole call of a user (see benchmarks.push); ratios are of neighbours in time. A connection is a new channel, its
    handshake with both certificates, and one Describe.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from benchmarks.agents import serving
from benchmarks.processes import memory_bytes, pss_bytes
from benchmarks.table import Benchmark, Goal, Row, interval_of, judged, progress
from device_agent.contract.joining import Role
from device_agent.credentials import FILE_NAME, Credentials, save
from host.fleet.authority import certificates
from host.fleet.authority.keeper import Authority
from host.fleet.client import AgentClient
from host.fleet.identity import Peer

_MIB = 1024 * 1024
_MB = 1_000_000
_DEVICE_ID = "0123456789abcdef" * 2


def measure(quick: bool) -> list[Row]:
    """Measure the memory of each agent, then pushes, calls and connections in turns."""
    describes, pushes, calls = (100, 6, 100) if quick else (1000, 15, 1000)
    size = (20 if quick else 100) * _MB
    with tempfile.TemporaryDirectory(prefix="boardfit-bench-") as name:
        folder = Path(name)
        peer = _join(folder)
        rows = _memory(folder, peer, describes)
        path = folder / "random.onnx"
        path.write_bytes(os.urandom(size))
        with ExitStack() as stack:
            addresses = [stack.enter_context(serving(folder / store)).address for store in ("plain", "joined")]
            peers = (None, peer)
            plain, tls = (
                stack.enter_context(AgentClient(address, timeout_s=120, peer=who))
                for address, who in zip(addresses, peers, strict=True)
            )
            for client in (plain, tls):
                client.describe()
            rows += _pushes(plain, tls, path, size, pushes)
            rows += _times("Describe", plain.describe, tls.describe, calls, "us", 1e6)
            rows += _times(
                "connection and Describe",
                lambda: _connect(addresses[0], None),
                lambda: _connect(addresses[1], peer),
                max(20, calls // 20),
                "ms",
                1e3,
            )
        return rows


def _join(folder: Path) -> Peer:
    """Let the store `joined` have joined an authority; return what its host needs."""
    authority = Authority(folder / "authority")
    authority.create()
    (folder / "joined").mkdir()
    (folder / "joined/device-id").write_text(_DEVICE_ID)
    key_pem, request_pem = certificates.new_request("board")
    grant = authority.grant(Role.DEVICE, request_pem, "board", _DEVICE_ID)
    board = Credentials(
        name=grant.name,
        known_as="board",
        key_pem=key_pem,
        certificate_pem=grant.certificate_pem,
        authority_pem=grant.authority_pem,
        expires_s=grant.expires_s,
        revocations=grant.revocations,
    )
    save(folder / "joined" / FILE_NAME, board)
    return Peer(name=grant.name, credentials=authority.own_credentials())


def _memory(folder: Path, peer: Peer, describes: int) -> list[Row]:
    rows: list[Row] = []
    found: list[float] = []
    for store, who in (("plain", None), ("joined", peer)):
        progress(f"memory of an agent {'with' if who else 'without'} TLS, after {describes} Describes")
        with serving(folder / store) as agent:
            _load(agent.address, who, folder / "authority", describes)
            time.sleep(2)  # closed connections settle
            found.append(pss_bytes(agent.pid, own="python") / _MIB)
            what = f"agent {'with' if who else 'without'} TLS after {describes} Describes"
            rows.append(judged(f"Pss, {what}", found[-1], "MiB", Goal(below=35)))
            rows.append(Row(metric=f"Rss, {what}", value=memory_bytes(agent.pid)["Rss"] / _MIB, unit="MiB"))
    rows.append(Row(metric="Pss that TLS adds", value=found[1] - found[0], unit="MiB"))
    return rows


def _load(address: str, peer: Peer | None, authority: Path, describes: int) -> None:
    """Make calls from a process that ends."""
    program = (
        "import sys, pathlib\n"
        "from host.fleet.client import AgentClient\n"
        "from host.fleet.identity import Peer, load_own\n"
        "address, name, folder, count = sys.argv[1:]\n"
        "own = load_own(pathlib.Path(folder))\n"
        "with AgentClient(address, timeout_s=120, peer=Peer(name=name, credentials=own) if name else None) as client:\n"
        "    client.describe()\n"
        "    if name: client.exchange_revocations(own.revocations)\n"
        "    for _ in range(int(count)): client.describe()\n"
    )
    name = "" if peer is None else peer.name
    command = [sys.executable, "-c", program, address, name, str(authority), str(describes)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    subprocess.run(command, check=True, env=environment)


def _pushes(plain: AgentClient, tls: AgentClient, path: Path, size: int, repeats: int) -> list[Row]:
    seconds: dict[AgentClient, list[float]] = {plain: [], tls: []}
    for number in range(repeats + 1):
        progress(f"push {number} of {repeats}")
        for client in (plain, tls) if number % 2 else (tls, plain):
            took = client.push(path).seconds
            client.delete_artifact(client.list_artifacts()[0].sha256)
            if number:  # the first touches the disk for the first time
                seconds[client].append(took)
    rows = []
    for client, what in ((plain, "without"), (tls, "with")):
        rate, interval = interval_of([size / _MB / took for took in seconds[client]])
        rows.append(Row(metric=f"push of {size / _MB:g} MB {what} TLS", value=rate, unit="MB/s", interval=interval))
    ratio, interval = interval_of([b / a for a, b in zip(seconds[plain], seconds[tls], strict=True)])
    rows.append(Row(metric="time of a push with TLS over without", value=ratio, unit="", interval=interval))
    return rows


def _times(
    what: str, plain: Callable[[], object], tls: Callable[[], object], count: int, unit: str, scale: float
) -> list[Row]:
    """Return rows on a call with and without, in turns."""
    progress(f"{what}: {count} of each")
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(count):
        for call, times in zip((plain, tls), taken, strict=True):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
    return [
        Row(metric=f"{what} {how} TLS, median of {count}", value=scale * median(times), unit=unit)
        for how, times in zip(("without", "with"), taken, strict=True)
    ]


def _connect(address: str, peer: Peer | None) -> None:
    with AgentClient(address, timeout_s=120, peer=peer) as client:
        client.describe()


BENCHMARK = Benchmark(name="tls", about=__doc__ or "", measure=measure)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
