"""The history of measurements and compressions: SQLAlchemy, on SQLite in the user's data folder unless a URL is given."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from types import TracebackType
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session

from device_agent.contract.device import DeviceInfo
from device_agent.contract.errors import StableError
from device_agent.contract.measurement import Measurement
from device_agent.contract.plain_json import from_json
from host.results import models
from host.results.database import is_refusal, open_database, refusal
from host.results.environment import Environment
from host.results.rows import device_facts, device_row
from host.results.samples import measurement_of
from host.results.writing import PreparedMeasurement


class NotInHistory(StableError):
    """The history has no such entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMeasurement:
    """A measurement as it was, with where and when. `artifact_names` are in the order of the request."""

    id: int
    created_at: datetime
    measurement: Measurement
    device: DeviceInfo
    host: Mapping[str, Any]
    artifact_names: tuple[str, ...]

    def environment(self, artifact: int = 0) -> Environment:
        """Return what decides whether it may be compared with another."""
        return Environment.of(self.measurement, self.device, artifact)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurementSummary:
    """A line of the history; `verdicts` holds the codes per artifact."""

    id: int
    created_at: datetime
    device_id: str
    profile: str | None
    runtime: str
    runtime_version: str
    threads: int
    artifacts: tuple[str, ...]
    artifact_names: tuple[str, ...]
    verdicts: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCompression:
    """A finished compression; `record` is its whole JSON document."""

    id: int
    created_at: datetime
    model: str | None
    target: Mapping[str, Any]
    met: bool | None
    plan: Mapping[str, Any]
    record: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFact:
    """Something learned of a device: `device_key` names all that it depends on, `kind` what it answers."""

    device_key: str
    kind: str
    value: Mapping[str, Any]
    updated_at: datetime


class ResultStore:
    """An open history. What a method has returned from is on disk. May be used from several threads and processes.

    Methods that write raise HistoryUnavailable where the database refuses, on a full disk for one.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def open(cls, url: str | None = None) -> ResultStore:
        """Open, and create or migrate where needed. Raises DatabaseTooNew, HistoryUnavailable."""
        return cls(open_database(url))

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def __enter__(self) -> ResultStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def add_measurement(
        self,
        measurement: Measurement,
        *,
        device: DeviceInfo,
        artifact_names: Sequence[str],
        device_name: str | None = None,
    ) -> int:
        """Keep a measurement with all its raw samples and return its id. Names are in the order of the request.

        `device_name` is what this host calls the device.
        """
        prepared = PreparedMeasurement.of(
            measurement, device=device, artifact_names=artifact_names, device_name=device_name
        )
        with self.writing() as session:
            return prepared.insert(session.connection())

    def get_measurement(self, measurement_id: int) -> StoredMeasurement:
        """Return a measurement, its samples as they came. Raises NotInHistory."""
        with self.reading() as session:
            row = session.get(models.Measurement, measurement_id)
            if row is None:
                raise NotInHistory(f"the history has no measurement {measurement_id}")
            return StoredMeasurement(
                id=row.id,
                created_at=row.created_at,
                measurement=measurement_of(row),
                device=from_json(DeviceInfo, row.device.info),
                host=dict(row.host.info),
                artifact_names=tuple(artifact.name for artifact in row.artifacts),
            )

    def list_measurements(
        self,
        *,
        device_id: str | None = None,
        sha256: str | None = None,
        runtime: str | None = None,
        since: datetime | None = None,
        limit: int | None = None,
    ) -> tuple[MeasurementSummary, ...]:
        """Return the lines that match every filter given, the newest first. Samples are not read."""
        columns = models.Measurement
        query = select(
            columns.id, columns.created_at, columns.runtime, columns.runtime_version, columns.threads,
            models.DeviceEnvironment.device_id, models.DeviceEnvironment.profile,
        ).join(columns.device)  # fmt: skip
        if device_id is not None:
            query = query.where(models.DeviceEnvironment.device_id == device_id)
        if sha256 is not None:
            query = query.where(columns.artifacts.any(models.MeasuredArtifact.sha256 == sha256))
        if runtime is not None:
            query = query.where(columns.runtime == runtime)
        if since is not None:
            query = query.where(columns.created_at >= since)
        query = query.order_by(columns.created_at.desc(), columns.id.desc()).limit(limit)
        with self.reading() as session:
            rows = session.execute(query).all()
            artifacts: dict[int, list[models.MeasuredArtifact]] = {row.id: [] for row in rows}
            measured = models.MeasuredArtifact
            for found in session.scalars(
                select(measured).where(measured.measurement_id.in_(list(artifacts))).order_by(measured.position)
            ):
                artifacts[found.measurement_id].append(found)
            return tuple(
                MeasurementSummary(
                    id=row.id,
                    created_at=row.created_at,
                    device_id=row.device_id,
                    profile=row.profile,
                    runtime=row.runtime,
                    runtime_version=row.runtime_version,
                    threads=row.threads,
                    artifacts=tuple(artifact.sha256 for artifact in artifacts[row.id]),
                    artifact_names=tuple(artifact.name for artifact in artifacts[row.id]),
                    verdicts=tuple(tuple(artifact.verdicts) for artifact in artifacts[row.id]),
                )
                for row in rows
            )

    def add_compression(self, record: Mapping[str, Any], *, device: DeviceInfo | None = None) -> int:
        """Keep a compression's JSON document and return its id. `target`, `plan`, `met` and `model` are read from it."""
        missing = [key for key in ("target", "plan", "met") if key not in record]
        if missing:
            raise ValueError(f"the record of a compression lacks {', '.join(missing)}")
        with self.writing() as session:
            row = models.Compression(
                created_at=datetime.now(timezone.utc),
                uuid=uuid.uuid4().hex,
                device_environment_id=(
                    None if device is None else device_row(session.connection(), device_facts(device))
                ),
                model=record.get("model"),
                target=record["target"],
                met=record["met"],
                plan=record["plan"],
                record=dict(record),
            )
            session.add(row)
            session.flush()
            return row.id

    def list_compressions(self, *, limit: int | None = None) -> tuple[StoredCompression, ...]:
        """Return compressions, the newest first."""
        query = select(models.Compression).order_by(models.Compression.id.desc()).limit(limit)
        with self.reading() as session:
            return tuple(
                StoredCompression(
                    id=row.id,
                    created_at=row.created_at,
                    model=row.model,
                    target=row.target,
                    met=row.met,
                    plan=row.plan,
                    record=row.record,
                )
                for row in session.scalars(query)
            )

    def put_device_fact(self, device_key: str, kind: str, value: Mapping[str, Any]) -> None:
        """Keep what was learned of a device, in place of what was known. The key names all that it depends on."""
        with self.writing() as session:
            row = session.scalars(_fact(device_key, kind)).one_or_none()
            if row is None:
                row = models.DeviceFact(device_key=device_key, kind=kind)
                session.add(row)
            row.value = dict(value)
            row.updated_at = datetime.now(timezone.utc)

    def get_device_fact(self, device_key: str, kind: str) -> dict[str, Any] | None:
        """Return what was learned last, None if nothing was."""
        with self.reading() as session:
            row = session.scalars(_fact(device_key, kind)).one_or_none()
            return None if row is None else dict(row.value)

    def list_device_facts(self, kind_prefix: str = "") -> tuple[StoredFact, ...]:
        """Return the facts of all devices whose kind begins with `kind_prefix`, by key and kind."""
        query = select(models.DeviceFact).order_by(models.DeviceFact.device_key, models.DeviceFact.kind)
        with self.reading() as session:
            return tuple(
                StoredFact(device_key=row.device_key, kind=row.kind, value=dict(row.value), updated_at=row.updated_at)
                for row in session.scalars(query.where(models.DeviceFact.kind.startswith(kind_prefix, autoescape=True)))
            )

    @property
    def engine(self) -> Engine:
        """The engine of SQLAlchemy behind the history, for modules of this package."""
        return self._engine

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A session for reading. Raises HistoryUnavailable."""
        with self._refusals("read"), Session(self._engine) as session:
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction: what the block did is on disk after it, all or nothing. Raises HistoryUnavailable."""
        # BEGIN IMMEDIATE on SQLite: a transaction that reads first and writes later fails at once if another
        # wrote between.
        immediate = self._engine.execution_options(immediate=True)
        with self._refusals("write to"), Session(immediate) as session, session.begin():
            yield session

    @contextmanager
    def _refusals(self, doing: str) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            if not is_refusal(error):
                raise
            raise refusal(self._engine.url, error, doing) from error
        except PoolTimeout as error:
            raise refusal(self._engine.url, error, doing) from error


def _fact(device_key: str, kind: str) -> Any:
    return select(models.DeviceFact).where(models.DeviceFact.device_key == device_key, models.DeviceFact.kind == kind)
