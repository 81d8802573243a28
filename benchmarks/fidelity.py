"""Whether the agent's latency is the latency: its p50 against a bare loop's and against that of LiteRT's own benchmark.

Compares: the p50 that a host gets from the agent with that of benchmarks.bare_loop, which shares no code with it; for .tflite
    files also with the median of `litert-benchmark` in the ai-edge-litert wheel, which runs the model by another API
    (CompiledModel) and rounds to 0.01 ms; and, as the measure of this machine's noise, one bare loop with another (A/A).
On: five networks that people use (benchmarks.real_models), one of them in both formats, on this machine; the same file, runtime
    and numbers of threads (one), warm-up and timed runs for all; every figure is of a process of its own, the agent's too.
Fair because: processes take turns in a balanced order in which drift cancels, and what is judged is the median over rounds of
    the logarithm of the ratio within a round, with its 95 % order-statistics interval. The goal is an interval inside
    0.98 - 1.02. It stays open where the A/A interval is itself wider than that and the agent's overlaps it. All runs count
    on both sides, disturbed ones too. Then, on a net of a few microseconds, what the agent adds to one run.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from statistics import median

from benchmarks.agents import serving
from benchmarks.contenders import Case, agent_p50, bare_p50, real_case, tool_figures, why_no_tool
from benchmarks.nets import write_convolutions, write_tflite_convolutions
from benchmarks.processes import Others
from benchmarks.real_models import (
    BASIC_PITCH_ONNX,
    BASIC_PITCH_TFLITE,
    FACE_LANDMARKS,
    HAND_LANDMARKS,
    TEXT_DIRECTION,
    TEXT_RECOGNITION,
)
from benchmarks.table import Benchmark, CannotMeasure, Goal, Row, interval_of, progress
from device_agent.worker.order import williams_rows
from host.fleet.client import AgentClient

GOAL = Goal(low=0.98, high=1.02)
_REAL = (BASIC_PITCH_ONNX, BASIC_PITCH_TFLITE, TEXT_DIRECTION, TEXT_RECOGNITION, FACE_LANDMARKS, HAND_LANDMARKS)
_AGENT, _BARE, _BARE_AGAIN, _TOOL = range(4)
_TIME_S = 0.8


def cases(folder: Path, *, quick: bool) -> tuple[list[Case], list[Row]]:
    """Return what to compare on, and a row that says so if the real models cannot be had.

    Made nets take their place then. A quick look downloads the smallest package only, and makes a net for litert-benchmark.
    """
    made = made_cases(folder, quick=quick)
    try:
        if quick:
            real = [real_case(one, folder, time_s=0.1, fewest=5) for one in (BASIC_PITCH_ONNX, BASIC_PITCH_TFLITE)]
            return [*real, made[-1]], []
        return [real_case(one, folder, time_s=_TIME_S) for one in _REAL], []
    except CannotMeasure as error:
        reason = f"{error}; compared on made nets instead"
        return made, [Row(metric="real models", value=None, unit="ratio", goal=str(GOAL), reason=reason)]


def made_cases(folder: Path, *, quick: bool) -> list[Case]:
    """Return chains of convolutions, written to `folder`: two for ONNX Runtime, one for LiteRT."""
    few = 10 if quick else 1
    return [
        Case(title="made 0.3 ms net, ONNX", runtime="onnxruntime", warmup=300 // few, runs=2000 // few,
             path=write_convolutions(folder / "small.onnx", channels=16, size=32, layers=4)),
        Case(title="made 3 ms net, ONNX", runtime="onnxruntime", warmup=50 // few, runs=300 // few,
             path=write_convolutions(folder / "large.onnx", channels=40, size=56, layers=4)),
        Case(title="made 1 ms net, TFLite", runtime="litert", warmup=100 // few, runs=800 // few,
             path=write_tflite_convolutions(folder / "small.tflite", channels=24, size=48, layers=4)),
    ]  # fmt: skip


def measure(quick: bool) -> list[Row]:
    """Compare on every model; a runtime that is not installed is left out, with a row that says so."""
    with (
        tempfile.TemporaryDirectory(prefix="boardfit-bench-") as name,
        serving(Path(name) / "store") as agent,
        AgentClient(agent.address, timeout_s=120) as client,
    ):
        missing = {one.name: one.unavailable for one in client.describe().runtimes if one.unavailable}
        chosen, rows = cases(Path(name), quick=quick)
        for case in chosen:
            if case.runtime in missing:
                reason = f"left out: {missing[case.runtime]}"
                rows.append(Row(metric=case.title, value=None, unit="ratio", goal=str(GOAL), reason=reason))
                continue
            no_tool = why_no_tool(case)
            others = Others(agent.pid)
            # The balanced orders repeat after six rounds of three, and after four (or eight, mirrored) of four.
            rounds = 2 if quick else 12 if no_tool else 16
            found = _compare(client, case, rounds, tool=no_tool is None)
            rows += judge(case.title, found, others=others.doubt())
            if case.runtime == "litert" and no_tool is not None:
                metric = f"{case.title}: agent / litert-benchmark"
                rows.append(Row(metric=metric, value=None, unit="ratio", reason=f"left out: {no_tool}"))
        return rows + (_overhead(client, Path(name), 2 if quick else 8) if "onnxruntime" not in missing else [])


def _overhead(client: AgentClient, folder: Path, rounds: int) -> list[Row]:
    """Return what the agent's loop adds to one run, on a net of a few microseconds, where nothing hides it."""
    case = Case(title="smallest net, ONNX", runtime="onnxruntime", warmup=500, runs=5000,
                path=write_convolutions(folder / "smallest.onnx", channels=1, size=1, layers=0))  # fmt: skip
    found = _compare(client, case, rounds, tool=False)
    added, interval = interval_of([one[_AGENT] - one[_BARE] for one in found])
    return [
        Row(metric=f"{case.title}: p50, bare loop", value=median(one[_BARE] for one in found) / 1e3, unit="us"),
        Row(metric=f"{case.title}: agent - bare, per run", value=added, unit="ns", interval=interval),
    ]


def _compare(client: AgentClient, case: Case, rounds: int, *, tool: bool) -> list[tuple[float, ...]]:
    """Return per round the p50 (ns) of the agent, a bare loop, another bare loop, and with `tool` of litert-benchmark."""
    rows = williams_rows(4 if tool else 3)
    balanced = list(chain.from_iterable((row, row[::-1]) for row in rows))
    found: list[tuple[float, ...]] = []
    for number in range(rounds):
        progress(f"{case.title}: round {number + 1} of {rounds}")
        times = [0.0] * len(rows)
        for who in balanced[number % len(balanced)]:
            if who == _AGENT:
                times[who] = agent_p50(client, case)
            else:
                times[who] = tool_figures(case)[0] if who == _TOOL else bare_p50(case)
        found.append(tuple(times))
    return found


def judge(title: str, found: Sequence[tuple[float, ...]], *, others: str | None) -> list[Row]:
    """Return the rows of one model: times, the ratios with their verdicts, and the noise.

    `found` holds per round the p50 (ns) of the agent, a bare loop, another bare loop, and that of litert-benchmark if it was run.
    """
    noise_ratio, noise = _ratio(found, _BARE_AGAIN, _BARE)
    rows = [Row(metric=f"{title}: p50, agent", value=median(one[_AGENT] for one in found) / 1e6, unit="ms")]
    for place, name in ((_BARE, "bare loop"), (_TOOL, "litert-benchmark")):
        if place < len(found[0]):
            ratio, band = _ratio(found, _AGENT, place)
            met, reason = _verdict(band, noise, others)
            rows += [
                Row(metric=f"{title}: p50, {name}", value=median(one[place] for one in found) / 1e6, unit="ms"),
                Row(metric=f"{title}: agent / {name}, {len(found)} pairs", value=ratio, unit="ratio", interval=band,
                    goal=str(GOAL), met=met, reason=reason),
            ]  # fmt: skip
    return [*rows, Row(metric=f"{title}: bare / bare (A/A)", value=noise_ratio, unit="ratio", interval=noise)]


def _ratio(found: Sequence[tuple[float, ...]], above: int, below: int) -> tuple[float, tuple[float, float] | None]:
    """Return the median over rounds of the ratio of two contenders, and its interval."""
    middle, interval = interval_of([math.log(one[above] / one[below]) for one in found])
    return math.exp(middle), None if interval is None else (math.exp(interval[0]), math.exp(interval[1]))


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


BENCHMARK = Benchmark(name="fidelity", about=__doc__ or "", measure=measure)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
