"""`host report`: the page again from the record alone."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from histories import add, sha256_of

from host.results.store import ResultStore

FIXTURE = Path(__file__).parents[2] / "fixtures/records/compress.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "results"
    made.mkdir()
    shutil.copy(FIXTURE, made / "record.json")
    return made


def test_a_page_is_made_from_the_record_alone(host: Callable[..., Any], folder: Path, tmp_path: Path) -> None:
    done = host("report", str(folder))
    assert (done.code, done.out) == (0, f"report {folder / 'report.html'}\n")
    page = (folder / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    other = tmp_path / "other.html"
    assert host("report", str(folder / "record.json"), "--out", str(other), "--json").document == {
        "schema": 1,
        "report": str(other),
        "plots": None,
    }
    assert other.read_text() == page


def test_a_finished_run_is_explained(host: Callable[..., Any], folder: Path) -> None:
    record = json.loads(FIXTURE.read_text())
    document = host("report", str(folder), "--explain", "--json").document
    assert list(document["groups"]) == list(record["plan"])
    out = host("report", str(folder), "--explain").out
    assert f"{next(iter(document['groups']))}: {next(iter(document['groups'].values()))}\n" in out
    assert not (folder / "report.html").exists()


def test_what_is_no_finished_run_is_refused(host: Callable[..., Any], folder: Path, tmp_path: Path) -> None:
    assert "name a folder of results" in host("report", str(tmp_path)).err
    (tmp_path / "journal.jsonl").touch()
    assert "has not come to its end, or was a dry run" in host("report", str(tmp_path)).err
    record = json.loads(FIXTURE.read_text())
    for content in ("[]", "{", json.dumps({**record, "result": None}), json.dumps({**record, "schema": 99})):
        (folder / "record.json").write_text(content)
        failed = host("report", str(folder))
        assert failed.code == 2
        assert "name a record.json of host compress" in failed.err
    assert host("report", str(folder), "--explain", "--out", "x.html").code == 2


@pytest.mark.parametrize("name", ["report.pdf", "not-there/report.html"])
def test_a_page_goes_where_it_can_only_be_meant(
    host: Callable[..., Any], folder: Path, tmp_path: Path, name: str
) -> None:
    failed = host("report", str(folder), "--out", str(tmp_path / name))
    assert failed.code == 2
    assert "names an .html file in a folder that is there" in failed.err
    assert not (tmp_path / name).parent.joinpath("report.pdf").exists()
    assert not (tmp_path / "not-there").exists()


def test_the_history_becomes_a_page_and_charts(host: Callable[..., Any], tmp_path: Path) -> None:
    with ResultStore.open() as store:
        for threads in (1, 2):
            add(store, "a.onnx", sha256_of("a"), 1.0 / threads, threads=threads)
    out, plots = tmp_path / "fleet.html", tmp_path / "plots"
    done = host("report", "--artifact", "a", "--out", str(out), "--plots", str(plots), "--no-png", "--json")
    document = done.document
    assert (document["schema"], document["report"], document["results"], document["left_out"]) == (1, str(out), 2, [])
    assert sorted(document["plots"]) == sorted(str(path) for path in plots.iterdir())
    assert all(path.endswith(".svg") for path in document["plots"])
    page = out.read_text()
    assert "All results of a in the history." in page
    assert page.count("<svg") == len(document["plots"])


def test_charts_of_a_compression_are_files_too(host: Callable[..., Any], folder: Path, tmp_path: Path) -> None:
    done = host("report", str(folder), "--plots", str(tmp_path / "plots"), "--no-png")
    assert done.code == 0
    count = (folder / "report.html").read_text().count("<svg")
    assert len(list((tmp_path / "plots").glob("*.svg"))) == count
    assert f"({count} files)" in done.out


def test_what_does_not_go_together_is_refused(host: Callable[..., Any], folder: Path, tmp_path: Path) -> None:
    for arguments, word in (
        ((str(folder), "--sweep", "x"), "--sweep has no effect"),
        (("--explain",), "--explain is for FOLDER"),
        (("--no-png",), "--plots"),
        (("--since", "yesterday"), "is no date"),
    ):
        failed = host("report", *arguments)
        assert failed.code == 2
        assert word in failed.err
    assert "has no sweep nothing" in host("report", "--sweep", "nothing").err
    assert not list(tmp_path.glob("*.html"))
