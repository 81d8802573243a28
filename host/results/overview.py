"""What is in a history, and whether it is whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection, func, select, text
from sqlalchemy.exc import DBAPIError

from device_agent.contract.device import DeviceInfo
from device_agent.contract.load import LoadRequest, LoadResult
from device_agent.contract.plain_json import from_json
from host.results import models
from host.results.database import refusal, shown
from host.results.derived import derived_columns, refresh
from host.results.samples import measurement_of, unpack_readings, unpack_served
from host.results.schema import HEAD
from host.results.store import ResultStore

_COUNTED = {
    "measurements": models.Measurement,
    "results": models.MeasuredArtifact,
    "loads": models.LoadMeasurement,
    "compressions": models.Compression,
    "sweeps": models.Sweep,
    "jobs": models.SweepJob,
    "artifacts": models.Artifact,
    "facts": models.DeviceFact,
}
_BATCH = 200
#: Derived figures that differ by less are the same: another processor may round the last digit otherwise.
_SAME = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """A history from afar. `url` has no password; `results` counts measured artifacts; dates are None in an empty history."""

    url: str
    kind: str
    schema: str
    size_bytes: int
    counts: dict[str, int]
    devices: int
    oldest: datetime | None
    newest: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that is wrong with a history. `place` is an entry, or the database as a whole."""

    place: str
    problem: str


def overview(store: ResultStore) -> Overview:
    """Count what is there. Raises HistoryUnavailable."""
    line, engine = models.MeasuredArtifact, store.engine
    with store.reading() as session:
        connection = session.connection()
        counts = {
            name: int(session.execute(select(func.count()).select_from(table)).scalar_one())
            for name, table in _COUNTED.items()
        }
        devices = session.execute(select(func.count(func.distinct(models.DeviceEnvironment.device_id)))).scalar_one()
        oldest, newest = session.execute(select(func.min(line.created_at), func.max(line.created_at))).one()
        return Overview(
            url=shown(engine.url),
            kind=engine.dialect.name,
            schema=HEAD,
            size_bytes=_size_bytes(connection),
            counts=counts,
            devices=devices,
            oldest=oldest,
            newest=newest,
        )


def check(store: ResultStore, on_done: Callable[[int, int], None] = lambda _done, _all: None) -> tuple[Finding, ...]:
    """Read everything and return what is damaged. `on_done` gets how many measurements were read, and of how many."""
    found: list[Finding] = []
    with store.reading() as session:
        connection = session.connection()
        if connection.dialect.name == "sqlite":
            rows = connection.execute(text("PRAGMA integrity_check(20)")).scalars().all()
            found += [Finding(place="database", problem=row) for row in rows if row != "ok"]
        total = int(connection.execute(select(func.count()).select_from(models.Measurement)).scalar_one())
        done = after = 0
        while numbers := _next(connection, models.Measurement, after):
            for number in numbers:
                found += _measurement_findings(connection, number)
            done, after = done + len(numbers), numbers[-1]
            on_done(done, total)
        after = 0
        while numbers := _next(connection, models.LoadMeasurement, after):
            for number in numbers:
                found += _load_findings(connection, number)
            after = numbers[-1]
    return tuple(found)


def repair(store: ResultStore) -> int:
    """Make all derived figures anew from the samples; return how many lines. Raises SamplesCorrupt, HistoryUnavailable."""
    with store.writing() as session:
        return refresh(session.connection(), everything=True)


def _size_bytes(connection: Connection) -> int:
    if connection.dialect.name == "postgresql":
        return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())
    name = connection.engine.url.database
    files = [Path(f"{name}{suffix}") for suffix in ("", "-wal")] if name else []
    return sum(file.stat().st_size for file in files if file.is_file())


def _next(
    connection: Connection, table: type[models.Measurement] | type[models.LoadMeasurement], after: int
) -> list[int]:
    query = select(table.id).where(table.id > after).order_by(table.id).limit(_BATCH)
    return list(connection.execute(query).scalars())


def _measurement_findings(connection: Connection, number: int) -> list[Finding]:
    whole, line = models.Measurement, models.MeasuredArtifact
    place = f"measurement {number}"
    try:
        row = connection.execute(
            select(
                whole.request, whole.result, whole.runs, whole.reading_names, whole.readings, models.DeviceEnvironment.info
            )
            .join(models.DeviceEnvironment, models.DeviceEnvironment.id == whole.device_environment_id)
            .where(whole.id == number)
        ).one()  # fmt: skip
        measurement = measurement_of(row)
        device = from_json(DeviceInfo, row.info)
        lines = connection.execute(
            select(line.__table__).where(line.measurement_id == number).order_by(line.position)
        ).mappings()
        found = []
        for each in lines:
            for name, value in derived_columns(measurement, device, each["position"]).items():
                if not _same(each[name], value):
                    found.append(
                        Finding(
                            place=place,
                            problem=f"{name} of artifact {each['position'] + 1} is {each[name]}, and its samples make {value}",
                        )
                    )
        return found
    except DBAPIError as error:
        return [Finding(place=place, problem=str(refusal(connection.engine.url, error, "read")))]
    except Exception as error:
        return [Finding(place=place, problem=f"{type(error).__name__}: {error}")]


def _load_findings(connection: Connection, number: int) -> list[Finding]:
    load = models.LoadMeasurement
    try:
        row = connection.execute(
            select(load.request, load.result, load.served, load.reading_names, load.readings).where(load.id == number)
        ).one()
        from_json(LoadRequest, row.request)
        from_json(LoadResult, row.result)
        unpack_served(row.served)
        unpack_readings(row.reading_names, row.readings)
        return []
    except Exception as error:
        return [Finding(place=f"load {number}", problem=f"{type(error).__name__}: {error}")]


def _same(kept: float | None, made: float | None) -> bool:
    if kept is None or made is None:
        return kept is made
    return abs(kept - made) <= _SAME * abs(made)
