"""Whether the agent's latency is the latency: its p50 against that of a bare loop.

Compares: the p50 that a host gets from the agent with the p50 of benchmarks.bare_loop, which shares no code with it; and,
    as the measure of this machine's noise, one bare loop with another (A/A).
On: the same file, runtime, threads and numbers of warm-up and timed runs, on this machine; every figure is of a process of
    its own (the agent starts a worker for each measurement).
Fair because: processes take turns in a balanced order in which drift cancels, and what is judged is the median over rounds
    of the logarithm of the ratio within a round, with its 95 % order-statistics interval. The goal is an interval inside
    0.98 - 1.02. It stays open where the A/A interval is itself wider than that and the agent's overlaps it. All runs count
    on both sides, disturbed ones too.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from statistics import median

from benchmarks.agents import serving
from benchmarks.nets import write_convolutions, write_tflite_convolutions
from benchmarks.processes import Others
from benchmarks.table import Benchmark, CannotMeasure, Goal, Row, interval_of, progress
from device_agent.contract.settings import MeasureRequest, Settings, Stopping
from device_agent.worker.order import williams_rows
from host.fleet.client import AgentClient

GOAL = Goal(low=0.98, high=1.02)
_AGENT, _BARE, _BARE_AGAIN = range(3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A model and how often to run it; `time_s` is about the time of a process's timed runs."""

    title: str
    runtime: str
    path: Path
    warmup: int
    runs: int


def cases(folder: Path, *, quick: bool) -> list[Case]:
    """Return the models to compare on, written to `folder` where they are made."""
    few = 10 if quick else 1
    return [
        Case(title="onnxruntime, 0.3 ms net", runtime="onnxruntime",
             path=write_convolutions(folder / "small.onnx", channels=16, size=32, layers=4),
             warmup=300 // few, runs=2000 // few),
        Case(title="onnxruntime, 3 ms net", runtime="onnxruntime",
             path=write_convolutions(folder / "large.onnx", channels=40, size=56, layers=4),
             warmup=50 // few, runs=300 // few),
        Case(title="litert, 0.2 ms net", runtime="litert",
             path=write_tflite_convolutions(folder / "small.tflite", channels=16, size=32, layers=4),
             warmup=300 // few, runs=2000 // few),
    ]  # fmt: skip


def measure(quick: bool) -> list[Row]:
    """Compare on every model; a runtime that is not installed is left out, with a row that says so."""
    rounds = 2 if quick else 24  # the balanced orders repeat after six rounds
    with (
        tempfile.TemporaryDirectory(prefix="boardfit-bench-") as name,
        serving(Path(name) / "store") as agent,
        AgentClient(agent.address, timeout_s=120) as client,
    ):
        missing = {one.name: one.unavailable for one in client.describe().runtimes if one.unavailable}
        rows: list[Row] = []
        for case in cases(Path(name), quick=quick):
            if case.runtime in missing:
                reason = f"left out: {missing[case.runtime]}"
                rows.append(Row(metric=case.title, value=None, unit="ratio", goal=str(GOAL), reason=reason))
                continue
            others = Others(agent.pid)
            found = _compare(client, case, rounds)
            rows += judge(case.title, found, others=others.doubt())
        return rows + (_overhead(client, Path(name), rounds) if "onnxruntime" not in missing else [])


def _overhead(client: AgentClient, folder: Path, rounds: int) -> list[Row]:
    """Return what the agent's loop adds to one run, on a net of a few microseconds, where nothing hides it."""
    case = Case(title="onnxruntime, smallest net", runtime="onnxruntime", warmup=500, runs=5000,
                path=write_convolutions(folder / "smallest.onnx", channels=1, size=1, layers=0))  # fmt: skip
    found = _compare(client, case, max(2, rounds // 3))
    added, interval = interval_of([agent - bare for agent, bare, _ in found])
    return [
        Row(metric=f"{case.title}: p50, bare loop", value=median(one[_BARE] for one in found) / 1e3, unit="us"),
        Row(metric=f"{case.title}: agent - bare, per run", value=added, unit="ns", interval=interval),
    ]


def _compare(client: AgentClient, case: Case, rounds: int) -> list[tuple[float, float, float]]:
    """Return per round the p50 (ns) of the agent, a bare loop, and another bare loop."""
    sha256 = client.push(case.path).artifact.sha256
    rows = williams_rows(3)
    balanced = list(chain.from_iterable((row, row[::-1]) for row in rows))
    found: list[tuple[float, float, float]] = []
    for number in range(rounds):
        progress(f"{case.title}: round {number + 1} of {rounds}")
        times = [0.0, 0.0, 0.0]
        for who in balanced[number % len(balanced)]:
            times[who] = _agent_p50(client, sha256, case) if who == _AGENT else _bare_p50(case)
        found.append((times[_AGENT], times[_BARE], times[_BARE_AGAIN]))
    return found


def judge(title: str, found: list[tuple[float, float, float]], *, others: str | None) -> list[Row]:
    """Return the rows of one model: times, the ratio with its verdict, and the noise.

    `found` holds per round the p50 (ns) of the agent, a bare loop and another bare loop.
    """
    middle, interval = interval_of([math.log(agent / bare) for agent, bare, _ in found])
    noise_middle, noise = interval_of([math.log(again / bare) for _, bare, again in found])
    ratio, band = math.exp(middle), _exponentials(interval)
    noise_ratio, noise_band = math.exp(noise_middle), _exponentials(noise)
    met, reason = _verdict(band, noise_band, others)
    return [
        Row(metric=f"{title}: p50, agent", value=median(one[_AGENT] for one in found) / 1e6, unit="ms"),
        Row(metric=f"{title}: p50, bare loop", value=median(one[_BARE] for one in found) / 1e6, unit="ms"),
        Row(metric=f"{title}: agent / bare, {len(found)} pairs", value=ratio, unit="ratio", interval=band, goal=str(GOAL),
            met=met, reason=reason),
        Row(metric=f"{title}: bare / bare (A/A)", value=noise_ratio, unit="ratio", interval=noise_band),
    ]  # fmt: skip


def _verdict(
    band: tuple[float, float] | None, noise: tuple[float, float] | None, others: str | None
) -> tuple[bool | None, str | None]:
    if band is None or noise is None:
        return None, "too few pairs for an interval; run without --quick"
    if all(map(GOAL.holds, band)):
        return True, None
    overlap = band[0] <= noise[1] and noise[0] <= band[1]
    if overlap and not all(map(GOAL.holds, noise)):
        return None, f"too noisy to tell: two bare loops against each other give {noise[0]:.3f} - {noise[1]:.3f}"
    if overlap and others is not None:
        return None, others
    return False, None


def _exponentials(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if interval is None else (math.exp(interval[0]), math.exp(interval[1]))


def _agent_p50(client: AgentClient, sha256: str, case: Case) -> float:
    stopping = Stopping(
        warmup_runs=case.warmup, warmup_time_s=0, min_runs=case.runs, min_time_s=0, max_time_s=120, precision=None
    )
    request = MeasureRequest(artifacts=(sha256,), settings=Settings(runtime=case.runtime, threads=1), stopping=stopping)
    # The agent finishes the turn in which the count is reached; the same number counts on both sides.
    return median(islice(client.measure(request).latencies_ns(), case.runs))


def _bare_p50(case: Case) -> float:
    command = [sys.executable, "-m", "benchmarks.bare_loop", case.runtime, str(case.path)]
    command += ["--threads", "1", "--warmup", str(case.warmup), "--runs", str(case.runs)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise CannotMeasure(f"the bare loop failed: {(done.stderr.strip() or 'no message').splitlines()[-1]}")
    return float(done.stdout)


BENCHMARK = Benchmark(name="fidelity", about=__doc__ or "", measure=measure)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
