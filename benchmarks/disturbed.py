"""How far a busy machine moves the figure: the p50 under a busy loop on every core over the p50 of the quiet machine.

Compares: the agent's median over the runs that it marks as undisturbed, and beside it what others would report on the same busy
    machine: the agent's median over all runs, a bare loop's (benchmarks.bare_loop), and the median and the average of
    `litert-benchmark` from the ai-edge-litert wheel, which rounds to 0.01 ms.
On: five networks that people use (benchmarks.real_models) whose runs are shorter than a time slice of the scheduler, 4 ms at
    250 Hz; and one that is longer, of which a busy machine preempts every run, so that the agent gives no such median.
Fair because: all contenders have the same file, runtime, thread and numbers of runs, each in a process and session of its own
    (Linux shares processors out by sessions), as have the busy loops, one of them pinned to each core. A round has both
    conditions, in the order quiet, busy, busy, quiet, so that drift cancels; in a condition the contenders take turns in a
    balanced order. What is judged is the median over rounds of the logarithm of busy over quiet within a round, with its
    95 % order-statistics interval; the goal for the undisturbed median is an interval inside 0.97 - 1.03.
"""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import median

from benchmarks.agents import serving
from benchmarks.busy import busy_cores
from benchmarks.contenders import Case, agent_measurement, bare_p50, real_case, tool_figures, why_no_tool
from benchmarks.fidelity import made_cases
from benchmarks.processes import Others
from benchmarks.real_models import (
    FACE_DETECTION,
    FACE_LANDMARKS,
    HAND_CROP,
    HAND_LANDMARKS,
    IRIS_LANDMARKS,
    TEXT_DIRECTION,
)
from benchmarks.table import Benchmark, CannotMeasure, Goal, Row, interval_of, judged, progress
from device_agent.contract.disturbance import enough_undisturbed
from device_agent.worker.order import williams_rows
from host.fleet.client import AgentClient

GOAL = Goal(low=0.97, high=1.03)
#: The first five are shorter than a time slice, the last one is longer.
_REAL = (TEXT_DIRECTION, HAND_CROP, FACE_DETECTION, FACE_LANDMARKS, IRIS_LANDMARKS, HAND_LANDMARKS)
_UNDISTURBED, _ALL, _BARE = "agent, undisturbed", "agent, all runs", "bare loop"
_TOOL, _TOOL_MEAN = "litert-benchmark, median", "litert-benchmark, average"
_TIME_S = 0.5
_ROUNDS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What the contenders said in one condition of one round: latency in ns by name, None where one has no figure."""

    latency_ns: dict[str, float | None]
    undisturbed_share: float


def cases(folder: Path, *, quick: bool) -> tuple[list[Case], list[Row]]:
    """Return what to compare on, and a row that says so if the real models cannot be had. A quick look takes made nets."""
    made = made_cases(folder, quick=False)
    if quick:
        return [made[0], made[2]], []
    try:
        return [real_case(one, folder, time_s=_TIME_S) for one in _REAL], []
    except CannotMeasure as error:
        reason = f"{error}; compared on made nets instead"
        return made, [Row(metric="real models", value=None, unit="busy / quiet", goal=str(GOAL), reason=reason)]


def measure(quick: bool) -> list[Row]:
    """Compare on every model; a runtime that is not installed is left out, with a row that says so."""
    rounds = 1 if quick else _ROUNDS
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
                rows.append(Row(metric=case.title, value=None, unit="busy / quiet", goal=str(GOAL), reason=reason))
                continue
            others = Others(agent.pid)
            found = _compare(client, case, rounds)
            rows += judge(case.title, found, others=others.doubt())
        return rows


def _compare(client: AgentClient, case: Case, rounds: int) -> list[tuple[Look, Look]]:
    """Return per round what was seen on the quiet and on the busy machine."""
    contenders = [_UNDISTURBED, _BARE] + ([] if why_no_tool(case) else [_TOOL])
    rows = williams_rows(len(contenders))
    balanced = list(chain.from_iterable((row, row[::-1]) for row in rows))
    found: list[tuple[Look, Look]] = []
    for number in range(rounds):
        progress(f"{case.title}: round {number + 1} of {rounds}")
        order = [contenders[place] for place in balanced[number % len(balanced)]]
        looks: dict[bool, Look] = {}
        for busy in (False, True) if number % 2 == 0 else (True, False):
            with busy_cores() if busy else nullcontext():
                looks[busy] = _look(client, case, order)
        found.append((looks[False], looks[True]))
    return found


def _look(client: AgentClient, case: Case, order: Sequence[str]) -> Look:
    times: dict[str, float | None] = {}
    share = 0.0
    for who in order:
        if who == _UNDISTURBED:
            measurement = agent_measurement(client, case)
            every, kept = measurement.latencies_ns(), measurement.latencies_ns(undisturbed=True)
            share = len(kept) / len(every)
            times[_ALL] = median(every)
            times[_UNDISTURBED] = median(kept) if enough_undisturbed(len(kept), len(every)) else None
        elif who == _TOOL:
            times[_TOOL], times[_TOOL_MEAN] = tool_figures(case)
        else:
            times[_BARE] = bare_p50(case)
    return Look(latency_ns=times, undisturbed_share=share)


def judge(title: str, found: Sequence[tuple[Look, Look]], *, others: str | None) -> list[Row]:
    """Return the rows of one model from (quiet, busy) per round: the quiet p50, and busy over quiet for each contender."""
    quiet = [look.latency_ns[_UNDISTURBED] or look.latency_ns[_ALL] or math.nan for look, _ in found]
    share = median(busy.undisturbed_share for _, busy in found)
    rows = [
        Row(metric=f"{title}: p50 while quiet, agent", value=median(quiet) / 1e6, unit="ms"),
        Row(metric=f"{title}: runs undisturbed while busy", value=100 * share, unit="%"),
    ]
    for who in (_UNDISTURBED, _ALL, _BARE, _TOOL, _TOOL_MEAN):
        pairs = [_pair(who, before, during) for before, during in found if who in during.latency_ns]
        ratios = [pair for pair in pairs if pair is not None]
        if pairs:
            rows.append(
                _row(f"{title}: {who}", ratios, len(pairs), goal=GOAL if who == _UNDISTURBED else None, others=others)
            )
    return rows


def _pair(who: str, before: Look, during: Look) -> float | None:
    """Return the logarithm of busy over quiet. Where the quiet machine disturbed most runs too, all of its runs are the base."""
    base, value = before.latency_ns[who], during.latency_ns[who]
    if who == _UNDISTURBED and base is None:
        base = before.latency_ns[_ALL]
    return None if base is None or value is None else math.log(value / base)


def _row(metric: str, ratios: Sequence[float], rounds: int, *, goal: Goal | None, others: str | None) -> Row:
    """Return a row of busy over quiet. Rounds without a figure are said, and leave the verdict open when they are most."""
    if 2 * len(ratios) <= rounds:
        lacking = rounds - len(ratios)
        reason = f"too few runs were undisturbed in {lacking} of {rounds} rounds: the agent gives no such median then"
        return Row(
            metric=metric, value=None, unit="busy / quiet", goal=None if goal is None else str(goal), reason=reason
        )
    middle, interval = interval_of(ratios)
    value = math.exp(middle)
    band = None if interval is None else (math.exp(interval[0]), math.exp(interval[1]))
    if goal is None:
        return Row(metric=metric, value=value, unit="busy / quiet", interval=band)
    if band is None:
        few = f"too few rounds with a figure for an interval ({len(ratios)}); run without --quick"
        return judged(metric, value, "busy / quiet", goal, doubt=few)
    doubt = None if all(map(goal.holds, band)) else others
    return judged(metric, value, "busy / quiet", goal, interval=band, doubt=doubt)


BENCHMARK = Benchmark(name="disturbed", about=__doc__ or "", measure=measure)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
