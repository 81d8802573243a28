"""Run by Alembic. Migrations are started by host.results.schema only, over a connection that it has opened."""

from __future__ import annotations

from alembic import context

from host.results.models import Base

# SQLite cannot alter most of a table; in batch mode Alembic copies it instead.
context.configure(
    connection=context.config.attributes["connection"], target_metadata=Base.metadata, render_as_batch=True
)
with context.begin_transaction():
    context.run_migrations()
