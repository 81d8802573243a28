"""Whether a sweep loses or doubles anything when calls fail, agents die and the host is killed.

Compares: what the controllers were told as stored, and what the agents' own log says was measured, with what is in the store.
On: this machine; 3,000 jobs of 2 s on 200 agents without boards (benchmarks.fake_agents). 5 % of all calls fail with an error
    that may pass, measurements at their start, midway, or when all is measured and nothing was told. Every 2 s an agent is killed
    and comes back 4 s later with its artifacts and without its leases. The host's process is killed (SIGKILL) twice, when a third
    and two thirds of the jobs are done, and another goes on with the same history (SQLite).
Fair because: a job counts as acknowledged when the runner was told that it is stored, written down in a file by a system call of
    its own before anything else, which a kill cannot undo. Every measurement has a first run that began at another nanosecond, so
    one that was stored twice, or made up, is found by its raw samples.
"""

from __future__ import annotations

import random
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.fake_fleet import FakeFleet
from benchmarks.sweep_host import Controller, record_of
from benchmarks.sweeps import Arena, audit
from benchmarks.table import Benchmark, CannotMeasure, Goal, Row, judged, progress

_MOST_S = 900.0
_KILL_EVERY_S, _DEAD_S = 2.0, 4.0
_NONE = Goal(low=0, high=0)


def measure(quick: bool) -> list[Row]:
    """Run one sweep to its end through all of this."""
    agents, jobs, seconds, kills = (20, 100, 1.0, 2) if quick else (200, 3000, 2.0, 2)
    with tempfile.TemporaryDirectory(prefix="boardfit-bench-") as name:
        folder = Path(name)
        log = folder / "agents.log"
        with FakeFleet(agents, log=log, seconds=seconds, failing=0.05) as fleet:
            arena = Arena.made(folder / "sweep", fleet, jobs=jobs)
            with _Reaper(fleet) as reaper:
                _work(arena, kills)
            record = record_of(*arena.said())
            found = audit(arena.url, arena.sweep_id, record.told, log)
        measured = len(log.read_text().splitlines())
    acknowledged = len({one.job for one in record.told})
    return [
        judged("jobs done, of those asked for", found.done, "jobs", Goal(low=jobs, high=jobs)),
        Row(metric="acknowledged to a controller", value=acknowledged, unit="jobs"),
        judged("acknowledged and not in the store", found.lost, "jobs", _NONE),
        judged("stored more than once", found.twice + found.shared, "measurements", _NONE),
        judged("stored and never measured", found.strange, "measurements", _NONE),
        judged("acknowledged twice", len(record.told) - acknowledged, "jobs", _NONE),
        Row(metric="given up", value=found.failed, unit="jobs"),
        Row(metric="measurements made by agents, those without an answer included", value=measured, unit=""),
        Row(metric="agents killed and restarted", value=reaper.killed, unit="times"),
        Row(metric="host killed", value=kills, unit="times"),
    ]


def _work(arena: Arena, kills: int) -> None:
    """Let controllers work one after another; all but the last are killed."""
    for number in range(kills + 1):
        controller = arena.controller(number, "--hasty", "--attempts", "20")
        if number == kills:
            controller.wait(_MOST_S)
            return
        _kill_at(controller, arena, arena.jobs * (number + 1) // (kills + 1))


def _kill_at(controller: Controller, arena: Arena, done: int) -> None:
    until = time.monotonic() + _MOST_S
    while len(record_of(*arena.said()).told) < done:
        if not controller.running() or time.monotonic() > until:
            controller.wait(0.1)
            raise CannotMeasure("the sweep was done before the host was to be killed")
        time.sleep(0.2)
    controller.kill()
    progress(f"host killed after {len(record_of(*arena.said()).told)} jobs")


class _Reaper:
    """Kills an agent every now and then and brings it back, from a thread of its own."""

    def __init__(self, fleet: FakeFleet) -> None:
        self._fleet, self._random = fleet, random.Random(7)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.killed = 0

    def __enter__(self) -> _Reaper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        dead: list[tuple[float, int]] = []
        while not self._ended.wait(_KILL_EVERY_S):
            now = time.monotonic()
            while dead and dead[0][0] <= now:
                self._fleet.order("restart", dead.pop(0)[1])
            victim = self._random.randrange(len(self._fleet.addresses))
            if victim not in [number for _, number in dead]:
                self._fleet.order("kill", victim)
                dead.append((now + _DEAD_S, victim))
                self.killed += 1


BENCHMARK = Benchmark(name="faults", about=__doc__ or "", measure=measure)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
