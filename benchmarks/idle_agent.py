"""What an idle agent costs the board it runs on.

Compares: a real `device-agent serve` on loopback, after 1,000 Describes and 50 measurements of a tiny model, with the goals of
    the design.
On: this machine; memory as the kernel accounts it (smaps), processor time from schedstat, summed over the agent's threads.
Fair because: load comes from processes of their own that have ended before anything is read, so they share no page with the
    agent; the reader holds nothing but the standard library. Pss (the kernel's, from smaps_rollup) divides shared pages by their
    users, so that it falls with every neighbour that runs Python or gRPC; beside it stands what it would be if nobody shared
    Python and its packages, and the verdict stays open where only the neighbours make the goal. Growth is taken after the
    warm-up, over thousands of requests, and includes what the allocator keeps.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from benchmarks.agents import serving
from benchmarks.processes import memory_bytes, open_files, processor_ns, pss_bytes
from benchmarks.table import Benchmark, CannotMeasure, Goal, Row, judged, progress

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class _Size:
    """How much of everything: calls before the reading, batches of calls after it, and seconds of idling."""

    describes: int
    measurements: int
    batches: int
    batch_describes: int
    idle_s: float


_FULL = _Size(describes=1000, measurements=50, batches=6, batch_describes=1000, idle_s=20)
_QUICK = _Size(describes=200, measurements=3, batches=2, batch_describes=200, idle_s=3)


def measure(quick: bool) -> list[Row]:
    """Run the agent, load it, and read what it costs."""
    size = _QUICK if quick else _FULL
    with tempfile.TemporaryDirectory(prefix="boardfit-bench-") as folder:
        model = Path(folder) / "tiny.onnx"
        _python("-c", f"import pathlib, benchmarks.nets as n; n.write_convolutions(pathlib.Path({str(model)!r}),"
                      " channels=8, size=16, layers=2)")  # fmt: skip
        with serving(Path(folder) / "store") as agent:
            return _measure(agent.pid, agent.address, model, size)


def _measure(pid: int, address: str, model: Path, size: _Size) -> list[Row]:
    progress(f"loading the agent: {size.describes} Describes, {size.measurements} measurements")
    measuring = ("--model", str(model), "--measurements", str(size.measurements))
    _load(address, "--describes", str(size.describes), *measuring)
    time.sleep(2)  # closed connections and reaped workers settle
    after = memory_bytes(pid)
    goal, alone = Goal(below=35), pss_bytes(pid, own="python") / _MIB
    flattered = None
    if goal.holds(after["Pss"] / _MIB) and not goal.holds(alone):
        flattered = f"other processes share the agent's pages; without them it would be up to {alone:.1f} MiB"
    done = f"after {size.describes} Describes and {size.measurements} measurements"
    rows = [
        judged(f"Pss {done}", after["Pss"] / _MIB, "MiB", goal, doubt=flattered),
        Row(metric="the same, if nobody shared Python and its packages", value=alone, unit="MiB"),
        judged(f"Rss {done}", after["Rss"] / _MIB, "MiB", Goal(below=45)),
        Row(metric="of it private to the agent", value=_private(after) / _MIB, unit="MiB"),
    ]
    rows += _growth(pid, address, measuring, size)
    progress(f"idling for {size.idle_s:g} s twice")
    cpu = Goal(below=0.5)
    alone = _idle_percent(pid, size.idle_s)
    with _connected(address):
        watched = _idle_percent(pid, size.idle_s)
    rows.append(judged(f"processor while idle, {size.idle_s:g} s", alone, "% of a core", cpu))
    rows.append(judged(f"processor while idle with a host connected, {size.idle_s:g} s", watched, "% of a core", cpu))
    return rows


def _growth(pid: int, address: str, measuring: Sequence[str], size: _Size) -> list[Row]:
    """Return rows on what further requests add to the resident set, per 1,000 Describes and per 50 measurements."""
    resident = [memory_bytes(pid)["Rss"]]
    for batch in range(size.batches):
        progress(f"growth: batch {batch + 1} of {size.batches}, {size.batch_describes} Describes")
        _load(address, "--describes", str(size.batch_describes))
        time.sleep(0.5)
        resident.append(memory_bytes(pid)["Rss"])
    scale = 1000 / size.batch_describes / _MIB
    steps = [(after - before) * scale for before, after in pairwise(resident)]
    total = (resident[-1] - resident[0]) * scale / size.batches
    calls = size.batches * size.batch_describes
    doubt = "quick: what the first thousand calls leave behind is still warm-up" if size is _QUICK else None
    rows = [
        judged(f"growth per 1,000 Describes, mean over {calls}", total, "MiB", Goal(below=1), doubt=doubt),
        Row(metric="of it per 1,000, median of the batches", value=median(steps), unit="MiB"),
    ]
    progress(f"growth: {size.describes} Describes and {size.measurements} measurements once more")
    before, opened = memory_bytes(pid)["Rss"], open_files(pid)
    _load(address, "--describes", str(size.describes), *measuring)
    time.sleep(1)
    grown = (memory_bytes(pid)["Rss"] - before) / _MIB
    again = f"{size.describes} Describes and {size.measurements} measurements more"
    rows.append(judged(f"growth over {again}", grown, "MiB", Goal(below=1), doubt=doubt))
    rows.append(judged(f"descriptors left open by {again}", open_files(pid) - opened, "files", Goal(high=0)))
    return rows


def _private(memory: dict[str, int]) -> int:
    return memory["Private_Clean"] + memory["Private_Dirty"]


def _idle_percent(pid: int, seconds: float) -> float:
    """Return the processor time over an interval without calls, in percent of one core."""
    start, before = time.monotonic(), processor_ns(pid)
    time.sleep(seconds)
    return (processor_ns(pid) - before) / 1e9 / (time.monotonic() - start) * 100


def _load(address: str, *arguments: str) -> None:
    _python("-m", "benchmarks.load", address, *arguments)


def _python(*arguments: str) -> None:
    """Run Python to its end; CannotMeasure with its last words if it fails."""
    done = subprocess.run([sys.executable, *arguments], env=_environment(), capture_output=True, text=True)
    if done.returncode:
        raise CannotMeasure(
            f"{' '.join(arguments[:2])} failed: {(done.stderr.strip() or 'no message').splitlines()[-1]}"
        )


@contextmanager
def _connected(address: str) -> Iterator[None]:
    """Keep a host connected that makes no calls."""
    command = [sys.executable, "-m", "benchmarks.load", address, "--hold"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_environment()) as host:
        assert host.stdin is not None
        assert host.stdout is not None
        host.stdout.readline()
        time.sleep(1)
        yield
        host.stdin.close()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}


BENCHMARK = Benchmark(name="idle_agent", about=__doc__ or "", measure=measure)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
