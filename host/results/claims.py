"""Jobs of sweeps changing hands: rows in one transaction, fenced by tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, exists, func, select, tuple_, update

from host.results import models
from host.results.clock import now_in
from host.results.progress import job_of
from host.results.rows import insert_new
from host.results.writing import PreparedMeasurement
from host.sweep.job import Claim, JobState
from host.sweep.queue import ClaimLost

_WAITING, _RUNNING, _DONE = JobState.WAITING.value, JobState.RUNNING.value, JobState.DONE.value
_FREE = {"controller": None, "claimed_until_s": None}
_TOGETHER = 400  # SQLite takes a limited number of values in one statement


class Claims:
    """The jobs of one sweep; what takes a claim needs no sweep."""

    def __init__(self, connection: Connection, sweep_id: int | None = None) -> None:
        self._connection = connection
        self._sweep_id = sweep_id

    def reap(self) -> None:
        """Let jobs wait again whose claims ran out. A result that comes for them now is refused."""
        job = models.SweepJob
        lost = (
            select(job.id)
            .where(
                job.sweep_id == self._sweep_id,
                job.state == _RUNNING,
                job.claimed_until_s <= now_in(self._connection),
            )
            .with_for_update(skip_locked=True)
        )
        numbers = self._connection.execute(lost).scalars().all()
        if numbers:
            self._connection.execute(
                update(job)
                .where(job.id.in_(numbers))
                .values(
                    state=_WAITING,
                    token=job.token + 1,
                    not_before_s=0.0,
                    error=func.coalesce(job.controller, "its controller") + " was not heard of any more",
                    **_FREE,
                )
            )

    def claim(self, controller: str, device: str, ttl_s: float) -> Claim | None:
        """Return the device's next due job, running; None where there is none, one runs there, or it is not the controller's."""
        self.reap()
        if not self._holds(controller, device):
            return None
        job = models.SweepJob
        of_device = (job.sweep_id == self._sweep_id, job.device == device)
        now = now_in(self._connection)
        if self._connection.execute(select(job.id).where(*of_device, job.state == _RUNNING).limit(1)).first():
            return None
        number = self._connection.execute(
            select(job.id)
            .where(*of_device, job.state == _WAITING, job.not_before_s <= now)
            .order_by(job.position, job.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        ).scalar()
        if number is None:
            return None
        row = (
            self._connection.execute(
                update(job)
                .where(job.id == number)
                .values(
                    state=_RUNNING,
                    controller=controller,
                    token=job.token + 1,
                    attempts=job.attempts + 1,
                    claimed_until_s=now + ttl_s,
                )
                .returning(*models.SweepJob.__table__.columns)
            )
            .mappings()
            .one()
        )
        return Claim(job=job_of(row), token=row["token"])

    def renew(self, claims: Sequence[Claim], ttl_s: float) -> tuple[Claim, ...]:
        """Let claims live for `ttl_s` from now; return those that are lost."""
        job = models.SweepJob
        alive: set[tuple[int, int]] = set()
        ordered = sorted(claims, key=lambda claim: claim.job.id)
        for start in range(0, len(ordered), _TOGETHER):
            part = [(claim.job.id, claim.token) for claim in ordered[start : start + _TOGETHER]]
            mine = select(job.id, job.token).where(tuple_(job.id, job.token).in_(part), job.state == _RUNNING)
            found = self._connection.execute(mine.order_by(job.id).with_for_update()).all()
            if found:
                self._connection.execute(
                    update(job)
                    .where(job.id.in_([row.id for row in found]))
                    .values(claimed_until_s=now_in(self._connection) + ttl_s)
                )
            alive.update((row.id, row.token) for row in found)
        return tuple(claim for claim in claims if (claim.job.id, claim.token) not in alive)

    def complete(self, claim: Claim, prepared: PreparedMeasurement) -> int:
        """Store the measurement and the end of its job. Raises ClaimLost; a claim completed before gives its id again."""
        found = self._row(claim)
        if found["state"] == _DONE:
            return int(found["measurement_id"])
        number = prepared.insert(self._connection, sweep_id=found["sweep_id"])
        self._change(
            claim, state=_DONE, measurement_id=number, error=None, finished_s=now_in(self._connection), **_FREE
        )
        return number

    def put_back(self, claim: Claim, *, error: str | None = None, wait_s: float = 0.0, uncounted: bool = False) -> None:
        """Let a job wait again. Raises ClaimLost."""
        if self._row(claim)["state"] == _WAITING:
            return  # The answer to the first call was lost.
        values: dict[str, Any] = {"state": _WAITING, "not_before_s": now_in(self._connection) + wait_s, **_FREE}
        if uncounted:
            values = {"state": _WAITING, "attempts": models.SweepJob.attempts - 1, **_FREE}
        else:
            values["error"] = error
        self._change(claim, **values)

    def fail(self, claim: Claim, error: str, state: JobState) -> None:
        """End a job without a result. Raises ClaimLost."""
        if self._row(claim)["state"] != state.value:
            self._change(claim, state=state.value, error=error, finished_s=now_in(self._connection), **_FREE)

    def skip(self, device: str, reason: str) -> int:
        """Give up the waiting jobs of a device."""
        self.reap()
        job = models.SweepJob
        found = self._connection.execute(
            update(job)
            .where(job.sweep_id == self._sweep_id, job.device == device, job.state == _WAITING)
            .values(
                state=JobState.SKIPPED.value,
                token=job.token + 1,
                error=reason,
                finished_s=now_in(self._connection),
            )
        )
        return found.rowcount

    def move(self, device: str, to: str) -> int:
        """Give the waiting jobs of a device that may move there to another."""
        self.reap()
        job = models.SweepJob
        rows = self._connection.execute(
            select(job.id, job.movable_to)
            .where(job.sweep_id == self._sweep_id, job.device == device, job.state == _WAITING)
            .order_by(job.id)
            .with_for_update()
        ).all()
        moving = [row.id for row in rows if to in row.movable_to]
        if moving:
            insert_new(self._connection, models.SweepDevice, {"sweep_id": self._sweep_id, "device": to})
        for start in range(0, len(moving), _TOGETHER):
            self._connection.execute(
                update(job)
                .where(job.id.in_(moving[start : start + _TOGETHER]))
                .values(device=to, token=job.token + 1, not_before_s=0.0)
            )
        return len(moving)

    def _holds(self, controller: str, device: str) -> bool:
        """Say whether a device is the controller's, and keep it so until the transaction ends."""
        row, at_work = models.SweepDevice, models.SweepController
        alive = exists().where(
            at_work.sweep_id == row.sweep_id,
            at_work.controller == controller,
            at_work.expires_s > now_in(self._connection),
        )
        query = select(row.device).where(
            row.sweep_id == self._sweep_id, row.device == device, row.controller == controller, alive
        )
        return self._connection.execute(query.with_for_update(of=row)).first() is not None

    def _row(self, claim: Claim) -> Any:
        """Return the job's state, kept as it is until the transaction ends. Raises ClaimLost unless the token is the newest."""
        job = models.SweepJob
        query = select(job.sweep_id, job.state, job.token, job.measurement_id).where(job.id == claim.job.id)
        found = self._connection.execute(query.with_for_update()).mappings().first()
        if found is None or found["token"] != claim.token:
            wanted = claim.job.wanted
            raise ClaimLost(
                f"the claim of job {claim.job.id} ({wanted.artifact.name} on {claim.job.device}) ran out, and the job is "
                "waiting again or somebody else's; nothing was stored"
            )
        return found

    def _change(self, claim: Claim, **values: Any) -> None:
        job = models.SweepJob
        self._connection.execute(update(job).where(job.id == claim.job.id).values(**values))
