"""Sweeps with their jobs, lines of the history with derived columns, and names that outlive a database."""

from __future__ import annotations

import uuid
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import TypeEngine

revision = "0003"
down_revision = "0002"

_NAMED = ("measurements", "load_measurements", "compressions")
_KNOWN: tuple[tuple[str, TypeEngine[Any]], ...] = (
    ("created_at", sa.DateTime()),
    ("device_environment_id", sa.Integer()),
    ("device_id", sa.String(length=200)),
    ("runtime", sa.String(length=100)),
    ("runtime_version", sa.String(length=100)),
    ("threads", sa.Integer()),
    ("together", sa.Integer()),
)
_MORE: tuple[tuple[str, TypeEngine[Any]], ...] = (
    ("device_name", sa.String(length=200)),
    ("sweep_id", sa.Integer()),
    *((name, sa.Integer()) for name in ("derived", "runs", "runs_undisturbed")),
    *((f"{name}_ns", sa.Double()) for name in ("p50", "p90", "p99", "min", "mean", "undisturbed_p50")),
    *((name, sa.BigInteger()) for name in ("peak_memory_bytes", "peak_rss_bytes")),
    *((name, sa.Double()) for name in ("energy_gross_j", "energy_net_j")),
)
_INDEXES = {"newest": "created_at", "device": "device_id", "artifact": "sha256", "sweep": "sweep_id"}
_FOREIGN = (
    (
        "fk_measured_artifacts_device_environment_id_device_environments",
        "device_environment_id",
        "device_environments",
    ),
    ("fk_measured_artifacts_sweep_id_sweeps", "sweep_id", "sweeps"),
)


def upgrade() -> None:
    """Go from the version before to this one."""
    _create_sweeps()
    for table in _NAMED:
        op.add_column(table, sa.Column("uuid", sa.String(length=32), nullable=True))
        _name_rows(table)
        op.create_index(f"ix_{table}_uuid", table, ["uuid"], unique=True)
    _create_jobs()
    _widen_lines()


def _name_rows(table: str) -> None:
    connection = op.get_bind()
    rows = sa.table(table, sa.column("id", sa.Integer), sa.column("uuid", sa.String))
    numbers = connection.execute(sa.select(rows.c.id)).scalars().all()
    if numbers:
        connection.execute(
            sa.update(rows).where(rows.c.id == sa.bindparam("number")).values(uuid=sa.bindparam("name")),
            [{"number": number, "name": uuid.uuid4().hex} for number in numbers],
        )


def _create_sweeps() -> None:
    op.create_table(
        "sweeps",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("uuid", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=400), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_sweeps"),
    )
    op.create_index("ix_sweeps_uuid", "sweeps", ["uuid"], unique=True)
    op.create_index("ix_sweeps_name", "sweeps", ["name"])


def _create_jobs() -> None:
    op.create_table(
        "sweep_jobs",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("sweep_id", sa.Integer(), nullable=False),
        sa.Column("key", sa.String(length=400), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("artifact_name", sa.String(length=400), nullable=False),
        sa.Column("artifact_path", sa.String(length=4096), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("wanted_device", sa.String(length=200), nullable=False),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("repeat", sa.Integer(), nullable=False),
        sa.Column("movable_to", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("device", sa.String(length=200), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("token", sa.Integer(), nullable=False),
        sa.Column("controller", sa.String(length=200), nullable=True),
        sa.Column("claimed_until_s", sa.Double(), nullable=True),
        sa.Column("not_before_s", sa.Double(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("measurement_id", sa.Integer(), nullable=True),
        sa.Column("finished_s", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.id"], name="fk_sweep_jobs_sweep_id_sweeps"),
        sa.ForeignKeyConstraint(
            ["measurement_id"], ["measurements.id"], name="fk_sweep_jobs_measurement_id_measurements"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_sweep_jobs"),
        sa.UniqueConstraint("sweep_id", "key", name="uq_sweep_jobs_sweep_id"),
    )
    op.create_index("ix_sweep_jobs_turn", "sweep_jobs", ["sweep_id", "state", "device", "position"])
    op.create_index("ix_sweep_jobs_measurement_id", "sweep_jobs", ["measurement_id"])
    op.create_table(
        "sweep_devices",
        sa.Column("sweep_id", sa.Integer(), nullable=False),
        sa.Column("device", sa.String(length=200), nullable=False),
        sa.Column("controller", sa.String(length=200), nullable=True),
        sa.Column("aside_until_s", sa.Double(), nullable=True),
        sa.Column("aside_reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.id"], name="fk_sweep_devices_sweep_id_sweeps"),
        sa.PrimaryKeyConstraint("sweep_id", "device", name="pk_sweep_devices"),
    )
    op.create_table(
        "sweep_controllers",
        sa.Column("sweep_id", sa.Integer(), nullable=False),
        sa.Column("controller", sa.String(length=200), nullable=False),
        sa.Column("expires_s", sa.Double(), nullable=False),
        sa.Column("process", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["sweep_id"], ["sweeps.id"], name="fk_sweep_controllers_sweep_id_sweeps"),
        sa.PrimaryKeyConstraint("sweep_id", "controller", name="pk_sweep_controllers"),
    )


def _widen_lines() -> None:
    """Add what repeats the measurement, fill it, then forbid that it is missing. Whoever opens fills the derived ones."""
    for name, kind in (*_KNOWN, *_MORE):
        op.add_column("measured_artifacts", sa.Column(name, kind, nullable=True))
    copied = ("created_at", "device_environment_id", "runtime", "runtime_version", "threads")
    assignments = ", ".join(
        f"{name} = (SELECT m.{name} FROM measurements m WHERE m.id = measured_artifacts.measurement_id)"
        for name in copied
    )
    op.execute(
        f"UPDATE measured_artifacts SET {assignments}, "
        "device_id = (SELECT d.device_id FROM measurements m JOIN device_environments d ON d.id = m.device_environment_id "
        "WHERE m.id = measured_artifacts.measurement_id), "
        "together = (SELECT count(*) FROM measured_artifacts o WHERE o.measurement_id = measured_artifacts.measurement_id)"
    )
    with op.batch_alter_table("measured_artifacts") as batch_op:
        for name, kind in _KNOWN:
            batch_op.alter_column(name, existing_type=kind, nullable=False)
        for name, column, other in _FOREIGN:
            batch_op.create_foreign_key(name, other, [column], ["id"])
    op.drop_index("ix_measured_artifacts_sha256", "measured_artifacts")
    for name, first in _INDEXES.items():
        columns = dict.fromkeys((first, "created_at", "measurement_id", "position"))
        op.create_index(f"ix_measured_artifacts_{name}", "measured_artifacts", list(columns))


def downgrade() -> None:
    """Go back to the version before."""
    for name in _INDEXES:
        op.drop_index(f"ix_measured_artifacts_{name}", "measured_artifacts")
    with op.batch_alter_table("measured_artifacts") as batch_op:
        for name, _, _ in _FOREIGN:
            batch_op.drop_constraint(name, type_="foreignkey")
        for name, _ in (*_KNOWN, *_MORE):
            batch_op.drop_column(name)
    op.create_index("ix_measured_artifacts_sha256", "measured_artifacts", ["sha256"])
    for table in ("sweep_controllers", "sweep_devices", "sweep_jobs", "sweeps"):
        op.drop_table(table)
    for table in _NAMED:
        op.drop_index(f"ix_{table}_uuid", table)
        with op.batch_alter_table(table) as batch_op:
            batch_op.drop_column("uuid")
