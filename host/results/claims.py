"""Jobs of sweeps changing hands: rows in one transaction, fenced by tokens."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, func, select, tuple_, update

from host.results import models
from host.results.clock import now_in
from host.results.hot_statements import hot_statements
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
        self._hot = hot_statements(connection.dialect.name)

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
        hot, values = self._hot, {"sweep": self._sweep_id, "of_device": device, "who": controller, "ttl": ttl_s}
        if hot.hold_device is not None:
            # Two threads that want a job of the same device decide one after the other.
            self._connection.execute(hot.hold_device, values)
        row = self._connection.execute(hot.claim, self._at(values)).mappings().first()
        if row is None and self._connection.execute(hot.lost_of_device, self._at(values)).first() is not None:
            self.reap()
            row = self._connection.execute(hot.claim, self._at(values)).mappings().first()
        return None if row is None else Claim(job=job_of(row), token=row["token"])

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
        self._connection.execute(self._hot.done, self._at({"job": claim.job.id, "measurement": number}))
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

    def _row(self, claim: Claim) -> Any:
        """Return the job's state, kept as it is until the transaction ends. Raises ClaimLost unless the token is the newest."""
        found = self._connection.execute(self._hot.job, {"job": claim.job.id}).mappings().first()
        if found is None or found["token"] != claim.token:
            wanted = claim.job.wanted
            raise ClaimLost(
                f"the claim of job {claim.job.id} ({wanted.artifact.name} on {claim.job.device}) ran out, and the job is "
                "waiting again or somebody else's; nothing was stored"
            )
        return found

    def _at(self, values: dict[str, Any]) -> dict[str, Any]:
        """Add the present moment where the database does not know it by itself."""
        return values if self._connection.dialect.name == "postgresql" else {**values, "now": time.time()}

    def _change(self, claim: Claim, **values: Any) -> None:
        job = models.SweepJob
        self._connection.execute(update(job).where(job.id == claim.job.id).values(**values))
