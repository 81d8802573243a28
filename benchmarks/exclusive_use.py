"""Two hosts never use one board at the same time, whatever is killed when.

Several host processes want one agent's device for themselves, again and again, and one measures without a lease where it may. All
of them, and the agent, are killed (SIGKILL) at random, seeded moments, every other time whoever has the lease; some are stopped
(SIGSTOP) until their lease is over, and then go on with it. Leases last one second. Real workers measure, with a runtime that
writes down when it runs. Two independent records are judged afterwards, both by the kernel's monotonic clock:

- the workers' own: from its first stamp to its last no two worker processes may overlap, also across restarts of the agent;
- the hosts': from the moment a lease was given to the last call that succeeded under it nobody else's worker may have run.

The hosts that live at the end must all be served. Before, a model of the rules is run against the lease keeper in memory.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import exclusive_hosts
from benchmarks.agents import ServingAgent, free_port
from benchmarks.exclusive_runtime import LOG
from benchmarks.lease_world import random_steps
from benchmarks.table import Benchmark, CannotMeasure, Goal, Row, judged, progress

HOSTS = 5
#: In its quick form, too, this one kills the agent once and stops a host once.
SEED = 30
#: Of a hundred acts, so many hit the agent, and so many stop a host for a while; the others kill hosts.
AGENT_PERCENT, STOP_PERCENT = 8, 12
#: What is waited for before something is killed, and the longest time after that: a worker that runs, a lease, nothing.
MOMENTS = (("workers.log", 0.3), ("workers.log", 0.3), ("workers.log", 0.05), ("hosts.log", 0.6), (None, 1.0))
#: Where nothing of the kind happens for so long, the moment has come all the same.
MOMENT_S = 4.0
_SERVED_S = 120.0


@dataclass(slots=True)
class Trial:
    """What was done, and the folder with the records of what came of it."""

    folder: Path
    host_kills: int = 0
    holder_kills: int = 0
    agent_kills: int = 0
    stops: int = 0
    seconds: float = 0.0
    unserved: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Span:
    """Somebody's use of the device, from `start_ns` to `end_ns`."""

    who: str
    start_ns: int
    end_ns: int


def measure(quick: bool) -> list[Row]:
    """Run both parts and return the rows."""
    steps = 5_000 if quick else 200_000
    progress(f"{steps} random steps in memory")
    start = time.perf_counter()
    world = random_steps(seed=5, steps=steps)
    rows = [
        Row(metric="in memory: steps against a model of the rules", value=steps, unit="steps"),
        Row(metric="in memory: leases given", value=world.given, unit="leases"),
        Row(metric="in memory: time", value=time.perf_counter() - start, unit="s"),
    ]
    kills, hosts = (5, 3) if quick else (250, HOSTS)
    with tempfile.TemporaryDirectory(prefix="boardfit-exclusive-") as folder:
        trial = run_trial(Path(folder), kills=kills, seed=SEED, hosts=hosts)
        return rows + _rows(trial)


def run_trial(folder: Path, *, kills: int, seed: int, hosts: int = HOSTS) -> Trial:
    """Kill at random until so many are dead, then see whether all that live are served."""
    os.environ[LOG] = str(folder / "workers.log")
    os.environ["BOARDFIT_RUNTIMES"] = "stamping=benchmarks.exclusive_runtime:Stamping"
    trial, rng, started = Trial(folder), random.Random(seed), time.monotonic()
    port = free_port()
    agent = ServingAgent(folder / "store", port=port)
    crew = _Crew(agent.address, folder, seed, hosts)
    try:
        while _holder(folder) is None:  # the agent still looks for its runtimes
            time.sleep(0.05)
        while trial.host_kills + trial.agent_kills < kills:
            _moment(folder, rng)
            crew.wake()
            dice, victim, at_holder, holder = (
                rng.randrange(100),
                rng.randrange(hosts),
                rng.random() < 0.5,
                _holder(folder),
            )
            victim = holder if at_holder and holder is not None else victim
            if dice < AGENT_PERCENT:
                agent.kill()
                time.sleep(rng.choice((0.0, 0.3)))
                agent = ServingAgent(folder / "store", port=port)
                trial.agent_kills += 1
            elif dice < AGENT_PERCENT + STOP_PERCENT:
                crew.stop(victim, rng.uniform(1.2, 2.5))
                trial.stops += 1
            else:
                trial.holder_kills += holder == victim
                crew.kill(victim)
                trial.host_kills += 1
            done = trial.host_kills + trial.agent_kills
            if done % 50 == 0:
                progress(f"{done} of {kills} killed")
        crew.wake(all_of_them=True)
        trial.unserved = tuple(crew.unserved(_lines(folder / "hosts.log")))
    finally:
        crew.end()
        agent.stop()
    trial.seconds = time.monotonic() - started
    return trial


def _moment(folder: Path, rng: random.Random) -> None:
    """Wait for one of MOMENTS."""
    name, longest_s = rng.choice(MOMENTS)
    delay_s, end = rng.uniform(0, longest_s), time.monotonic() + MOMENT_S
    if name is not None:
        size = _size(folder / name)
        while _size(folder / name) == size and time.monotonic() < end:
            time.sleep(0.005)
    time.sleep(delay_s)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


class _Crew:
    """The host processes. Forked, not started anew: an import of gRPC per kill would be most of the work."""

    def __init__(self, address: str, folder: Path, seed: int, count: int) -> None:
        self._context = multiprocessing.get_context("fork")
        self._address, self._folder, self._seed = address, folder, seed
        self._lives = [0] * count
        self._stopped: dict[int, float] = {}
        self._hosts = [self._start(number) for number in range(count)]

    def _start(self, number: int) -> Any:
        life = self._lives[number]
        arguments = (self._address, number, life, self._folder, f"{self._seed}-{number}-{life}")
        process = self._context.Process(target=exclusive_hosts.work, args=arguments, daemon=True)
        process.start()
        return process

    def kill(self, number: int) -> None:
        """Kill a host and start another in its place."""
        self._end(number)
        self._lives[number] += 1
        self._hosts[number] = self._start(number)

    def stop(self, number: int, seconds: float) -> None:
        """Let a host stand still for so long."""
        os.kill(self._hosts[number].pid, signal.SIGSTOP)
        self._stopped[number] = time.monotonic() + seconds

    def wake(self, *, all_of_them: bool = False) -> None:
        """Let those go on whose time is up."""
        for number, end in list(self._stopped.items()):
            if all_of_them or time.monotonic() >= end:
                del self._stopped[number]
                with suppress(ProcessLookupError):
                    os.kill(self._hosts[number].pid, signal.SIGCONT)

    def unserved(self, lines: Callable[[], Iterable[list[str]]]) -> list[int]:
        """Wait until every host with a lease has measured once more, and return those that have not in two minutes."""
        now_ns, end = time.monotonic_ns(), time.monotonic() + _SERVED_S
        waiting = set(range(1, len(self._hosts)))
        while waiting and time.monotonic() < end:
            time.sleep(0.2)
            for line in lines():
                if line[0] == "done" and int(line[3]) > now_ns:
                    number, life, _ = map(int, line[1].split("."))
                    if life == self._lives[number]:
                        waiting.discard(number)
        return sorted(waiting)

    def end(self) -> None:
        """Kill them all."""
        for number in range(len(self._hosts)):
            self._end(number)

    def _end(self, number: int) -> None:
        self._stopped.pop(number, None)
        self._hosts[number].kill()
        self._hosts[number].join()


def _lines(path: Path) -> Callable[[], list[list[str]]]:
    def read() -> list[list[str]]:
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    return read


def _holder(folder: Path) -> int | None:
    leases = [line for line in _lines(folder / "hosts.log")() if line[0] == "lease"]
    return int(leases[-1][1].split(".")[0]) if leases else None


def worker_spans(folder: Path) -> list[Span]:
    """Return every worker's time by its own stamps, in the order of their beginnings. `who` is the turn of a host."""
    spans: dict[tuple[str, str], tuple[int, int]] = {}
    for tag, process, stamp in _lines(folder / "workers.log")():
        start, end = spans.get((tag, process), (int(stamp), int(stamp)))
        spans[(tag, process)] = (min(start, int(stamp)), max(end, int(stamp)))
    found = (Span(tag, start, end) for (tag, _), (start, end) in spans.items())
    return sorted(found, key=lambda span: span.start_ns)


def lease_spans(folder: Path) -> list[Span]:
    """Return every lease by its host's record: from when it was given to the last call that succeeded under it."""
    ends: dict[str, tuple[int, int]] = {}
    for line in _lines(folder / "hosts.log")():
        if line[0] == "done":
            ends[line[1]] = (int(line[2]), max(int(line[3]), ends.get(line[1], (0, 0))[1]))
    return sorted((Span(tag, *span) for tag, span in ends.items()), key=lambda span: span.start_ns)


def overlaps(spans: list[Span]) -> list[tuple[Span, Span]]:
    """Return the pairs of uses, one after the other in time, of which the second began before the first was over."""
    found = []
    last: Span | None = None
    for span in sorted(spans, key=lambda one: one.start_ns):
        if last is not None and span.start_ns < last.end_ns:
            found.append((last, span))
        if last is None or span.end_ns > last.end_ns:
            last = span
    return found


def intrusions(leases: list[Span], workers: list[Span]) -> list[tuple[Span, Span]]:
    """Return the workers of somebody else that ran within the time of a lease."""
    return [
        (lease, worker)
        for lease in leases
        for worker in workers
        if worker.who != lease.who and worker.start_ns < lease.end_ns and lease.start_ns < worker.end_ns
    ]


def _rows(trial: Trial) -> list[Row]:
    workers, leases = worker_spans(trial.folder), lease_spans(trial.folder)
    if not workers or not leases:
        raise CannotMeasure("no host got to measure anything; see what `device-agent serve` says on this machine")
    lines = _lines(trial.folder / "hosts.log")()
    errors = Counter(line[1] for line in lines if line[0] == "error")
    given = [(int(line[2]), int(line[3])) for line in lines if line[0] == "lease"]
    progress(f"errors that hosts met: {dict(errors)}")
    none = Goal(low=0, high=0)
    idle_s = [(after.start_ns - before.end_ns) / 1e9 for before, after in pairwise(workers)]
    return [
        Row(metric="kills of hosts", value=trial.host_kills, unit="kills"),
        Row(metric="kills of hosts: of whoever got the last lease", value=trial.holder_kills, unit="kills"),
        Row(metric="kills of the agent", value=trial.agent_kills, unit="kills"),
        Row(metric="hosts stopped until their lease was over", value=trial.stops, unit="stops"),
        Row(metric="leases given", value=len(given), unit="leases"),
        Row(metric="leases lost that their host heard of", value=errors["LeaseLost"], unit="leases"),
        Row(metric="workers that ran", value=len(workers), unit="workers"),
        Row(metric="workers that ran without a lease", value=_bare(workers), unit="workers"),
        judged("pairs of workers that overlap", len(overlaps(workers)), "pairs", none),
        judged("pairs of leases that overlap", len(overlaps(leases)), "pairs", none),
        judged("others' workers within a lease", len(intrusions(leases, workers)), "workers", none),
        judged("hosts not served at the end", len(trial.unserved), "hosts", none),
        Row(metric="wait for a lease, median", value=median((end - start) / 1e9 for start, end in given), unit="s"),
        Row(metric="wait for a lease, longest", value=max((end - start) / 1e9 for start, end in given), unit="s"),
        Row(metric="device unused between two workers, median", value=median(idle_s or [0.0]), unit="s"),
        Row(metric="device unused between two workers, longest", value=max(idle_s, default=0.0), unit="s"),
        Row(metric="time", value=trial.seconds, unit="s"),
    ]


def _bare(workers: list[Span]) -> int:
    return sum(span.who.split(".")[0] == str(exclusive_hosts.BARE) for span in workers)


BENCHMARK = Benchmark(name="exclusive_use", about=__doc__ or "", measure=measure)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
