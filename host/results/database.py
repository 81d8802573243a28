"""Opening the database behind the history, and putting its refusals into words."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from device_agent.contract.errors import StableError
from host.results.schema import HEAD, revision_of, upgrade

#: The history that commands use where no --store was given: a database URL.
VARIABLE = "BOARDFIT_STORE"
BUSY_TIMEOUT_MS = 30_000
#: Any constant number: two hosts that migrate a PostgreSQL database at once take the same lock.
MIGRATION_LOCK = 0x626F617264
#: How long a new connection to a server may take before it counts as unreachable.
CONNECT_TIMEOUT_S = 10
#: Connections to a server that one process has at most; further threads wait for one.
CONNECTIONS = 20


class HistoryUnavailable(StableError):
    """The database of the history cannot be opened, or refuses to be read or written."""


def default_path() -> Path:
    """Return the file of the user's own history."""
    from platformdirs import user_data_path

    return user_data_path("boardfit") / "history.sqlite"


def database_url(given: str | None = None) -> URL:
    """Return where the history is: as given, or by the environment variable BOARDFIT_STORE, or the user's own file.

    Raises HistoryUnavailable for what is no URL; no message has a password in it.
    """
    text_ = given if given is not None else os.environ.get(VARIABLE) or None
    if text_ is None:
        return URL.create("sqlite", database=str(default_path()))
    try:
        url = make_url(text_)
    except (ArgumentError, ValueError) as error:
        raise HistoryUnavailable(
            f"cannot use {without_password(text_)!r} as a database URL; sqlite:///FILE and "
            "postgresql+psycopg://USER@HOST/DATABASE are known"
        ) from error
    # SQLAlchemy would take another driver than ours for the bare name.
    return url.set(drivername="postgresql+psycopg") if url.drivername in ("postgresql", "postgres") else url


def without_password(url: str) -> str:
    """Return the text of a URL, be it a correct one or not, with *** for a password in it."""
    hidden = re.sub(r"(://[^:/@]*:).*@", r"\1***@", url)
    return re.sub(r"(?i)(password=)[^&\s]*", r"\1***", hidden)


def shown(url: URL) -> str:
    """Return a URL as it may be printed."""
    return without_password(url.render_as_string(hide_password=True))


def open_database(url: str | None = None) -> Engine:
    """Return an engine whose database has this version's schema. Raises DatabaseTooNew, HistoryUnavailable."""
    where = database_url(url)
    if where.get_backend_name() == "sqlite" and url is None and VARIABLE not in os.environ:
        _make_folder(default_path().parent)
    engine = _engine(where)
    try:
        with engine.connect() as connection:
            behind = revision_of(connection) != HEAD
        if behind:
            with engine.execution_options(immediate=True).begin() as connection:
                if engine.dialect.name == "postgresql":
                    connection.execute(text(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})"))
                upgrade(connection, where=shown(where))
    except DBAPIError as error:
        engine.dispose()
        raise refusal(where, error, "open") from error
    except BaseException:
        engine.dispose()
        raise
    return engine


def refusal(url: URL, error: DBAPIError | PoolTimeout, doing: str) -> HistoryUnavailable:
    """Return what to raise where a database refuses to be opened, read or written (`doing`): what, where, and what to do."""
    reason = str(error.orig).strip() if isinstance(error, DBAPIError) else "all connections stayed in use for 30 s"
    what = f"cannot {doing} the history at {shown(url)}: {' '.join(without_password(reason).split())}"
    if url.get_backend_name() != "sqlite":
        advice = (
            "See that the server runs, that the address and the user's rights are right, and that its disk has space"
        )
    elif "locked" in reason:
        advice = "Another process has been writing to it for long; wait for it, or end it"
    elif "readonly" in reason or "read-only" in reason:
        advice = "Make the file and its folder writable for this user"
    elif doing == "open" and "not a database" in reason:
        advice = "If the file is damaged, move it away; `host bench --no-store` measures without a history"
    elif doing == "open" and "unable to open" not in reason:
        advice = "See whether there is space, and whether the file is whole; if it is damaged, move it away"
    else:
        advice = "Free some space there, or set XDG_DATA_HOME to another place, then repeat the command"
    return HistoryUnavailable(f"{what}. {advice}.")


def is_refusal(error: DBAPIError) -> bool:
    """Say whether the database refused, in contrast to a statement that is wrong or broke a constraint."""
    kind = type(error).__name__
    state = getattr(error.orig, "sqlstate", None)
    return kind in ("OperationalError", "InternalError", "InterfaceError", "DatabaseError") or state == "42501"


def _engine(where: URL) -> Engine:
    try:
        if where.get_backend_name() == "sqlite":
            engine = create_engine(where)
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
            return engine
        return create_engine(
            where,
            pool_pre_ping=True,
            pool_size=CONNECTIONS,
            max_overflow=0,
            connect_args={"connect_timeout": CONNECT_TIMEOUT_S},
        )
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        missing = isinstance(error, ImportError) and where.drivername == "postgresql+psycopg"
        advice = "; PostgreSQL needs `pip install 'boardfit[postgresql]'`" if missing else ""
        raise HistoryUnavailable(f"cannot use {shown(where)!r} as a database URL: {error}{advice}") from error


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HistoryUnavailable(
            f"cannot make the folder of the history, {folder}: {error.strerror}; set XDG_DATA_HOME to another place"
        ) from error


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
