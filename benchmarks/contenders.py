"""Three ways to a p50 of one model: the agent's, a bare loop's, and that of LiteRT's own tool, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median

from benchmarks.real_models import RealModel, fetch
from benchmarks.table import CannotMeasure
from device_agent.contract.measurement import Measurement
from device_agent.contract.settings import MeasureRequest, Settings, Stopping
from host.fleet.client import AgentClient

#: Bounds against a hang, far above what a busy machine needs.
_LONGEST_S = 120.0
_TOOL = "ai_edge_litert.tools.benchmark_litert_model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A model, its runtime, and how many warm-up and timed runs each contender makes. One thread."""

    title: str
    runtime: str
    path: Path
    warmup: int
    runs: int


def real_case(model: RealModel, folder: Path, *, time_s: float, fewest: int = 12) -> Case:
    """Return the case of a real model whose timed runs take about `time_s`. CannotMeasure if its file cannot be had."""
    runs = max(fewest, round(1000 * time_s / model.latency_ms))
    return Case(
        title=model.title, runtime=model.runtime, path=fetch(model, folder), warmup=max(3, runs // 6), runs=runs
    )


def agent_measurement(client: AgentClient, case: Case) -> Measurement:
    """Measure through the agent, which starts a worker for it. The file moves the first time only."""
    stopping = Stopping(
        warmup_runs=case.warmup,
        warmup_time_s=0,
        min_runs=case.runs,
        min_time_s=0,
        max_time_s=_LONGEST_S,
        precision=None,
    )
    sha256 = client.push(case.path).artifact.sha256
    return client.measure(
        MeasureRequest(artifacts=(sha256,), settings=Settings(runtime=case.runtime, threads=1), stopping=stopping)
    )


def agent_p50(client: AgentClient, case: Case) -> float:
    """Return the p50 in ns over all of `case.runs` runs; the agent makes a few more, to the end of the turn."""
    return median(islice(agent_measurement(client, case).latencies_ns(), case.runs))


def bare_p50(case: Case) -> float:
    """Return the p50 in ns that benchmarks.bare_loop prints."""
    arguments = [case.runtime, str(case.path), "--threads", "1"]
    return float(_run("benchmarks.bare_loop", [*arguments, "--warmup", str(case.warmup), "--runs", str(case.runs)]))


def tool_figures(case: Case) -> tuple[float, float]:
    """Return the median and the average in ns that litert-benchmark reports, each rounded to 10 us.

    CannotMeasure if it cannot run the model.
    """
    with tempfile.TemporaryDirectory(prefix="boardfit-bench-") as folder:
        result = Path(folder) / "result.json"
        arguments = [
            f"--model={case.path}",
            "--num_threads=1",
            f"--warmup_runs={case.warmup}",
            f"--num_runs={case.runs}",
        ]
        _run(_TOOL, [*arguments, f"--result_json={result}"])
        latency = json.loads(result.read_text())["latency"]
        return latency["median_ms"] * 1e6, latency["avg_ms"] * 1e6


def why_no_tool(case: Case) -> str | None:
    """Return why litert-benchmark has no figure for this model, None if it has one: tried with a single run."""
    if case.runtime != "litert":
        return f"it runs no models for {case.runtime}"
    once = Case(title=case.title, runtime=case.runtime, path=case.path, warmup=1, runs=1)
    try:
        tool_figures(once)
    except CannotMeasure as error:
        return str(error)
    return None


def _run(module: str, arguments: Sequence[str]) -> str:
    """Run a Python module and return its stdout. CannotMeasure with its last words."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    name = module.rpartition(".")[2]
    try:
        done = subprocess.run(
            [sys.executable, "-m", module, *arguments],
            capture_output=True, text=True, env=environment, timeout=2 * _LONGEST_S,
            start_new_session=True,  # as the agent's worker: Linux shares the processors out by sessions (autogroup)
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise CannotMeasure(f"{name} did not end within {2 * _LONGEST_S:g} s") from None
    if done.returncode:
        # LiteRT's C++ side adds lines of its own after the exception, marked by the level or by the tree that it draws.
        words = [
            line for line in done.stderr.strip().splitlines() if "Error" in line and not line.startswith("WARNING")
        ]
        raise CannotMeasure(f"{name} failed: {(words or ['no message'])[-1]}")
    return done.stdout
