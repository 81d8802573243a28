"""What a second controller adds to a sweep that both share in PostgreSQL.

Compares: two controllers at work on one sweep, each allowed 50 devices at a time, with one controller that is allowed 50.
On: this machine; 100 agents without boards (benchmarks.fake_agents) whose measuring sleeps for 2 s, controllers and agents in
    processes of their own, and a PostgreSQL of the distribution's packages that is started for this (.ci/postgres).
Fair because: a sweep has as many jobs for each 50 devices that may be at work. Rates are of the jobs between the first and
    the last tenth that were told as stored, so that starts and tails are left out of both. What is in the store is compared with
    what both were told and with the agents' own log of what was measured.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.fake_fleet import FakeFleet
from benchmarks.processes import Others
from benchmarks.sweep_host import record_of
from benchmarks.sweeps import Arena, Audit, audit
from benchmarks.table import Benchmark, CannotMeasure, Goal, Row, judged, progress

_SERVER = Path(__file__).parents[1] / ".ci" / "postgres"
#: The URL of a server that runs already, with a database that may be filled.
VARIABLE = "BOARDFIT_BENCHMARK_POSTGRES"
_MOST_S = 900.0
_NONE = Goal(low=0, high=0)


def measure(quick: bool) -> list[Row]:
    """Run a sweep with one controller, then one with two."""
    agents, at_once, turns = (8, 4, 8) if quick else (100, 50, 12)
    with tempfile.TemporaryDirectory(prefix="boardfit-bench-") as name, _postgres() as url:
        folder = Path(name)
        log = folder / "agents.log"
        with FakeFleet(agents, log=log, seconds=2.0, spread=0.05) as fleet:
            others = Others(fleet.pid)
            one, first = _sweep(
                folder / "one", fleet, url, controllers=1, at_once=at_once, jobs=at_once * turns, log=log
            )
            two, second = _sweep(
                folder / "two", fleet, url, controllers=2, at_once=at_once, jobs=agents * turns, log=log
            )
            noise = others.doubt()
    goal, ratio = Goal(low=1.8), two / one
    jobs = (at_once + agents) * turns
    wrong = [found.twice + found.shared + found.strange + found.lost for found in (first, second)]
    return [
        Row(metric=f"one controller, {at_once} devices at a time", value=one, unit="jobs/s"),
        Row(metric=f"two controllers, {at_once} devices each", value=two, unit="jobs/s"),
        judged("rate of two over that of one", ratio, "x", goal, doubt=None if goal.holds(ratio) else noise),
        judged("jobs done in both sweeps", first.done + second.done, "jobs", Goal(low=jobs, high=jobs)),
        judged("lost, stored twice, or never measured", sum(wrong), "measurements", _NONE),
    ]


def _sweep(
    folder: Path, fleet: FakeFleet, url: str, *, controllers: int, at_once: int, jobs: int, log: Path
) -> tuple[float, Audit]:
    """Return the rate (jobs a second) of a sweep, and what the store says of it."""
    progress(f"{jobs} jobs for {controllers} of {at_once} devices each")
    arena = Arena.made(folder, fleet, jobs=jobs, url=url)
    working = [arena.controller(number, "--at-once", str(at_once)) for number in range(controllers)]
    for controller in working:
        controller.wait(_MOST_S)
    record = record_of(*arena.said())
    ends = sorted(one.at_s for one in record.told)
    middle = ends[len(ends) // 10 : len(ends) - len(ends) // 10]
    return (len(middle) - 1) / (middle[-1] - middle[0]), audit(arena.url, arena.sweep_id, record.told, log)


@contextmanager
def _postgres() -> Iterator[str]:
    """Yield the URL of an empty database, on a server of its own unless the environment names one."""
    if VARIABLE in os.environ:
        yield os.environ[VARIABLE]
        return
    with tempfile.TemporaryDirectory(prefix="boardfit-pg-") as name:
        Path(name).chmod(0o755)
        server = Path(name) / "server"
        done = subprocess.run([str(_SERVER), "start", str(server)], capture_output=True, text=True)
        if done.returncode:
            last = (done.stderr.strip() or "no message").splitlines()[-1]
            raise CannotMeasure(f"it needs PostgreSQL, or {VARIABLE} with the URL of a server: {last}")
        try:
            yield done.stdout.strip().splitlines()[-1]
        finally:
            subprocess.run([str(_SERVER), "stop", str(server)], capture_output=True)


BENCHMARK = Benchmark(name="controllers", about=__doc__ or "", measure=measure)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
