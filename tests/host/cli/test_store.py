"""`host store`: what is there, out and in again, and whether it is whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from made_up import DEVICE, measured
from sqlalchemy import text

from host.results.queue import StoreQueue
from host.results.store import ResultStore


@pytest.fixture
def history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a history with two measurements, which commands use by themselves."""
    url = f"sqlite:///{tmp_path}/ours.sqlite"
    with ResultStore.open(url) as store:
        for name in ("a.onnx", "b.onnx"):
            store.add_measurement(measured(1.0, blocks=5), device=DEVICE, artifact_names=(name,), device_name="desk")
    monkeypatch.setenv("BOARDFIT_STORE", url)
    return url


def test_info(host: Callable[..., Any], history: str) -> None:
    document = host("store", "info", "--json").document
    assert (document["url"], document["kind"], document["schema"]) == (history, "sqlite", 1)
    assert document["counts"]["measurements"] == document["counts"]["results"] == 2
    assert document["size_bytes"] > 0
    assert document["oldest"] < document["newest"]
    assert "2 of 1 artifacts on 1 devices" in host("store", "info").out


def test_out_and_in_again(host: Callable[..., Any], history: str, tmp_path: Path) -> None:
    file, other = str(tmp_path / "all.jsonl"), f"sqlite:///{tmp_path}/other.sqlite"
    document = host("store", "export", file, "--json").document
    assert document == {"schema": 1, "file": file, "records": 2, "size_bytes": Path(file).stat().st_size}
    assert host("store", "import", file, "--store", other).out == "2 imported\n"
    assert host("store", "import", file, "--store", other).out == "0 imported, 2 were there already\n"
    assert host("store", "info", "--store", other, "--json").document["counts"]["measurements"] == 2


def test_parts_by_filters(host: Callable[..., Any], history: str, tmp_path: Path) -> None:
    file = str(tmp_path / "part.csv")
    assert host("store", "export", file, "--since", "2999-01-01").out == f"0 written to {file}\n"
    assert host("store", "export", file, "--since", "2020-01-01T06:30").out == f"2 written to {file}\n"
    assert host("store", "export", file, "--device", "desk").out == f"2 written to {file}\n"
    assert host("store", "export", file, "--since", "yesterday").code == 2
    failed = host("store", "export", file, "--sweep", "nightly")
    assert failed.code != 0
    assert "no sweep nightly" in failed.err
    with ResultStore.open(history) as store, StoreQueue(store) as queue:
        queue.create("nightly", [], seed=1, document={})
    other = str(tmp_path / "other.csv")
    assert host("store", "export", other, "--sweep", "nightly").out == f"0 written to {other}\n"
    assert "no known format" in host("store", "export", str(tmp_path / "x.xml")).err


def test_an_export_of_nothing_takes_no_files_place(host: Callable[..., Any], history: str, tmp_path: Path) -> None:
    whole = tmp_path / "all.jsonl"
    assert host("store", "export", str(whole)).code == 0
    before = whole.read_bytes()
    failed = host("store", "export", str(whole), "--since", "2099-01-01")
    assert failed.code == 2
    assert "no such results" in failed.err
    assert whole.read_bytes() == before


def test_damage_is_found_and_derived_figures_mended(host: Callable[..., Any], history: str) -> None:
    assert host("store", "check").out == "everything is whole\n"
    with ResultStore.open(history) as store, store.writing() as session:
        session.execute(text("UPDATE measured_artifacts SET p50_ns = 7 WHERE measurement_id = 1"))
    failed = host("store", "check", "--json")
    assert failed.code == 1
    (finding,) = failed.document["findings"]
    assert finding["place"] == "measurement 1"
    assert finding["problem"].startswith("p50_ns of artifact 1 is 7.0, and its samples make ")
    assert host("store", "check", "--repair", "--json").document == {"schema": 1, "made_anew": 2, "findings": []}
    with ResultStore.open(history) as store, store.writing() as session:
        session.execute(text("UPDATE measurements SET runs = X'00' WHERE id = 2"))
    failed = host("store", "check")
    assert (failed.code, failed.out.count("measurement 2: SamplesCorrupt: stored samples of 1 bytes")) == (1, 1)
