"""How long one host takes to learn what 300 agents are and to register them.

Compares: `host devices import RACK.csv` with labgrid's coordinator, to which as many exporters of one resource each report.
On: this machine; 300 agents without boards in one process (benchmarks.fake_agents: the real service on ports of their own), the
    host's command in another, with an empty configuration. Nothing is known beforehand but the addresses.
Fair because: both end where a host can name every board: with us the list is on the disk (fsync), in labgrid a subscribed client
    has seen every resource. Ours opens 300 connections, asks each agent for its whole description, and starts its interpreter
    within the figure of the whole command; labgrid's coordinator runs already, and its exporters are bare streams of its protocol
    in one event loop, which is less than as many processes. They take turns. Without labgrid (set BOARDFIT_LABGRID to a Python
    that has it) its row is left out; the issue's figures for it and for TVM's tracker, 1.74 s and 27.5 s, are another machine's.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.agents import free_port
from benchmarks.fake_fleet import FakeFleet
from benchmarks.processes import Others, memory_bytes
from benchmarks.table import Benchmark, CannotMeasure, Goal, Row, interval_of, judged, progress

_AGENTS = 300
_CHECKOUT = Path(__file__).parents[1]
_MB = 1_000_000
#: Runs the command as its script does, and tells what it took: the time of asking and writing, and the most memory.
_HOST = """
import json, sys, time
from host.cli.entry import run
import host.fleet.bulk as bulk
real, spent = bulk.add_all, []
def timed(*arguments, **more):
    start = time.perf_counter()
    try:
        return real(*arguments, **more)
    finally:
        spent.append(time.perf_counter() - start)
bulk.add_all = timed
code = run(sys.argv[1:])
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(json.dumps({"spent_s": sum(spent), "peak_bytes": int(peak.split()[1]) * 1024}), file=sys.stderr)
sys.exit(code)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Import:
    """One import: seconds of the whole command, of asking and writing in it, and the process's most resident memory."""

    command_s: float
    asking_s: float
    peak_bytes: int


def measure(quick: bool) -> list[Row]:
    """Import the fleet some times, in turns with labgrid where there is one."""
    repeats = 3 if quick else 9
    with (
        tempfile.TemporaryDirectory(prefix="boardfit-bench-") as name,
        FakeFleet(_AGENTS) as fleet,
        _labgrid() as rival,
    ):
        folder = Path(name)
        rack = folder / "rack.csv"
        lines = [f"board-{place:03},{address},lab-a" for place, address in enumerate(fleet.addresses)]
        rack.write_text("\n".join(["name,address,tags", *lines]) + "\n")
        others = Others(fleet.pid, *([] if rival is None else [rival[1]]))
        imports, rivals = [], []
        for number in range(repeats):
            progress(f"import {number + 1} of {repeats}")
            imports.append(_import(rack, folder / f"home-{number}"))
            if rival is not None:
                rivals.append(_exporters(*rival[0]))
        noise = others.doubt()
        rows = _rows(imports, noise)
        fleet_mb = memory_bytes(fleet.pid)["Rss"] / _MB
        rows.append(Row(metric=f"memory of the {_AGENTS} fake agents' process", value=fleet_mb, unit="MB"))
        if rival is not None:
            value, interval = interval_of(rivals)
            rows.append(Row(metric=f"labgrid: {_AGENTS} exporters seen", value=value, unit="s", interval=interval))
            peak = memory_bytes(rival[1])["Rss"] / _MB
            rows.append(Row(metric="labgrid: coordinator's memory afterwards", value=peak, unit="MB"))
        return rows


def _rows(imports: list[_Import], noise: str | None) -> list[Row]:
    goal = Goal(below=1.5)
    rows = []
    for metric, values in (
        (f"{_AGENTS} agents asked, described, on disk", [one.asking_s for one in imports]),
        ("the whole command, interpreter's start included", [one.command_s for one in imports]),
    ):
        value, interval = interval_of(values)
        doubt = None if goal.holds(value) else noise
        rows.append(judged(metric, value, "s", goal, interval=interval, doubt=doubt))
    peak = median(one.peak_bytes for one in imports) / _MB
    rows.append(judged("host process, most resident memory", peak, "MB", Goal(below=150)))
    return rows


def _import(rack: Path, home: Path) -> _Import:
    own = {f"XDG_{kind}_HOME": str(home / kind.lower()) for kind in ("CONFIG", "DATA", "CACHE", "STATE")}
    environment = {**os.environ, **own, "PYTHONPATH": str(_CHECKOUT), "GRPC_VERBOSITY": "ERROR"}
    command = [sys.executable, "-c", _HOST, "devices", "import", str(rack), "--json"]
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, cwd=rack.parent, capture_output=True, text=True)
    elapsed = time.perf_counter() - start
    if done.returncode:
        raise CannotMeasure(f"host devices import ended with status {done.returncode}: {done.stderr.strip()[-500:]}")
    devices = json.loads(done.stdout)["devices"]
    on_disk = json.loads((home / "config" / "boardfit" / "devices.json").read_text())["devices"]
    if len(devices) != _AGENTS or len({one["device_id"] for one in on_disk.values()}) != _AGENTS:
        raise CannotMeasure(
            f"{len(devices)} devices were told and {len(on_disk)} written, not {_AGENTS} different ones"
        )
    told = json.loads(done.stderr.splitlines()[-1])
    return _Import(command_s=elapsed, asking_s=told["spent_s"], peak_bytes=told["peak_bytes"])


@contextmanager
def _labgrid() -> Iterator[tuple[tuple[str, str], int] | None]:
    """Run labgrid's coordinator; yields (its Python, its address) and its process id, None where there is no labgrid."""
    python = os.environ.get("BOARDFIT_LABGRID")
    if python is None:
        yield None
        return
    address = f"127.0.0.1:{free_port()}"
    command = [python, "-m", "labgrid.remote.coordinator", "-l", address]
    with tempfile.TemporaryDirectory(prefix="labgrid-") as folder:
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait_for(address, process)
            yield (python, address), process.pid
        finally:
            process.kill()
            process.wait()


def _wait_for(address: str, process: subprocess.Popen[Any]) -> None:
    host, _, port = address.rpartition(":")
    while True:
        try:
            with socket.create_connection((host, int(port))):
                return
        except ConnectionRefusedError:
            if process.poll() is not None:
                raise CannotMeasure(f"labgrid's coordinator ended with status {process.returncode}") from None
            time.sleep(0.1)


def _exporters(python: str, address: str) -> float:
    command = [python, str(Path(__file__).with_name("labgrid_exporters.py")), address, str(_AGENTS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise CannotMeasure(f"labgrid's exporters: {done.stderr.strip()[-500:]}")
    return float(done.stdout)


BENCHMARK = Benchmark(name="registration", about=__doc__ or "", measure=measure)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
