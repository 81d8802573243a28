"""Load jobs in the history."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import select

from device_agent.contract.device import DeviceInfo
from device_agent.contract.load import LoadMeasurement, LoadRequest, LoadResult
from device_agent.contract.plain_json import from_json, to_json
from host.results import models
from host.results.rows import artifact_rows, device_facts, device_row, host_facts, host_row
from host.results.samples import pack_readings, pack_served, unpack_readings, unpack_served
from host.results.store import NotInHistory, ResultStore


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLoad:
    """A load job as it was, with where and when."""

    id: int
    created_at: datetime
    measurement: LoadMeasurement
    device: DeviceInfo
    host: Mapping[str, Any]
    artifact_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSummary:
    """A line of the history. `highest_rate_per_s` is None for what was no search, or found no rate."""

    id: int
    created_at: datetime
    device_id: str
    profile: str | None
    runtime: str
    runtime_version: str
    threads: int
    streams: int
    artifact: str
    artifact_name: str
    highest_rate_per_s: float | None
    verdicts: tuple[str, ...]


def add_load(store: ResultStore, measurement: LoadMeasurement, *, device: DeviceInfo, artifact_name: str) -> int:
    """Keep a load job with all its raw samples and return its id. Raises HistoryUnavailable."""
    request, result = measurement.request, measurement.result
    reading_names, readings = pack_readings(measurement.readings)
    with store.writing() as session:
        connection = session.connection()
        artifact_rows(connection, {request.artifact: artifact_name})
        row = models.LoadMeasurement(
            created_at=datetime.now(timezone.utc),
            uuid=uuid.uuid4().hex,
            device_environment_id=device_row(connection, device_facts(device)),
            host_environment_id=host_row(connection, host_facts()),
            sha256=request.artifact,
            name=artifact_name,
            runtime=result.runtime,
            runtime_version=result.runtime_version,
            threads=result.threads,
            streams=result.streams,
            highest_rate_per_s=result.highest_rate_per_s,
            verdicts=[verdict.code.value for verdict in result.verdicts],
            request=to_json(request),
            result=to_json(result),
            served=pack_served(measurement.served),
            reading_names=reading_names,
            readings=readings,
        )
        session.add(row)
        session.flush()
        return row.id


def get_load(store: ResultStore, load_id: int) -> StoredLoad:
    """Return a load job, its samples as they came. Raises NotInHistory."""
    with store.reading() as session:
        row = session.get(models.LoadMeasurement, load_id)
        if row is None:
            raise NotInHistory(f"the history has no load {load_id}")
        return StoredLoad(
            id=row.id,
            created_at=row.created_at,
            measurement=LoadMeasurement(
                request=from_json(LoadRequest, row.request),
                result=from_json(LoadResult, row.result),
                served=unpack_served(row.served),
                readings=unpack_readings(row.reading_names, row.readings),
            ),
            device=from_json(DeviceInfo, row.device.info),
            host=dict(row.host.info),
            artifact_name=row.name,
        )


def list_loads(
    store: ResultStore, *, device_id: str | None = None, sha256: str | None = None, limit: int | None = None
) -> tuple[LoadSummary, ...]:
    """Return the lines that match every filter given, the newest first. Samples are not read."""
    columns = models.LoadMeasurement
    query = select(
        columns.id, columns.created_at, columns.runtime, columns.runtime_version, columns.threads, columns.streams,
        columns.sha256, columns.name, columns.highest_rate_per_s, columns.verdicts,
        models.DeviceEnvironment.device_id, models.DeviceEnvironment.profile,
    ).join(columns.device)  # fmt: skip
    if device_id is not None:
        query = query.where(models.DeviceEnvironment.device_id == device_id)
    if sha256 is not None:
        query = query.where(columns.sha256 == sha256)
    query = query.order_by(columns.created_at.desc(), columns.id.desc()).limit(limit)
    with store.reading() as session:
        return tuple(
            LoadSummary(
                id=row.id,
                created_at=row.created_at,
                device_id=row.device_id,
                profile=row.profile,
                runtime=row.runtime,
                runtime_version=row.runtime_version,
                threads=row.threads,
                streams=row.streams,
                artifact=row.sha256,
                artifact_name=row.name,
                highest_rate_per_s=row.highest_rate_per_s,
                verdicts=tuple(row.verdicts),
            )
            for row in session.execute(query)
        )
