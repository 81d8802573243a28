"""Recorded series of latencies: `python -m benchmarks.recorded` measures real models through the agent and keeps the series.

Each series is one measurement, in a process of its own and on one thread or two: `quiet`, with a real-time priority (SCHED_FIFO)
so that nothing preempts it; `shared`, beside whatever the machine was doing; or `busy`, beside a loop on every core. Needs root.
benchmarks/data/README.md says where and when those in the repository were recorded.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.agents import serving
from benchmarks.busy import busy_cores
from benchmarks.real_models import FACE_DETECTION, HAND_LANDMARKS, TEXT_DIRECTION, TEXT_RECOGNITION, fetch
from benchmarks.table import progress
from device_agent.contract.measurement import Run, RunKind
from device_agent.contract.settings import MeasureRequest, Settings, Stopping
from host.fleet.client import AgentClient

FILE = Path(__file__).parent / "data" / "series.npz"
_MODELS = (TEXT_DIRECTION, FACE_DETECTION, HAND_LANDMARKS, TEXT_RECOGNITION)
_MOST_RUNS = 600
_MOST_S = 2.5
#: Condition, threads, and how many series.
_PLAN = (("quiet", 1, 8), ("quiet", 2, 2), ("shared", 1, 2), ("busy", 1, 4), ("busy", 2, 3))


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One recorded measurement. `pressure` is the highest share of /proc/pressure/cpu seen meanwhile, `load` /proc/loadavg's."""

    model: str
    threads: int
    condition: str
    runs: tuple[Run, ...]
    steal: float
    pressure: float | None
    load: float


def load(file: Path = FILE) -> list[Series]:
    """Return the series of a file. Turns are not kept; starts are, to the microsecond."""
    with np.load(file) as kept:
        found = []
        for number, facts in enumerate(json.loads(str(kept["facts"]))):
            latencies, gaps = kept[f"latency_{number}"], kept[f"gap_{number}"]
            marks = np.unpackbits(kept[f"marks_{number}"], count=len(latencies))
            starts = 1_000 + np.cumsum(gaps.astype(np.int64) * 1_000)
            rows = zip(starts.tolist(), latencies.tolist(), marks.tolist(), strict=True)
            runs = tuple(
                Run(
                    artifact=0,
                    kind=RunKind.TIMED,
                    turn=place,
                    start_ns=start,
                    latency_ns=latency,
                    disturbed=bool(mark),
                )
                for place, (start, latency, mark) in enumerate(rows)
            )
            found.append(Series(runs=runs, **facts))
        return found


def record(file: Path) -> None:
    """Measure every model in every condition and write the file. CannotMeasure if a model cannot be had."""
    arrays: dict[str, object] = {}
    facts: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(prefix="boardfit-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        usual = _client(stack, folder / "usual")
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        try:  # a child inherits the priority
            first = _client(stack, folder / "first")
        finally:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        stopping = Stopping(min_time_s=_MOST_S, max_time_s=_MOST_S, precision=None)
        for model in _MODELS:
            path = fetch(model, folder)
            for condition, threads in [one[:2] for one in _PLAN for _ in range(one[2])]:
                progress(f"{model.title}: {threads} threads, {condition}")
                client = first if condition == "quiet" else usual
                settings = Settings(runtime=model.runtime, threads=threads)
                request = MeasureRequest(
                    artifacts=(client.push(path).artifact.sha256,), settings=settings, stopping=stopping
                )
                with busy_cores() if condition == "busy" else nullcontext():
                    measured = client.measure(request)
                timed = [run for run in measured.runs if run.kind is RunKind.TIMED][:_MOST_RUNS]
                pressures = [one.value for one in measured.readings if one.channel == "cpu.pressure"]
                number = len(facts)
                gaps = np.diff([timed[0].start_ns, *(run.start_ns for run in timed)])
                arrays[f"latency_{number}"] = np.array([run.latency_ns for run in timed], dtype=np.uint32)
                arrays[f"gap_{number}"] = (gaps // 1000).astype(np.uint32)
                arrays[f"marks_{number}"] = np.packbits([run.disturbed for run in timed])
                facts.append(
                    {
                        "model": model.title,
                        "threads": threads,
                        "condition": condition,
                        "steal": measured.result.steal_fraction or 0.0,
                        "pressure": max(pressures, default=None),
                        "load": os.getloadavg()[0],
                    }
                )
    arrays["facts"] = np.array(json.dumps(facts))
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # numpy's stub takes the names for its own option


def _client(stack: ExitStack, store: Path) -> AgentClient:
    agent = stack.enter_context(serving(store))
    return stack.enter_context(AgentClient(agent.address, timeout_s=120))


if __name__ == "__main__":
    record(Path(sys.argv[1]) if len(sys.argv) > 1 else FILE)
