"""Who works on a sweep, and on which of its devices: rows in one transaction."""

from __future__ import annotations

import time

from sqlalchemy import Connection, delete, insert, select, update

from host.results import models
from host.results.clock import now_in, now_of
from host.results.hot_statements import hot_statements
from host.results.process import has_died, process_words, this_process
from host.sweep.job import JobState
from host.sweep.queue import SweepBusy, UnknownSweep


class Controllers:
    """The controllers of one sweep. `alone`: the database cannot share a sweep between several."""

    def __init__(self, connection: Connection, sweep_id: int, *, alone: bool) -> None:
        self._connection = connection
        self._sweep_id = sweep_id
        self._alone = alone
        self._hot = hot_statements(connection.dialect.name)

    def attach(self, controller: str, ttl_s: float) -> None:
        """Let the controller work until `ttl_s` from now. Raises SweepBusy, UnknownSweep."""
        if self._alone:
            self._refuse_others(controller)
        values = {"sweep": self._sweep_id, "who": controller, "ttl": ttl_s, **self._moment()}
        renewed = self._connection.execute(self._hot.stay, values).rowcount
        if not renewed:
            if (
                self._connection.execute(select(models.Sweep.id).where(models.Sweep.id == self._sweep_id)).first()
                is None
            ):
                raise UnknownSweep(f"the history has no sweep #{self._sweep_id}")
            self._connection.execute(
                insert(models.SweepController).values(
                    sweep_id=self._sweep_id,
                    controller=controller,
                    expires_s=now_in(self._connection) + ttl_s,
                    process=this_process(),
                )
            )

    def detach(self, controller: str) -> None:
        """Free the controller's devices; its running jobs wait again, and the attempts do not count."""
        self._free(controller, uncounted=True)

    def take_device(self, controller: str, limit: int) -> str | None:
        """Take the free device with the most due jobs; None where there is none, or the controller has `limit`."""
        values = {"sweep": self._sweep_id, "who": controller, "most": limit, **self._moment()}
        found: str | None = self._connection.execute(self._hot.free_device, values).scalar()
        if found is not None:
            self._set(found, controller=controller, aside_until_s=None, aside_reason=None)
        return found

    def give_device(self, controller: str, device: str) -> None:
        """Free a device if it is the controller's."""
        row = models.SweepDevice
        self._connection.execute(
            update(row)
            .where(row.sweep_id == self._sweep_id, row.device == device, row.controller == controller)
            .values(controller=None)
        )

    def set_aside(self, device: str, reason: str, wait_s: float) -> None:
        """Leave a device out until `wait_s` from now. ValueError for one that the sweep does not know."""
        until = now_in(self._connection) + wait_s
        if not self._set(device, controller=None, aside_until_s=until, aside_reason=reason):
            raise ValueError(f"sweep #{self._sweep_id} has no device {device}")

    def _set(self, device: str, **values: object) -> int:
        row = models.SweepDevice
        found = self._connection.execute(
            update(row).where(row.sweep_id == self._sweep_id, row.device == device).values(**values)
        )
        return found.rowcount

    def _moment(self) -> dict[str, float]:
        """Return the present moment as a parameter, where the database does not know it by itself."""
        return {} if self._connection.dialect.name == "postgresql" else {"now": time.time()}

    def _refuse_others(self, controller: str) -> None:
        row = models.SweepController
        others = self._connection.execute(
            select(row.controller, row.expires_s, row.process).where(
                row.sweep_id == self._sweep_id, row.controller != controller
            )
        ).all()
        now = now_of(self._connection)
        for other in others:
            left_s = other.expires_s - now
            if left_s > 0 and not has_died(other.process):
                raise SweepBusy(
                    f"{process_words(other.process)} works on sweep #{self._sweep_id} (as {other.controller}), and a SQLite "
                    f"history cannot share a sweep. Wait for it or end it (if it hangs, its hold runs out in {left_s:.0f} s); "
                    "several processes can share a sweep in PostgreSQL, --store postgresql+psycopg://USER@HOST/DATABASE"
                )
            self._free(other.controller, uncounted=False)

    def _free(self, controller: str, *, uncounted: bool) -> None:
        device, job, row = models.SweepDevice, models.SweepJob, models.SweepController
        self._connection.execute(
            update(device)
            .where(device.sweep_id == self._sweep_id, device.controller == controller)
            .values(controller=None)
        )
        self._connection.execute(
            update(job)
            .where(
                job.sweep_id == self._sweep_id,
                job.state == JobState.RUNNING.value,
                job.controller == controller,
            )
            .values(
                state=JobState.WAITING.value,
                token=job.token + 1,
                controller=None,
                claimed_until_s=None,
                attempts=job.attempts - 1 if uncounted else job.attempts,
            )
        )
        self._connection.execute(delete(row).where(row.sweep_id == self._sweep_id, row.controller == controller))
