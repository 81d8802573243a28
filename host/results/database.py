"""Opening the database behind the history."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError, OperationalError

from device_agent.contract.errors import StableError
from host.results.schema import HEAD, revision_of, upgrade

BUSY_TIMEOUT_MS = 30_000
#: Any constant number: two hosts that migrate a PostgreSQL database at once take the same lock.
MIGRATION_LOCK = 0x626F617264


class HistoryUnavailable(StableError):
    """The database of the history cannot be opened."""


def default_path() -> Path:
    """Return the file of the user's own history."""
    from platformdirs import user_data_path

    return user_data_path("boardfit") / "history.sqlite"


def open_database(url: str | None = None) -> Engine:
    """Return an engine whose database has this version's schema. Raises DatabaseTooNew, HistoryUnavailable."""
    if url is None:
        path = default_path()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HistoryUnavailable(
                f"cannot make the folder of the history, {path.parent}: {error.strerror}; set XDG_DATA_HOME to another place"
            ) from error
        url = f"sqlite:///{path}"
    try:
        where = make_url(url)
        engine = create_engine(where)
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise HistoryUnavailable(f"cannot use {url!r} as a database URL: {error}") from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    shown = where.render_as_string(hide_password=True)
    try:
        with engine.connect() as connection:
            behind = revision_of(connection) != HEAD
        if behind:
            with engine.execution_options(immediate=True).begin() as connection:
                if engine.dialect.name == "postgresql":
                    connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
                upgrade(connection, where=shown)
    except (OperationalError, DatabaseError) as error:
        engine.dispose()
        raise HistoryUnavailable(
            f"cannot open the history at {shown}: {error.orig}. If the file is damaged, move it away; "
            "`host bench --no-store` measures without a history."
        ) from error
    except BaseException:
        engine.dispose()
        raise
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # Python's sqlite3 begins transactions late and not before DDL; with None it leaves them to _begin_sqlite.
    connection.isolation_level = None
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",  # in WAL mode, anything less may lose commits at a power cut
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")
