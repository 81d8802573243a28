"""Databases for tests of the history: a file of SQLite, and a fresh PostgreSQL database where the environment names a server."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text

#: The URL of a PostgreSQL server whose user may create databases; .ci/postgres starts one.
VARIABLE = "BOARDFIT_TEST_POSTGRES"
KINDS = [
    "sqlite",
    pytest.param(
        "postgresql", marks=pytest.mark.skipif(VARIABLE not in os.environ, reason=f"{VARIABLE} names no server")
    ),
]


@contextmanager
def empty_database(kind: str, folder: Path) -> Iterator[str]:
    """The URL of a new database; PostgreSQL's is dropped afterwards, whoever is still connected."""
    if kind == "sqlite":
        yield f"sqlite:///{folder}/history.sqlite"
        return
    server = make_url(os.environ[VARIABLE])
    name = f"test_{uuid.uuid4().hex}"
    admin = create_engine(server, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield server.set(database=name).render_as_string(hide_password=False)
    finally:
        with admin.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        admin.dispose()


def let_pass(url: str, seconds: float) -> None:
    """Let time pass for what is stored of sweeps, without waiting: all its moments move into the past."""
    engine = create_engine(url)
    with engine.begin() as connection:
        for table, column in (
            ("sweep_jobs", "claimed_until_s"),
            ("sweep_jobs", "not_before_s"),
            ("sweep_devices", "aside_until_s"),
            ("sweep_controllers", "expires_s"),
        ):
            connection.execute(text(f"UPDATE {table} SET {column} = {column} - :s"), {"s": seconds})
    engine.dispose()
