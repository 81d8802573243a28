"""The tables. A change here needs a migration in migrations/versions; a test compares the two."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from sqlalchemy import (
    JSON,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
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
    """A finished job. `runs` and `readings` have the layouts of host.results.samples; statistics are derived from them."""

    __tablename__ = "measurements"

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

    device: Mapped[DeviceEnvironment] = relationship()
    host: Mapped[HostEnvironment] = relationship()
    artifacts: Mapped[list[MeasuredArtifact]] = relationship(order_by="MeasuredArtifact.position")


class MeasuredArtifact(Base):
    """An artifact's place in a measurement, its name at the time, and the codes of its verdicts."""

    __tablename__ = "measured_artifacts"
    __table_args__ = (Index("ix_measured_artifacts_sha256", "sha256"),)

    measurement_id: Mapped[int] = mapped_column(ForeignKey("measurements.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(ForeignKey("artifacts.sha256"))
    name: Mapped[str] = mapped_column(String(400))
    verdicts: Mapped[list[Any]]


class LoadMeasurement(Base):
    """A finished load job. `served` and `readings` have the layouts of host.results.samples; statistics are derived from them.

    `highest_rate_per_s` is what a search found, by which the history can be looked through.
    """

    __tablename__ = "load_measurements"

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

    device: Mapped[DeviceEnvironment] = relationship()
    host: Mapped[HostEnvironment] = relationship()


class Compression(Base):
    """A finished compression: what was asked, what was planned, whether it was met; `record` is its whole JSON document."""

    __tablename__ = "compressions"

    id: Mapped[int] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(index=True)
    device_environment_id: Mapped[int | None] = mapped_column(ForeignKey("device_environments.id"))
    model: Mapped[str | None] = mapped_column(String(400))
    target: Mapped[dict[str, Any]]
    met: Mapped[bool | None]
    plan: Mapped[dict[str, Any]]
    record: Mapped[dict[str, Any]]


class DeviceFact(Base):
    """Something learned about a device that holds until its key changes: which widths it likes, for instance."""

    __tablename__ = "device_facts"
    __table_args__ = (UniqueConstraint("device_key", "kind"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    device_key: Mapped[str] = mapped_column(String(400))
    kind: Mapped[str] = mapped_column(String(100))
    updated_at: Mapped[datetime]
    value: Mapped[dict[str, Any]]
