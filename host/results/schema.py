"""Bringing a database to the schema of this version."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from device_agent.contract.errors import StableError

if TYPE_CHECKING:
    from alembic.config import Config

#: The newest revision in migrations/versions. Kept here so that an up-to-date database is opened without
#: Alembic.
HEAD = "0003"


class DatabaseTooNew(StableError):
    """The database was written by a newer version of Boardfit."""


def revision_of(connection: Connection) -> str | None:
    """Return the database's revision, None for an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def alembic_config(connection: Connection | None = None) -> Config:
    """Return Alembic's configuration for the migrations in this package."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def upgrade(connection: Connection, *, where: str) -> None:
    """Migrate the database behind `connection`, in its transaction, to HEAD. Raises DatabaseTooNew, naming `where`."""
    from alembic import command
    from alembic.script import ScriptDirectory

    revision = revision_of(connection)
    if revision == HEAD:
        return
    config = alembic_config(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if revision is not None and revision not in known:
        raise DatabaseTooNew(
            f"the history at {where} has schema {revision}, which this boardfit (schema {HEAD}) does not "
            "know: a newer version wrote it. Upgrade this host with `pip install --upgrade boardfit`, or go without "
            "it: --no-store, or another --store."
        )
    command.upgrade(config, "head")
    from host.results.derived import refresh

    refresh(connection)
