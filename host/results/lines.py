"""Looking through a history of any size: a line per measured artifact, newest first, page by page. No samples are read."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select, tuple_

from host.results import models
from host.results.store import ResultStore

#: Lines that one query of `stream_lines` fetches.
PAGE = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class LineFilter:
    """What lines have to match, all of it; None matches everything, an empty collection nothing.

    `since` is included, `until` is not. `devices` are ids of devices, `device_names` what hosts call them. `sweep_id` is the
    number of a sweep, `measurements` those of measurements. `alone` leaves out artifacts that shared a worker (True), or all
    others (False). `runtime_version` 1.31 takes 1.31.2 too.
    """

    devices: Collection[str] | None = None
    device_names: Collection[str] | None = None
    sha256: Collection[str] | None = None
    runtime: str | None = None
    threads: int | None = None
    sweep_id: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    alone: bool | None = None
    measurements: Collection[int] | None = None
    runtime_version: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultLine:
    """One measured artifact. Times in ns, energy in joules per run, memory in bytes; None where it is not known.

    Latencies are over all timed runs, but for `undisturbed_p50_ns`, which is None where too few runs were left alone. `together`
    is the number of artifacts that shared the worker. `sweep_id`, `job_key`, `job_options` and `repeat` are of the sweep that the
    measurement was made for, None without one; the options are those of `host bench`. `environment_id` is the same for results
    of a device that was in the same state.
    """

    measurement_id: int
    position: int
    created_at: datetime
    sha256: str
    name: str
    device_id: str
    device_name: str | None
    profile: str | None
    environment_id: int
    runtime: str
    runtime_version: str
    threads: int
    together: int
    verdicts: tuple[str, ...]
    runs: int | None
    runs_undisturbed: int | None
    p50_ns: float | None
    p90_ns: float | None
    p99_ns: float | None
    min_ns: float | None
    mean_ns: float | None
    undisturbed_p50_ns: float | None
    peak_memory_bytes: int | None
    peak_rss_bytes: int | None
    energy_gross_j: float | None
    energy_net_j: float | None
    sweep_id: int | None
    job_key: str | None
    job_options: Mapping[str, Any] | None
    repeat: int | None

    @property
    def place(self) -> Place:
        """Where the line stands in the order of lines."""
        return Place(created_at=self.created_at, measurement_id=self.measurement_id, position=self.position)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A place in the order of lines; the next page begins behind the last line of the one before."""

    created_at: datetime
    measurement_id: int
    position: int


def list_lines(
    store: ResultStore, wanted: LineFilter | None = None, *, limit: int | None = None, before: Place | None = None
) -> tuple[ResultLine, ...]:
    """Return lines, the newest first, `limit` at most; those older than `before` where that is given. HistoryUnavailable."""
    line, job = models.MeasuredArtifact, models.SweepJob
    query: Any = (
        select(
            *_COLUMNS,
            models.DeviceEnvironment.profile,
            job.key.label("job_key"),
            job.options.label("job_options"),
            job.repeat,
        )
        .select_from(line)
        .join(models.DeviceEnvironment, models.DeviceEnvironment.id == line.device_environment_id)
        .outerjoin(job, job.measurement_id == line.measurement_id)
    )
    query = _filtered(query, wanted or LineFilter())
    order = (line.created_at, line.measurement_id, line.position)
    if before is not None:
        query = query.where(tuple_(*order) < tuple_(before.created_at, before.measurement_id, before.position))
    query = query.order_by(*(column.desc() for column in order)).limit(limit)
    with store.reading() as session:
        # By position: a night is thousands of lines, and looking each value up by its name takes longer than the query.
        return tuple(_line_of(dict(zip(_ORDER, row, strict=True))) for row in session.connection().execute(query))


def stream_lines(store: ResultStore, wanted: LineFilter | None = None) -> Iterator[ResultLine]:
    """Yield all lines, the newest first, without holding them in memory. What is written meanwhile is left out."""
    before: Place | None = None
    while page := list_lines(store, wanted, limit=PAGE, before=before):
        yield from page
        if len(page) < PAGE:
            return
        before = page[-1].place


def count_lines(store: ResultStore, wanted: LineFilter | None = None) -> int:
    """Return how many lines match."""
    query = _filtered(select(func.count()).select_from(models.MeasuredArtifact), wanted or LineFilter())
    with store.reading() as session:
        return int(session.execute(query).scalar_one())


def _filtered(query: Any, wanted: LineFilter) -> Any:
    line = models.MeasuredArtifact
    conditions: list[ColumnElement[bool]] = []
    if wanted.devices is not None:
        conditions.append(line.device_id.in_(list(wanted.devices)))
    if wanted.device_names is not None:
        conditions.append(line.device_name.in_(list(wanted.device_names)))
    if wanted.sha256 is not None:
        conditions.append(line.sha256.in_(list(wanted.sha256)))
    for column, value in (
        (line.runtime, wanted.runtime),
        (line.threads, wanted.threads),
        (line.sweep_id, wanted.sweep_id),
    ):
        if value is not None:
            conditions.append(column == value)
    if wanted.measurements is not None:
        conditions.append(line.measurement_id.in_(list(wanted.measurements)))
    if wanted.runtime_version is not None:
        version = wanted.runtime_version
        conditions.append(
            or_(line.runtime_version == version, line.runtime_version.startswith(f"{version}.", autoescape=True))
        )
    if wanted.since is not None:
        conditions.append(line.created_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(line.created_at < wanted.until)
    if wanted.alone is not None:
        conditions.append(line.together == 1 if wanted.alone else line.together > 1)
    return query.where(*conditions)


def _line_of(values: dict[str, Any]) -> ResultLine:
    values["verdicts"] = tuple(values["verdicts"])
    return ResultLine(**values)


_OWN = ("profile", "job_key", "job_options", "repeat")
_PLAIN = tuple(name for name in ResultLine.__dataclass_fields__ if name != "verdicts")
_COLUMNS = (
    models.MeasuredArtifact.device_environment_id.label("environment_id"),
    models.MeasuredArtifact.verdicts,
    *(getattr(models.MeasuredArtifact, name) for name in _PLAIN if name not in (*_OWN, "environment_id")),
)
_ORDER = ("environment_id", "verdicts", *(name for name in _PLAIN if name not in (*_OWN, "environment_id")), *_OWN)
