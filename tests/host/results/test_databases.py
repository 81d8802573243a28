"""Where the history is, and what is said when a database cannot be used."""

from __future__ import annotations

import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from databases import KINDS, VARIABLE, empty_database
from made_up import DEVICE, measured
from sqlalchemy import create_engine, make_url, text

from host.results import database
from host.results.database import HistoryUnavailable, database_url, default_path, shown, without_password
from host.results.store import ResultStore

needs_server = pytest.mark.skipif(VARIABLE not in os.environ, reason=f"{VARIABLE} names no server")


def test_the_environment_names_a_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(database.VARIABLE, raising=False)
    assert database_url().database == str(default_path())
    monkeypatch.setenv(database.VARIABLE, f"sqlite:///{tmp_path}/ours.sqlite")
    with ResultStore.open() as store:
        store.add_measurement(measured(1.0), device=DEVICE, artifact_names=("a",))
    assert (tmp_path / "ours.sqlite").stat().st_size
    assert database_url("sqlite:///given").database == "given"
    assert database_url("postgresql://host/db").drivername == "postgresql+psycopg"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://me:s3cret@127.0.0.1:1/db",
        "postgresql+psycopg://me:s3cr@et@127.0.0.1:x/db",
        "postgresql+nosuch://me:s3cret@h/db",
        "nosuch://me:s3cret@h/db?password=s3cret",
        "postgresql://127.0.0.1:1/db?user=me&password=s3cret",
    ],
)
def test_no_message_has_a_password(url: str) -> None:
    with pytest.raises(HistoryUnavailable) as caught:
        ResultStore.open(url)
    assert "s3cr" not in str(caught.value)
    assert "s3cr" not in without_password(url)


def test_an_unreachable_server_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(
        HistoryUnavailable, match=r"cannot open the history at .*127\.0\.0\.1:1/db: .*refused.* See that the"
    ):
        ResultStore.open("postgresql+psycopg://me:s3cret@127.0.0.1:1/db")
    assert shown(make_url("postgresql+psycopg://me:s3cret@h/db")) == "postgresql+psycopg://me:***@h/db"


@pytest.mark.parametrize("kind", KINDS)
def test_hosts_that_open_a_new_history_at_once_make_one(kind: str, tmp_path: Path) -> None:
    def use(url: str) -> int:
        with ResultStore.open(url) as store:
            return store.add_measurement(measured(1.0), device=DEVICE, artifact_names=("a",))

    with empty_database(kind, tmp_path) as url, ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(use, [url] * 4)) == [1, 2, 3, 4]


def test_a_history_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    path = tmp_path / "history.sqlite"
    with ResultStore.open(f"sqlite:///{path}") as store:
        store.put_device_fact("a", "b", {})
    with ResultStore.open(f"sqlite:///file:{path}?mode=ro&uri=true") as store:
        assert store.get_device_fact("a", "b") == {}
        with pytest.raises(HistoryUnavailable, match=r"cannot write to .*readonly.*writable for this user"):
            store.put_device_fact("a", "b", {"x": 1})
        assert store.get_device_fact("a", "b") == {}


def test_a_history_that_another_process_holds_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 10)
    path = tmp_path / "history.sqlite"
    with ResultStore.open(f"sqlite:///{path}") as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(HistoryUnavailable, match=r"locked\. Another process has been writing"):
            store.put_device_fact("a", "b", {})
        other.execute("ROLLBACK")
        other.close()
        store.put_device_fact("a", "b", {})


@needs_server
def test_a_server_that_went_away_is_named_and_found_again(tmp_path: Path) -> None:
    others = "datname = current_database() AND pid <> pg_backend_pid()"
    with empty_database("postgresql", tmp_path) as url, ResultStore.open(url) as store:
        admin = create_engine(url)

        def write() -> None:
            with store.writing() as session:
                session.execute(text("SELECT 1"))
                with admin.begin() as connection:
                    connection.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"))
                session.execute(text("SELECT 1"))

        with pytest.raises(HistoryUnavailable, match=r"cannot write to the history at .*See that the server runs"):
            write()
        admin.dispose()
        store.put_device_fact("a", "b", {})
