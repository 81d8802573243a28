"""Records of an export into a history: what is there already is left out, and a file that is damaged leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any

from sqlalchemy import Connection, insert, select

from device_agent.contract.device import DeviceInfo
from device_agent.contract.errors import BoardfitError
from device_agent.contract.load import LoadRequest, LoadResult
from device_agent.contract.measurement import Measurement, MeasureResult, Reading
from device_agent.contract.plain_json import from_json
from device_agent.contract.served import ServedLog
from device_agent.contract.settings import MeasureRequest
from host.results import models
from host.results.derived import derived_columns
from host.results.exchange import READINGS, RUNS, SERVED, ExportUnusable
from host.results.rows import EnvironmentFacts, artifact_rows, device_row, host_row
from host.results.samples import RunColumns, pack_readings, pack_run_columns, pack_served
from host.results.store import ResultStore
from host.results.writing import PreparedMeasurement
from host.sweep.job import JobState

_BATCH = 200
_DONE = JobState.DONE.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """How many records came in, and how many the history had already."""

    added: int
    known: int


def import_records(store: ResultStore, records: Iterable[Mapping[str, Any]]) -> Imported:
    """Store all records in one transaction, except those whose uuid is known. Raises ExportUnusable, HistoryUnavailable.

    After an error, or a kill, the history is as it was.
    """
    added = known = 0
    rest = iter(records)
    with store.writing() as session:
        connection = session.connection()
        while batch := list(islice(rest, _BATCH)):
            found = _known(connection, batch)
            for record in batch:
                if record["uuid"] in found:
                    known += 1
                    continue
                _store(connection, record)
                found.add(record["uuid"])
                added += 1
    return Imported(added=added, known=known)


def _known(connection: Connection, batch: list[Mapping[str, Any]]) -> set[str]:
    for place, record in enumerate(batch):
        if not isinstance(record, Mapping) or record.get("kind") not in _WRITERS or not record.get("uuid"):
            raise ExportUnusable(f"the export's record {place} of a batch is no measurement, load or compression")
    uuids = [record["uuid"] for record in batch]
    return {
        str(found)
        for table in (models.Measurement, models.LoadMeasurement, models.Compression)
        for found in connection.execute(select(table.uuid).where(table.uuid.in_(uuids))).scalars()
    }


def _store(connection: Connection, record: Mapping[str, Any]) -> None:
    try:
        _WRITERS[record["kind"]](connection, record)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, BoardfitError) as error:
        raise ExportUnusable(
            f"the export's {record['kind']} {record['uuid']} is damaged: {type(error).__name__}: {error}. Nothing was imported"
        ) from error


def _measurement(connection: Connection, record: Mapping[str, Any]) -> None:
    columns = RunColumns(**{name: record[f"run_{name}"] for name in RUNS})
    readings = _readings(record)
    measurement = Measurement(
        request=from_json(MeasureRequest, record["request"]),
        result=from_json(MeasureResult, record["result"]),
        runs=columns.runs(),
        readings=readings,
    )
    device = from_json(DeviceInfo, record["device"])
    reading_names, packed = pack_readings(readings)
    created_at, request, result = _moment(record["created_at"]), measurement.request, measurement.result
    shared = {
        "created_at": created_at,
        "runtime": result.runtime,
        "runtime_version": result.runtime_version,
        "threads": result.threads,
    }
    prepared = PreparedMeasurement(
        whole={
            **shared,
            "uuid": record["uuid"],
            "request": record["request"],
            "result": record["result"],
            "runs": pack_run_columns(columns),
            "reading_names": reading_names,
            "readings": packed,
        },
        lines=tuple(
            {
                **shared,
                "position": position,
                "sha256": sha256,
                "name": name,
                "verdicts": [verdict.code.value for verdict in found.verdicts],
                "device_id": device.device_id,
                "device_name": record["device_name"],
                "together": len(request.artifacts),
                **derived_columns(measurement, device, position),
            }
            for position, (sha256, name, found) in enumerate(
                zip(request.artifacts, record["names"], result.artifacts, strict=True)
            )
        ),
        device=EnvironmentFacts.of(record["device"]),
        host=EnvironmentFacts.of(record["host"]),
    )
    sweep_id = None if record["sweep"] is None else _sweep(connection, record["sweep"])
    number = prepared.insert(connection, sweep_id=sweep_id)
    if sweep_id is not None and record["job"] is not None:
        _job(connection, sweep_id, record["job"], number)


def _load(connection: Connection, record: Mapping[str, Any]) -> None:
    request, result = from_json(LoadRequest, record["request"]), from_json(LoadResult, record["result"])
    log = ServedLog()
    for one in zip(*(record[f"served_{name}"] for name in SERVED), strict=True):
        log.add(*one)
    reading_names, readings = pack_readings(_readings(record))
    (name,) = record["names"]
    artifact_rows(connection, {request.artifact: name})
    connection.execute(
        insert(models.LoadMeasurement).values(
            uuid=record["uuid"],
            created_at=_moment(record["created_at"]),
            device_environment_id=device_row(connection, EnvironmentFacts.of(record["device"])),
            host_environment_id=host_row(connection, EnvironmentFacts.of(record["host"])),
            sha256=request.artifact,
            name=name,
            runtime=result.runtime,
            runtime_version=result.runtime_version,
            threads=result.threads,
            streams=result.streams,
            highest_rate_per_s=result.highest_rate_per_s,
            verdicts=[verdict.code.value for verdict in result.verdicts],
            request=record["request"],
            result=record["result"],
            served=pack_served(log),
            reading_names=reading_names,
            readings=readings,
        )
    )


def _compression(connection: Connection, record: Mapping[str, Any]) -> None:
    found = record["compression"]
    device = record["device"]
    connection.execute(
        insert(models.Compression).values(
            uuid=record["uuid"],
            created_at=_moment(record["created_at"]),
            device_environment_id=None if device is None else device_row(connection, EnvironmentFacts.of(device)),
            model=found.get("model"),
            target=found["target"],
            met=found["met"],
            plan=found["plan"],
            record=found,
        )
    )


_WRITERS = {"measurement": _measurement, "load": _load, "compression": _compression}


def _readings(record: Mapping[str, Any]) -> tuple[Reading, ...]:
    rows: Iterator[tuple[Any, ...]] = zip(*(record[f"reading_{name}"] for name in READINGS), strict=True)
    return tuple(Reading(channel=channel, time_ns=time_ns, value=value) for channel, time_ns, value in rows)


def _sweep(connection: Connection, sweep: Mapping[str, Any]) -> int:
    table = models.Sweep
    found = connection.execute(select(table.id).where(table.uuid == sweep["uuid"])).scalar()
    if found is None:
        values = {name: sweep[name] for name in ("uuid", "name", "seed", "document")}
        values["created_at"] = _moment(sweep["created_at"])
        found = connection.execute(insert(table).values(values).returning(table.id)).scalar_one()
    return int(found)


def _job(connection: Connection, sweep_id: int, job: Mapping[str, Any], measurement_id: int) -> None:
    """Keep what the measurement was made for. A job that the sweep has here already stays as it is."""
    table = models.SweepJob
    if connection.execute(select(table.id).where(table.sweep_id == sweep_id, table.key == job["key"])).first() is None:
        connection.execute(
            insert(table).values(
                **job, sweep_id=sweep_id, measurement_id=measurement_id, state=_DONE, token=0, not_before_s=0.0
            )
        )


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return moment
