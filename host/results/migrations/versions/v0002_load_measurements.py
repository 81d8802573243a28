"""Measurements under load."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Go from the version before to this one."""
    op.create_table(
        "load_measurements",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("device_environment_id", sa.Integer(), nullable=False),
        sa.Column("host_environment_id", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=400), nullable=False),
        sa.Column("runtime", sa.String(length=100), nullable=False),
        sa.Column("runtime_version", sa.String(length=100), nullable=False),
        sa.Column("threads", sa.Integer(), nullable=False),
        sa.Column("streams", sa.Integer(), nullable=False),
        sa.Column("highest_rate_per_s", sa.Double(), nullable=True),
        sa.Column("verdicts", sa.JSON(), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=False),
        sa.Column("served", sa.LargeBinary(), nullable=False),
        sa.Column("reading_names", sa.JSON(), nullable=False),
        sa.Column("readings", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["device_environment_id"],
            ["device_environments.id"],
            name=op.f("fk_load_measurements_device_environment_id_device_environments"),
        ),
        sa.ForeignKeyConstraint(
            ["host_environment_id"],
            ["host_environments.id"],
            name=op.f("fk_load_measurements_host_environment_id_host_environments"),
        ),
        sa.ForeignKeyConstraint(["sha256"], ["artifacts.sha256"], name=op.f("fk_load_measurements_sha256_artifacts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_load_measurements")),
    )
    with op.batch_alter_table("load_measurements") as batch_op:
        batch_op.create_index(batch_op.f("ix_load_measurements_created_at"), ["created_at"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_load_measurements_device_environment_id"), ["device_environment_id"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_load_measurements_sha256"), ["sha256"], unique=False)


def downgrade() -> None:
    """Go back to the version before."""
    with op.batch_alter_table("load_measurements") as batch_op:
        batch_op.drop_index(batch_op.f("ix_load_measurements_sha256"))
        batch_op.drop_index(batch_op.f("ix_load_measurements_device_environment_id"))
        batch_op.drop_index(batch_op.f("ix_load_measurements_created_at"))

    op.drop_table("load_measurements")
