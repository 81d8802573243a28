"""Whether a sweep keeps 200 devices busy, and its memory flat.

Compares: the time of a sweep of 3,000 jobs on 200 agents with the time that the devices themselves need: 15 jobs of 2 s each.
On: this machine; agents without boards in one process (benchmarks.fake_agents: the real service on ports of their own; measuring
    sleeps for exactly 2 s), the real runner in another, its history a new SQLite file on this disk, each commit synchronised.
Fair because: the ideal has no host at all. The figure is from the runner's start to the last job's being told as stored, with 200
    connections, descriptions, leases and first pushes in it, and a tail in which not all devices have work. Memory is what is
    resident of the runner's process, sampled twice a second; growth is from the second tenth of the time to its last (medians).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from benchmarks.fake_fleet import FakeFleet
from benchmarks.processes import Others, processor_ns
from benchmarks.sweep_host import record_of
from benchmarks.sweeps import Arena, audit
from benchmarks.table import Benchmark, Goal, Row, judged, progress

_MB = 1_000_000
_MOST_S = 900.0


def measure(quick: bool) -> list[Row]:
    """Run one sweep to its end."""
    agents, jobs, seconds = (20, 100, 2.0) if quick else (200, 3000, 2.0)
    with tempfile.TemporaryDirectory(prefix="boardfit-bench-") as name:
        folder = Path(name)
        log = folder / "agents.log"
        with FakeFleet(agents, log=log, seconds=seconds, spread=0.0) as fleet:
            arena = Arena.made(folder / "sweep", fleet, jobs=jobs)
            progress(f"{jobs} jobs of {seconds:g} s on {agents} agents")
            fleet_ns = processor_ns(fleet.pid)
            controller = arena.controller()
            others = Others(fleet.pid)  # the controller counts as ours once it has ended
            controller.wait(_MOST_S)
            noise = others.doubt()
            fleet_s = (processor_ns(fleet.pid) - fleet_ns) / 1e9
        record = record_of(*arena.said())
        found = audit(arena.url, arena.sweep_id, record.told, log)
    result = record.results[-1]
    ends = sorted(one.at_s - result["begin_s"] for one in record.told)
    ideal_s = seconds * jobs / agents
    share = ideal_s / ends[-1]
    middle = ends[jobs // 10 : jobs - jobs // 10]
    steady = (len(middle) - 1) / (middle[-1] - middle[0]) * seconds / agents
    goal, enough = Goal(low=90), 100 * share
    growth = _growth([size for _, size in record.memory]) / _MB
    what = f"{jobs} jobs of {seconds:g} s on {agents} agents"
    return [
        judged(f"{what}: share of the ideal rate", enough, "%", goal, doubt=None if goal.holds(enough) else noise),
        Row(
            metric="from the second to the last tenth of the jobs: share of the ideal rate",
            value=100 * steady,
            unit="%",
        ),
        judged(
            "jobs done, each once in the store",
            found.done - found.lost - found.twice,
            "jobs",
            Goal(low=jobs, high=jobs),
        ),
        judged("host process, growth of its memory", growth, "MB", Goal(below=5)),
        Row(metric="host process, most resident memory", value=max(size for _, size in record.memory) / _MB, unit="MB"),
        Row(metric="host process, processor time a job", value=1000 * result["cpu_s"] / jobs, unit="ms"),
        replace(
            Row(metric="all agents' process, processor time a job", value=1000 * fleet_s / jobs, unit="ms"),
            reason=noise and noise.replace("too noisy to tell: ", ""),
        ),
    ]


def _growth(sizes: Sequence[int]) -> float:
    """Return the bytes from the median of the second tenth of the samples to that of the last one."""
    tenth = max(1, len(sizes) // 10)
    return median(sizes[-tenth:]) - median(sizes[tenth : 2 * tenth] or sizes[:1])


BENCHMARK = Benchmark(name="sweep", about=__doc__ or "", measure=measure)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
