"""The tables. A change here needs a migration in migrations/versions; a test compares the two."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class UtcDateTime(TypeDecorator[datetime]):
    """A moment, stored without a zone as UTC: SQLite has no type for one with a zone."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC; a moment without a zone is refused."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        return value.astimezone(timezone.utc).replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Say that it is UTC."""
        return None if value is None else value.replace(tzinfo=timezone.utc)


class Base(DeclarativeBase):
    """Constraints have names, since migrations address them by name."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {dict[str, Any]: JSON, list[Any]: JSON, datetime: UtcDateTime, bytes: LargeBinary}  # noqa: RUF012


class DeviceEnvironment(Base):
    """What a device said of itself. One row per different answer, found by the digest of its JSON form."""

    __tablename__ = "device_environments"

    id: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    device_id: Mapped[str] = mapped_column(String(200), index=True)
    profile: Mapped[str | None] = mapped_column(String(200))
    info: Mapped[dict[str, Any]]


class HostEnvironment(Base):
    """What the measuring host was. One row per different one."""

    __tablename__ = "host_environments"

    id: Mapped[int] = mapped_column(primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), unique=True)
    info: Mapped[dict[str, Any]]


class Artifact(Base):
    """A file that was measured, by its hash, and the name under which it was measured last."""

    __tablename__ = "artifacts"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(400))


class Measurement(Base):
    """A finished job. `runs` and `readings` have the layouts of host.results.samples; statistics are derived from them.

    `uuid` is the same in every database that the measurement was imported into. It stands last and without NOT NULL: SQLite adds
    such a column to a large table in no time.
    """

    __tablename__ = "measurements"
    __table_args__ = (Index("ix_measurements_uuid", "uuid", unique=True),)

    id: Mapped[int] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(index=True)
    device_environment_id: Mapped[int] = mapped_column(ForeignKey("device_environments.id"), index=True)
    host_environment_id: Mapped[int] = mapped_column(ForeignKey("host_environments.id"))
    runtime: Mapped[str] = mapped_column(String(100))
    runtime_version: Mapped[str] = mapped_column(String(100))
    threads: Mapped[int]
    request: Mapped[dict[str, Any]]
    result: Mapped[dict[str, Any]]
    runs: Mapped[bytes]
    reading_names: Mapped[list[Any]]
    readings: Mapped[bytes]
    uuid: Mapped[str | None] = mapped_column(String(32))

    device: Mapped[DeviceEnvironment] = relationship()
    host: Mapped[HostEnvironment] = relationship()
    artifacts: Mapped[list[MeasuredArtifact]] = relationship(order_by="MeasuredArtifact.position")


class MeasuredArtifact(Base):
    """An artifact's place in a measurement: the line by which a history is looked through, without a look at the samples.

    What repeats columns of the measurement is here for the indexes. From `derived` on the columns are a cache of what
    host.results.derived makes of the samples, in its version `derived`; None before it was made.
    """

    __tablename__ = "measured_artifacts"
    __table_args__ = (
        Index("ix_measured_artifacts_newest", "created_at", "measurement_id", "position"),
        Index("ix_measured_artifacts_device", "device_id", "created_at", "measurement_id", "position"),
        Index("ix_measured_artifacts_artifact", "sha256", "created_at", "measurement_id", "position"),
        Index("ix_measured_artifacts_sweep", "sweep_id", "created_at", "measurement_id", "position"),
    )

    measurement_id: Mapped[int] = mapped_column(ForeignKey("measurements.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(ForeignKey("artifacts.sha256"))
    name: Mapped[str] = mapped_column(String(400))
    verdicts: Mapped[list[Any]]
    created_at: Mapped[datetime]
    device_environment_id: Mapped[int] = mapped_column(ForeignKey("device_environments.id"))
    device_id: Mapped[str] = mapped_column(String(200))
    device_name: Mapped[str | None] = mapped_column(String(200))
    runtime: Mapped[str] = mapped_column(String(100))
    runtime_version: Mapped[str] = mapped_column(String(100))
    threads: Mapped[int]
    together: Mapped[int]
    sweep_id: Mapped[int | None] = mapped_column(ForeignKey("sweeps.id"))
    derived: Mapped[int | None]
    runs: Mapped[int | None]
    runs_undisturbed: Mapped[int | None]
    p50_ns: Mapped[float | None] = mapped_column(Double)
    p90_ns: Mapped[float | None] = mapped_column(Double)
    p99_ns: Mapped[float | None] = mapped_column(Double)
    min_ns: Mapped[float | None] = mapped_column(Double)
    mean_ns: Mapped[float | None] = mapped_column(Double)
    undisturbed_p50_ns: Mapped[float | None] = mapped_column(Double)
    peak_memory_bytes: Mapped[int | None] = mapped_column(BigInteger)
    peak_rss_bytes: Mapped[int | None] = mapped_column(BigInteger)
    energy_gross_j: Mapped[float | None] = mapped_column(Double)
    energy_net_j: Mapped[float | None] = mapped_column(Double)


class LoadMeasurement(Base):
    """A finished load job. `served` and `readings` have the layouts of host.results.samples; statistics are derived from them.

    `highest_rate_per_s` is what a search found, by which the history can be looked through.
    """

    __tablename__ = "load_measurements"
    __table_args__ = (Index("ix_load_measurements_uuid", "uuid", unique=True),)

    id: Mapped[int] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(index=True)
    device_environment_id: Mapped[int] = mapped_column(ForeignKey("device_environments.id"), index=True)
    host_environment_id: Mapped[int] = mapped_column(ForeignKey("host_environments.id"))
    sha256: Mapped[str] = mapped_column(ForeignKey("artifacts.sha256"), index=True)
    name: Mapped[str] = mapped_column(String(400))
    runtime: Mapped[str] = mapped_column(String(100))
    runtime_version: Mapped[str] = mapped_column(String(100))
    threads: Mapped[int]
    streams: Mapped[int]
    highest_rate_per_s: Mapped[float | None] = mapped_column(Double)
    verdicts: Mapped[list[Any]]
    request: Mapped[dict[str, Any]]
    result: Mapped[dict[str, Any]]
    served: Mapped[bytes]
    reading_names: Mapped[list[Any]]
    readings: Mapped[bytes]
    uuid: Mapped[str | None] = mapped_column(String(32))

    device: Mapped[DeviceEnvironment] = relationship()
    host: Mapped[HostEnvironment] = relationship()


class Compression(Base):
    """A finished compression: what was asked, what was planned, whether it was met; `record` is its whole JSON document."""

    __tablename__ = "compressions"
    __table_args__ = (Index("ix_compressions_uuid", "uuid", unique=True),)

    id: Mapped[int] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(index=True)
    device_environment_id: Mapped[int | None] = mapped_column(ForeignKey("device_environments.id"))
    model: Mapped[str | None] = mapped_column(String(400))
    target: Mapped[dict[str, Any]]
    met: Mapped[bool | None]
    plan: Mapped[dict[str, Any]]
    record: Mapped[dict[str, Any]]
    uuid: Mapped[str | None] = mapped_column(String(32))


class DeviceFact(Base):
    """Something learned about a device that holds until its key changes: which widths it likes, for instance."""

    __tablename__ = "device_facts"
    __table_args__ = (UniqueConstraint("device_key", "kind"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    device_key: Mapped[str] = mapped_column(String(400))
    kind: Mapped[str] = mapped_column(String(100))
    updated_at: Mapped[datetime]
    value: Mapped[dict[str, Any]]


class Sweep(Base):
    """A sweep as it was created."""

    __tablename__ = "sweeps"
    __table_args__ = (Index("ix_sweeps_uuid", "uuid", unique=True),)

    id: Mapped[int] = mapped_column(primary_key=True)
    uuid: Mapped[str] = mapped_column(String(32))
    name: Mapped[str] = mapped_column(String(400), index=True)
    created_at: Mapped[datetime]
    seed: Mapped[int] = mapped_column(BigInteger)
    document: Mapped[dict[str, Any]]


class SweepJob(Base):
    """A job of a sweep: first what was asked for, then where it stands.

    Times that end in `_s` are seconds since 1970 on the clock of the database. A job is free to be claimed from `not_before_s`
    on; a claim of it holds until `claimed_until_s`, and is good for as long as `token` stays what it was.
    """

    __tablename__ = "sweep_jobs"
    __table_args__ = (
        UniqueConstraint("sweep_id", "key"),
        Index("ix_sweep_jobs_turn", "sweep_id", "state", "device", "position"),
        Index("ix_sweep_jobs_measurement_id", "measurement_id"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    sweep_id: Mapped[int] = mapped_column(ForeignKey("sweeps.id"))
    key: Mapped[str] = mapped_column(String(400))
    position: Mapped[int]
    artifact_name: Mapped[str] = mapped_column(String(400))
    artifact_path: Mapped[str] = mapped_column(String(4096))
    sha256: Mapped[str] = mapped_column(String(64))
    wanted_device: Mapped[str] = mapped_column(String(200))
    options: Mapped[dict[str, Any]]
    repeat: Mapped[int]
    movable_to: Mapped[list[Any]]
    state: Mapped[str] = mapped_column(String(20))
    device: Mapped[str] = mapped_column(String(200))
    attempts: Mapped[int]
    token: Mapped[int]
    controller: Mapped[str | None] = mapped_column(String(200))
    claimed_until_s: Mapped[float | None] = mapped_column(Double)
    not_before_s: Mapped[float] = mapped_column(Double)
    error: Mapped[str | None] = mapped_column(Text)
    measurement_id: Mapped[int | None] = mapped_column(ForeignKey("measurements.id"))
    finished_s: Mapped[float | None] = mapped_column(Double)


class SweepDevice(Base):
    """Who works on a device of a sweep, and until when it is set aside, and why."""

    __tablename__ = "sweep_devices"

    sweep_id: Mapped[int] = mapped_column(ForeignKey("sweeps.id"), primary_key=True)
    device: Mapped[str] = mapped_column(String(200), primary_key=True)
    controller: Mapped[str | None] = mapped_column(String(200))
    aside_until_s: Mapped[float | None] = mapped_column(Double)
    aside_reason: Mapped[str | None] = mapped_column(Text)


class SweepController(Base):
    """A process that works on a sweep, until `expires_s`. `process` says which one, so that its death can be seen."""

    __tablename__ = "sweep_controllers"

    sweep_id: Mapped[int] = mapped_column(ForeignKey("sweeps.id"), primary_key=True)
    controller: Mapped[str] = mapped_column(String(200), primary_key=True)
    expires_s: Mapped[float] = mapped_column(Double)
    process: Mapped[dict[str, Any]]
