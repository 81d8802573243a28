"""What the benchmarks of sweeps share: a fleet with its list of devices and its store, and what the store says afterwards."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.fake_fleet import FakeFleet
from benchmarks.sweep_host import Controller, Told, create

NAME = "benchmark"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """A sweep ready to be worked on: its folder, its agents, the file with their names, and where it is stored."""

    folder: Path
    fleet: FakeFleet
    inventory: Path
    url: str
    jobs: int
    sweep_id: int

    @classmethod
    def made(cls, folder: Path, fleet: FakeFleet, *, jobs: int, url: str | None = None) -> Arena:
        """Name the agents and store a sweep of so many jobs, shared evenly, in a history of its own or at `url`."""
        from host.fleet.inventory import Inventory, RegisteredDevice

        folder.mkdir(exist_ok=True)
        names = [f"board-{place:03}" for place in range(len(fleet.addresses))]
        inventory = folder / "devices.json"
        Inventory(inventory).put(
            RegisteredDevice(name=name, address=address) for name, address in zip(names, fleet.addresses, strict=True)
        )
        url = url or f"sqlite:///{folder / 'history.sqlite'}"
        number = create(url, NAME, names, jobs, folder)
        return cls(folder=folder, fleet=fleet, inventory=inventory, url=url, jobs=jobs, sweep_id=number)

    def controller(self, number: int = 0, *options: str) -> Controller:
        """Start a controller on the sweep."""
        said = self.folder / f"said-{number}.txt"
        return Controller(self.url, self.inventory, f"#{self.sweep_id}", said=said, options=options)

    def said(self) -> list[Path]:
        """Return the files of all controllers so far."""
        return sorted(self.folder.glob("said-*.txt"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """The store against what controllers were told and what agents did. All but `done` and `failed` ought to be 0.

    `lost` were told as done and are not in the store as told. `twice` counts measurements beyond one a job. `strange` are stored
    and in no agent's log, `shared` are stored twice from one measurement of an agent.
    """

    done: int
    failed: int
    unfinished: int
    lost: int
    twice: int
    strange: int
    shared: int


def audit(url: str, sweep_id: int, told: Sequence[Told], agents_log: Path) -> Audit:
    """Read the whole sweep from the store, raw samples included, and compare."""
    from sqlalchemy import select

    from host.results import models
    from host.results.queue import StoreQueue
    from host.results.samples import unpack_runs
    from host.results.store import ResultStore
    from host.sweep.job import JobState

    with ResultStore.open(url) as store, StoreQueue(store) as queue:
        jobs = {job.id: job for job in queue.jobs(sweep_id)}
        lines = models.MeasuredArtifact
        query = (
            select(lines.measurement_id, lines.device_id, lines.sha256, models.Measurement.runs)
            .join(models.Measurement, models.Measurement.id == lines.measurement_id)
            .where(lines.sweep_id == sweep_id)
        )
        with store.engine.connect() as connection:
            stored = {
                row.measurement_id: (row.device_id, row.sha256, unpack_runs(row.runs)[0].start_ns)
                for row in connection.execute(query)
            }
    measured = set()
    for line in agents_log.read_text().splitlines():
        device, sha256, start_ns, _, _ = json.loads(line)
        measured.add((device, sha256, start_ns))
    states = Counter(job.state for job in jobs.values())
    done = {job.measurement_id for job in jobs.values() if job.state is JobState.DONE}
    return Audit(
        done=states[JobState.DONE],
        failed=states[JobState.FAILED] + states[JobState.SKIPPED],
        unfinished=states[JobState.WAITING] + states[JobState.RUNNING],
        lost=sum(
            one.job not in jobs or jobs[one.job].measurement_id != one.measurement or one.measurement not in stored
            for one in told
        ),
        twice=len(set(stored) - done) + states[JobState.DONE] - len(done),
        strange=sum(one not in measured for one in stored.values()),
        shared=len(stored) - len(set(stored.values())),
    )
