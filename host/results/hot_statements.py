"""The statements of a sweep that run hundreds of times a second, made once: making one takes longer than running it.

Their parameters are named in the docstring of `HotStatements`. `now` is one on SQLite only; PostgreSQL asks its clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Double, Executable, Integer, String, bindparam, exists, func, or_, select, update

from host.results import models
from host.results.clock import CLOCK
from host.sweep.job import JobState

_WAITING, _RUNNING, _DONE = JobState.WAITING.value, JobState.RUNNING.value, JobState.DONE.value


@dataclass(frozen=True, slots=True, kw_only=True)
class HotStatements:
    """For one dialect. `hold_device` locks a device until the transaction ends, None where a transaction is alone anyway.

    hold_device, claim and lost_of_device take `sweep`, `of_device`, `who`, `ttl`, `now`; job takes `job`; done takes `job`,
    `measurement`, `now`; stay takes `sweep`, `who`, `ttl`, `now`; free_device takes `sweep`, `who`, `most`, `now`.
    """

    hold_device: Executable | None
    claim: Executable
    lost_of_device: Executable
    job: Executable
    done: Executable
    stay: Executable
    free_device: Executable


@lru_cache(maxsize=4)
def hot_statements(dialect: str) -> HotStatements:
    """Return the statements for a dialect of SQLAlchemy."""
    job, device = models.SweepJob.__table__.c, models.SweepDevice.__table__.c
    at_work = models.SweepController.__table__.c
    table: Any = models.SweepJob.__table__
    other = table.alias("other")
    now: Any = CLOCK.scalar_subquery() if dialect == "postgresql" else bindparam("now", type_=Double)
    sweep, name = bindparam("sweep", type_=Integer), bindparam("of_device", type_=String)
    controller = bindparam("who", type_=String)
    of_device = (job.sweep_id == sweep, job.device == name)
    held = exists().where(
        device.sweep_id == sweep,
        device.device == name,
        device.controller == controller,
        at_work.sweep_id == device.sweep_id,
        at_work.controller == device.controller,
        at_work.expires_s > now,
    )
    runs = exists().where(other.c.sweep_id == sweep, other.c.device == name, other.c.state == _RUNNING)
    chosen = (
        select(job.id)
        .where(*of_device, job.state == _WAITING, job.not_before_s <= now, held, ~runs)
        .order_by(job.position, job.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    mine = models.SweepDevice.__table__.alias("mine").c
    due = (
        select(job.device, func.count().label("jobs"))
        .where(job.sweep_id == sweep, job.state == _WAITING, job.not_before_s <= now)
        .group_by(job.device)
        .subquery()
    )
    alive = exists().where(at_work.sweep_id == sweep, at_work.controller == device.controller, at_work.expires_s > now)
    busy = exists().where(other.c.sweep_id == sweep, other.c.device == device.device, other.c.state == _RUNNING)
    had = select(func.count()).where(mine.sweep_id == sweep, mine.controller == controller).scalar_subquery()
    free_device = (
        select(device.device)
        .join(due, due.c.device == device.device)
        .where(
            device.sweep_id == sweep,
            or_(device.controller.is_(None), ~alive),
            or_(device.aside_until_s.is_(None), device.aside_until_s <= now),
            ~busy,
            had < bindparam("most", type_=Integer),
        )
        .order_by(due.c.jobs.desc(), device.device)
        .limit(1)
        .with_for_update(of=models.SweepDevice.__table__, skip_locked=True)
    )
    here: Any = models.SweepController.__table__
    number = bindparam("job", type_=Integer)
    return HotStatements(
        hold_device=(
            select(device.device).where(device.sweep_id == sweep, device.device == name).with_for_update()
            if dialect == "postgresql"
            else None
        ),
        claim=update(table)
        .where(job.id == chosen.scalar_subquery())
        .values(
            state=_RUNNING,
            controller=controller,
            token=job.token + 1,
            attempts=job.attempts + 1,
            claimed_until_s=now + bindparam("ttl", type_=Double),
        )
        .returning(*table.columns),
        lost_of_device=select(job.id).where(*of_device, job.state == _RUNNING, job.claimed_until_s <= now).limit(1),
        job=select(job.sweep_id, job.state, job.token, job.measurement_id).where(job.id == number).with_for_update(),
        done=update(table)
        .where(job.id == number)
        .values(
            state=_DONE,
            measurement_id=bindparam("measurement", type_=Integer),
            error=None,
            finished_s=now,
            controller=None,
            claimed_until_s=None,
        ),
        stay=update(here)
        .where(at_work.sweep_id == sweep, at_work.controller == controller)
        .values(expires_s=now + bindparam("ttl", type_=Double)),
        free_device=free_device,
    )
