"""A controller at work on a sweep, in a process of its own: the real runner on the real store, and what a benchmark has to know.

`create` makes the jobs; `python -m benchmarks.sweep_host STORE-URL INVENTORY NAME` works on them until nothing is left, as
`host sweep` does. Its standard output has a line of JSON for every job whose measurement the runner was told is stored (job,
measurement, device, seconds since the start, by CLOCK_MONOTONIC), written before anything else happens, and every half second one
with the memory; the last one is the result. A reader that dies ends nothing but the lines.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.table import CannotMeasure

_SAMPLE_S = 0.5
ARTIFACTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A line of a controller: what it was told of a finished job. `at_s` is on the machine's monotonic clock."""

    job: int
    measurement: int
    device: str
    at_s: float


@dataclass(slots=True, kw_only=True)
class Record:
    """All that controllers said until now. `memory` is (monotonic seconds, resident bytes)."""

    told: list[Told] = field(default_factory=list)
    memory: list[tuple[float, int]] = field(default_factory=list)
    results: list[dict[str, Any]] = field(default_factory=list)

    def read(self, line: str) -> None:
        """Take a line in; one that a kill has cut is left out."""
        try:
            values = json.loads(line)
        except ValueError:
            return
        if "job" in values:
            self.told.append(Told(**values))
        elif "memory" in values:
            self.memory.append((values["at_s"], values["memory"]))
        else:
            self.results.append(values)


class Controller:
    """Such a process. What it says goes into a file, so that nothing is lost when it is killed."""

    def __init__(self, url: str, inventory: Path, name: str, *, said: Path, options: Sequence[str] = ()) -> None:
        """Start it; its log is beside `said`."""
        command = [sys.executable, "-m", "benchmarks.sweep_host", url, str(inventory), name, *options]
        self.said = said
        self._log = said.with_suffix(".log")
        with said.open("a") as out, self._log.open("a") as errors:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=errors, cwd=said.parent,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)), "GRPC_VERBOSITY": "NONE"},
            )  # fmt: skip
        self.pid = self._process.pid

    def wait(self, timeout_s: float) -> None:
        """Wait for its end. CannotMeasure, with its last words, for a failure or if it takes longer."""
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise CannotMeasure(f"the sweep was not done after {timeout_s:.0f} s; {self._last_words()}") from None
        if code:
            raise CannotMeasure(f"the controller ended with status {code}; {self._last_words()}")

    def running(self) -> bool:
        """Say whether it still runs."""
        return self._process.poll() is None

    def kill(self) -> None:
        """End it by SIGKILL and wait."""
        self._process.kill()
        self._process.wait()

    def _last_words(self) -> str:
        return "its last words: " + (" / ".join(self._log.read_text(errors="replace").splitlines()[-5:]) or "none")


def record_of(*files: Path) -> Record:
    """Return what the controllers said into these files."""
    record = Record()
    for file in files:
        for line in file.read_text().splitlines():
            record.read(line)
    return record


def create(url: str, name: str, devices: Sequence[str], jobs: int, folder: Path, *, seed: int = 0) -> int:
    """Write small files as artifacts and store a sweep of so many jobs, shared evenly by the devices; return its number."""
    from host.results.queue import StoreQueue
    from host.results.store import ResultStore
    from host.sweep.job import NewJob, SweepArtifact

    artifacts = []
    for number in range(ARTIFACTS):
        path = folder / f"net-{number}.onnx"
        path.write_bytes(random.Random(number).randbytes(200_000))
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        artifacts.append(SweepArtifact(name=path.name, path=path, sha256=sha256))
    wanted = [(devices[place % len(devices)], place // len(devices)) for place in range(jobs)]
    order = list(range(jobs))
    random.Random(seed).shuffle(order)
    new = [
        NewJob(
            key=f"{device}/{turn}",
            position=position,
            artifact=artifacts[turn % ARTIFACTS],
            device=device,
            options={"threads": 4},
            repeat=turn // ARTIFACTS,
        )
        for (device, turn), position in zip(wanted, order, strict=True)
    ]
    with ResultStore.open(url) as store, StoreQueue(store) as queue:
        return queue.create(name, new, seed=seed, document={}).id


def main(arguments: Sequence[str] | None = None) -> int:
    """Work on a sweep until nothing is left."""
    from host.fleet.devices import open_device
    from host.fleet.inventory import Inventory
    from host.results.queue import StoreQueue
    from host.results.store import ResultStore
    from host.sweep.events import JobDone, SweepEvent
    from host.sweep.limits import Limits
    from host.sweep.reactions import Backoff
    from host.sweep.runner import SweepRunner
    from host.sweep.surroundings import Timing

    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep_host")
    parser.add_argument("url")
    parser.add_argument("inventory", type=Path)
    parser.add_argument("name")
    parser.add_argument("--at-once", type=int, default=200)
    parser.add_argument("--attempts", type=int, default=4)
    parser.add_argument("--hasty", action="store_true", help="short times to live and waits, as hosts are killed often")
    options = parser.parse_args(arguments)
    timing = Timing()
    if options.hasty:
        timing = Timing(
            ttl_s=6.0,
            lease_ttl_s=4.0,
            retry=Backoff(first_s=0.5, longest_s=2.0),
            reopen=Backoff(first_s=0.5, longest_s=2.0),
            aside=Backoff(first_s=1.0, longest_s=4.0),
        )
    inventory = Inventory(options.inventory)
    out = sys.stdout.fileno()

    def say(**values: Any) -> None:
        os.write(out, (json.dumps(values) + "\n").encode())

    def tell(event: SweepEvent) -> None:
        if isinstance(event, JobDone):
            say(job=event.job, measurement=event.measurement_id, device=event.device, at_s=time.monotonic())

    ended = threading.Event()

    def sample() -> None:
        page = os.sysconf("SC_PAGE_SIZE")
        while not ended.wait(_SAMPLE_S):
            say(memory=int(Path("/proc/self/statm").read_text().split()[1]) * page, at_s=time.monotonic())

    with ResultStore.open(options.url) as store, StoreQueue(store) as queue:
        runner = SweepRunner(
            queue,
            queue.find(options.name),
            Limits(devices_at_once=options.at_once, attempts=options.attempts),
            on_event=tell,
            open_device=lambda name: open_device(name, inventory=inventory),
            timing=timing,
        )
        begin, begin_cpu = time.monotonic(), time.process_time()
        sampler = threading.Thread(target=sample, daemon=True)
        sampler.start()
        result = runner.run()
        ended.set()
        sampler.join()
        say(
            begin_s=begin,
            end_s=time.monotonic(),
            cpu_s=time.process_time() - begin_cpu,
            retried=result.retried,
            dropped=result.dropped,
            counts={state: result.count(state) for state in ("waiting", "running", "done", "failed", "skipped")},
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
