"""The jobs of sweeps in the database of the history: host.sweep.queue.JobQueue on SQLite and on PostgreSQL.

Who may do what is decided by rows: a device of a sweep belongs to one controller, a job's claim to whoever has its newest token.
In PostgreSQL a row is locked while it is decided about, so that several controllers share a sweep. On SQLite one process works on
a sweep at a time, and one thread of it writes for all (host.results.group_commit).

A claim that ran out is taken away when somebody next looks for work, not before: until then a result that comes late is still
welcome. Nobody else can have it meanwhile.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from types import TracebackType
from typing import Any, TypeVar

from sqlalchemy import Connection, insert, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from device_agent.contract.device import DeviceInfo
from device_agent.contract.measurement import Measurement
from host.results import models
from host.results.claims import Claims
from host.results.controllers import Controllers
from host.results.database import is_refusal, refusal
from host.results.group_commit import GroupWriter
from host.results.progress import Progress, job_of, sweep_of
from host.results.store import ResultStore
from host.results.writing import PreparedMeasurement
from host.sweep.job import Claim, DeviceProgress, Job, JobState, NewJob, Sweep
from host.sweep.queue import JobQueue, UnknownSweep

T = TypeVar("T")
#: PostgreSQL: two transactions waited for each other, or one saw what another changed. The server asks to repeat it.
_REPEAT = ("40001", "40P01")
#: How often something is tried again on a connection that broke, or that the server asked to repeat, and after what pauses.
_PAUSES_S = (0.0, 0.2, 1.0, 3.0)
_log = logging.getLogger(__name__)


class StoreQueue(JobQueue):
    """The queue of an open history. Close it before the history."""

    def __init__(self, store: ResultStore, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._engine = store.engine
        self._sleep = sleep
        self._alone = self._engine.dialect.name == "sqlite"
        self._writer = GroupWriter(self._engine) if self._alone else None

    def close(self) -> None:
        """Finish what is being written."""
        if self._writer is not None:
            self._writer.close()

    def __enter__(self) -> StoreQueue:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def create(self, name: str, jobs: Sequence[NewJob], *, seed: int, document: Mapping[str, Any]) -> Sweep:
        """Store a sweep with all its jobs, waiting. ValueError for two jobs of one key."""
        keys = {job.key for job in jobs}
        if len(keys) != len(jobs):
            double = sorted({job.key for job in jobs if sum(other.key == job.key for other in jobs) > 1})
            raise ValueError(f"two jobs of a sweep have the key {double[0]!r}")
        created_at = datetime.now(timezone.utc)
        columns = {
            "uuid": uuid.uuid4().hex,
            "name": name,
            "created_at": created_at,
            "seed": seed,
            "document": dict(document),
        }
        devices = sorted({name for job in jobs for name in (job.device, *job.movable_to)})

        def write(connection: Connection) -> Sweep:
            number = connection.execute(insert(models.Sweep).values(columns).returning(models.Sweep.id)).scalar_one()
            if jobs:
                connection.execute(insert(models.SweepJob), [{"sweep_id": number, **_waiting(job)} for job in jobs])
                connection.execute(
                    insert(models.SweepDevice), [{"sweep_id": number, "device": device} for device in devices]
                )
            return Sweep(id=number, name=name, created_at=created_at, seed=seed, document=dict(document))

        return self._write(write)

    def find(self, name: str) -> Sweep:
        """Return the newest sweep of this name, or that of the number in `#7`. UnknownSweep."""
        sweep = models.Sweep
        number = name[1:] if name.startswith("#") and name[1:].isdecimal() else None
        query = select(sweep).where(sweep.name == name if number is None else sweep.id == int(number))
        rows = self._read(
            lambda connection: connection.execute(query.order_by(sweep.id.desc()).limit(1)).mappings().all()
        )
        if not rows:
            known = ", ".join(dict.fromkeys(found.name for found in self.list_sweeps()[:10]))
            raise UnknownSweep(
                f"the history has no sweep {name}; "
                + (f"the newest are {known}" if known else "it has no sweeps at all")
            )
        return sweep_of(rows[0])

    def list_sweeps(self) -> tuple[Sweep, ...]:
        """Return all, the newest first."""
        query = select(models.Sweep).order_by(models.Sweep.id.desc())
        return self._read(lambda connection: tuple(map(sweep_of, connection.execute(query).mappings())))

    def attach(self, sweep_id: int, controller: str, *, ttl_s: float) -> None:
        """Begin, or go on, to work on a sweep. SweepBusy on SQLite where another process does."""
        self._write(lambda connection: self._controllers(connection, sweep_id).attach(controller, ttl_s))

    def detach(self, sweep_id: int, controller: str) -> None:
        """Stop working on it: its devices are free at once, and its claims as if they had been released."""
        self._write(lambda connection: self._controllers(connection, sweep_id).detach(controller))

    def take_device(self, sweep_id: int, controller: str, *, limit: int, ttl_s: float) -> str | None:
        """Take the free device that has the most due jobs; this counts as `attach`. SweepBusy as there."""

        def write(connection: Connection) -> str | None:
            controllers = self._controllers(connection, sweep_id)
            controllers.attach(controller, ttl_s)
            Claims(connection, sweep_id).reap()
            return controllers.take_device(controller, limit)

        return self._write(write)

    def give_device(self, sweep_id: int, controller: str, device: str) -> None:
        """Give a device back."""
        self._write(lambda connection: self._controllers(connection, sweep_id).give_device(controller, device))

    def set_aside(self, sweep_id: int, device: str, reason: str, *, wait_s: float) -> None:
        """Give a device no jobs for `wait_s`; it loses its controller."""
        self._write(lambda connection: self._controllers(connection, sweep_id).set_aside(device, reason, wait_s))

    def claim(self, sweep_id: int, controller: str, device: str, *, ttl_s: float) -> Claim | None:
        """Return the device's next job; None too where the device is not the controller's (any more)."""
        return self._write(lambda connection: Claims(connection, sweep_id).claim(controller, device, ttl_s))

    def renew(self, claims: Sequence[Claim], *, ttl_s: float) -> tuple[Claim, ...]:
        """Let claims live for `ttl_s` from now. Returns those that are lost."""
        return self._write(lambda connection: Claims(connection).renew(claims, ttl_s)) if claims else ()

    def complete(self, claim: Claim, measurement: Measurement, *, device: DeviceInfo) -> int:
        """Store measurement and the job's end in one transaction. Again with the same claim, it returns the same id."""
        name = claim.job.wanted.artifact.name
        names = (name,) * len(measurement.request.artifacts)
        prepared = PreparedMeasurement.of(
            measurement, device=device, artifact_names=names, device_name=claim.job.device
        )
        return self._write(lambda connection: Claims(connection).complete(claim, prepared))

    def retry(self, claim: Claim, error: str, *, wait_s: float) -> None:
        """Let the job wait for another attempt, not before `wait_s` from now. ClaimLost."""
        self._write(lambda connection: Claims(connection).put_back(claim, error=error, wait_s=wait_s))

    def fail(self, claim: Claim, error: str, *, skipped: bool = False) -> None:
        """Record that the job cannot be done, or was not tried. ClaimLost."""
        state = JobState.SKIPPED if skipped else JobState.FAILED
        self._write(lambda connection: Claims(connection).fail(claim, error, state))

    def release(self, claim: Claim) -> None:
        """Let the job wait again as if it had not been claimed. ClaimLost."""
        self._write(lambda connection: Claims(connection).put_back(claim, uncounted=True))

    def skip(self, sweep_id: int, device: str, reason: str) -> int:
        """Give up a device's waiting jobs; return how many."""
        return self._write(lambda connection: Claims(connection, sweep_id).skip(device, reason))

    def move(self, sweep_id: int, device: str, to: str) -> int:
        """Give the device's waiting jobs that may move there to another; return how many."""
        return self._write(lambda connection: Claims(connection, sweep_id).move(device, to))

    def due_in_s(self, sweep_id: int) -> float | None:
        """Return the seconds until something may be had that cannot be now; 0 where everything waits for someone to take it.

        None where no job waits. Jobs that run do not count until their claims have run out.
        """
        return self._read(lambda connection: Progress(connection, sweep_id).due_in_s())

    def progress(self, sweep_id: int) -> tuple[DeviceProgress, ...]:
        """Return how far each device is, by name. A job whose claim ran out counts as waiting."""
        return self._read(lambda connection: Progress(connection, sweep_id).devices())

    def jobs(self, sweep_id: int, *, state: JobState | None = None) -> tuple[Job, ...]:
        """Return the jobs in order of their positions."""
        job = models.SweepJob
        query = select(job).where(job.sweep_id == sweep_id)
        if state is not None:
            query = query.where(job.state == state.value)
        query = query.order_by(job.position, job.id)
        return self._read(lambda connection: tuple(map(job_of, connection.execute(query).mappings())))

    def _controllers(self, connection: Connection, sweep_id: int) -> Controllers:
        return Controllers(connection, sweep_id, alone=self._alone)

    def _write(self, work: Callable[[Connection], T]) -> T:
        writer = self._writer
        if writer is not None:
            return self._refusing("write to", lambda: writer.write(work))
        return self._refusing("write to", lambda: self._transaction(work))

    def _read(self, work: Callable[[Connection], T]) -> T:
        return self._refusing("read", lambda: self._transaction(work))

    def _transaction(self, work: Callable[[Connection], T]) -> T:
        with self._engine.connect() as connection, connection.begin():
            return work(connection)

    def _refusing(self, doing: str, call: Callable[[], T]) -> T:
        """Call, again where a connection broke or the server says so; all that is written may be written twice to one effect."""
        for pause_s in (*_PAUSES_S, None):
            try:
                return call()
            except DBAPIError as error:
                passing = error.connection_invalidated or getattr(error.orig, "sqlstate", None) in _REPEAT
                if passing and pause_s is not None:
                    _log.warning("the history's database broke off (%s); trying again", type(error.orig).__name__)
                    self._sleep(pause_s)
                    continue
                if not passing and not is_refusal(error):
                    raise
                raise refusal(self._engine.url, error, doing) from error
            except PoolTimeout as error:
                raise refusal(self._engine.url, error, doing) from error
        raise AssertionError("the last pause is None")


def _waiting(job: NewJob) -> dict[str, Any]:
    return {
        "key": job.key,
        "position": job.position,
        "artifact_name": job.artifact.name,
        "artifact_path": str(job.artifact.path),
        "sha256": job.artifact.sha256,
        "wanted_device": job.device,
        "options": dict(job.options),
        "repeat": job.repeat,
        "movable_to": list(job.movable_to),
        "state": JobState.WAITING.value,
        "device": job.device,
        "attempts": 0,
        "token": 0,
        "not_before_s": 0.0,
    }
