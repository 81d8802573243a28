"""The first schema: measurements with their environments and artifacts, compressions, facts about devices."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Go from the version before to this one."""
    op.create_table(
        "artifacts",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=400), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_artifacts")),
    )
    op.create_table(
        "device_environments",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("device_id", sa.String(length=200), nullable=False),
        sa.Column("profile", sa.String(length=200), nullable=True),
        sa.Column("info", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device_environments")),
        sa.UniqueConstraint("digest", name=op.f("uq_device_environments_digest")),
    )
    with op.batch_alter_table("device_environments") as batch_op:
        batch_op.create_index(batch_op.f("ix_device_environments_device_id"), ["device_id"], unique=False)

    op.create_table(
        "device_facts",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("device_key", sa.String(length=400), nullable=False),
        sa.Column("kind", sa.String(length=100), nullable=False),
        sa.Column("updated_at", sa.DateTime(), nullable=False),
        sa.Column("value", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_device_facts")),
        sa.UniqueConstraint("device_key", "kind", name=op.f("uq_device_facts_device_key")),
    )
    op.create_table(
        "host_environments",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("info", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_host_environments")),
        sa.UniqueConstraint("digest", name=op.f("uq_host_environments_digest")),
    )
    op.create_table(
        "compressions",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("device_environment_id", sa.Integer(), nullable=True),
        sa.Column("model", sa.String(length=400), nullable=True),
        sa.Column("target", sa.JSON(), nullable=False),
        sa.Column("met", sa.Boolean(), nullable=True),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("record", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["device_environment_id"],
            ["device_environments.id"],
            name=op.f("fk_compressions_device_environment_id_device_environments"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_compressions")),
    )
    with op.batch_alter_table("compressions") as batch_op:
        batch_op.create_index(batch_op.f("ix_compressions_created_at"), ["created_at"], unique=False)

    op.create_table(
        "measurements",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("device_environment_id", sa.Integer(), nullable=False),
        sa.Column("host_environment_id", sa.Integer(), nullable=False),
        sa.Column("runtime", sa.String(length=100), nullable=False),
        sa.Column("runtime_version", sa.String(length=100), nullable=False),
        sa.Column("threads", sa.Integer(), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=False),
        sa.Column("runs", sa.LargeBinary(), nullable=False),
        sa.Column("reading_names", sa.JSON(), nullable=False),
        sa.Column("readings", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["device_environment_id"],
            ["device_environments.id"],
            name=op.f("fk_measurements_device_environment_id_device_environments"),
        ),
        sa.ForeignKeyConstraint(
            ["host_environment_id"],
            ["host_environments.id"],
            name=op.f("fk_measurements_host_environment_id_host_environments"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_measurements")),
    )
    with op.batch_alter_table("measurements") as batch_op:
        batch_op.create_index(batch_op.f("ix_measurements_created_at"), ["created_at"], unique=False)
        batch_op.create_index(
            batch_op.f("ix_measurements_device_environment_id"), ["device_environment_id"], unique=False
        )

    op.create_table(
        "measured_artifacts",
        sa.Column("measurement_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=400), nullable=False),
        sa.Column("verdicts", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(
            ["measurement_id"],
            ["measurements.id"],
            name=op.f("fk_measured_artifacts_measurement_id_measurements"),
        ),
        sa.ForeignKeyConstraint(["sha256"], ["artifacts.sha256"], name=op.f("fk_measured_artifacts_sha256_artifacts")),
        sa.PrimaryKeyConstraint("measurement_id", "position", name=op.f("pk_measured_artifacts")),
    )
    with op.batch_alter_table("measured_artifacts") as batch_op:
        batch_op.create_index("ix_measured_artifacts_sha256", ["sha256"], unique=False)


def downgrade() -> None:
    """Go back to the version before."""
    with op.batch_alter_table("measured_artifacts") as batch_op:
        batch_op.drop_index("ix_measured_artifacts_sha256")

    op.drop_table("measured_artifacts")
    with op.batch_alter_table("measurements") as batch_op:
        batch_op.drop_index(batch_op.f("ix_measurements_device_environment_id"))
        batch_op.drop_index(batch_op.f("ix_measurements_created_at"))

    op.drop_table("measurements")
    with op.batch_alter_table("compressions") as batch_op:
        batch_op.drop_index(batch_op.f("ix_compressions_created_at"))

    op.drop_table("compressions")
    op.drop_table("host_environments")
    op.drop_table("device_facts")
    with op.batch_alter_table("device_environments") as batch_op:
        batch_op.drop_index(batch_op.f("ix_device_environments_device_id"))

    op.drop_table("device_environments")
    op.drop_table("artifacts")
