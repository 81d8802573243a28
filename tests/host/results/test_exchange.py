"""Exports: what comes in again is what went out, damage leaves nothing behind, and CSV says what it is."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from databases import KINDS, empty_database
from made_up import DEVICE, artifact_of, measured

from host.results.database import HistoryUnavailable
from host.results.exchange import ExportUnusable, records
from host.results.export_files import CSV_COLUMNS, export_file, read_export
from host.results.importing import Imported, import_records
from host.results.lines import LineFilter, list_lines
from host.results.queue import StoreQueue
from host.results.store import ResultStore
from host.sweep.job import NewJob, SweepArtifact


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ResultStore]:
    """A history with a bit of everything."""
    folder = tmp_path_factory.mktemp("filled")
    with ResultStore.open(f"sqlite:///{folder}/history.sqlite") as store:
        store.add_measurement(
            measured(1.0, 1.1, blocks=5), device=DEVICE, artifact_names=("a", "b"), device_name="desk"
        )
        store.add_measurement(measured(1.0, blocks=5), device=DEVICE, artifact_names=("ä.onnx",))
        store.add_compression({"model": "m", "target": {"ratio": 0.5}, "met": None, "plan": {}}, device=DEVICE)
        store.add_compression({"target": {}, "met": True, "plan": {"g": [8]}})
        with StoreQueue(store) as queue:
            artifact = SweepArtifact(name="a", path=Path("/models/a.onnx"), sha256=artifact_of(0).sha256)
            jobs = [
                NewJob(
                    key=str(number),
                    position=number,
                    artifact=artifact,
                    device="d",
                    options={"threads": 1},
                    repeat=number,
                )
                for number in range(3)
            ]
            sweep = queue.create("night", jobs, seed=2**62, document={"repeats": 3})
            assert queue.take_device(sweep.id, "c", limit=1, ttl_s=60) == "d"
            for _ in range(2):
                claim = queue.claim(sweep.id, "c", "d", ttl_s=60)
                assert claim is not None
                queue.complete(claim, measured(1.0, blocks=5), device=DEVICE)
        yield store


def everything(store: ResultStore) -> list[dict[str, Any]]:
    return sorted(records(store, LineFilter()), key=lambda record: str(record["uuid"]))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_what_is_imported_is_what_was_exported(suffix: str, kind: str, filled: ResultStore, tmp_path: Path) -> None:
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"history.{suffix}"
    assert export_file(filled, path, LineFilter()) == 6
    with empty_database(kind, tmp_path) as url, ResultStore.open(url) as store:
        assert import_records(store, read_export(path)) == Imported(added=6, known=0)
        assert everything(store) == everything(filled)
        originals = {(line.created_at, line.position): line for line in list_lines(filled)}
        for line in list_lines(store):
            same = originals[line.created_at, line.position]
            original = filled.get_measurement(same.measurement_id)
            assert store.get_measurement(line.measurement_id).measurement == original.measurement
            assert (line.p50_ns, line.job_options, line.repeat) == (same.p50_ns, same.job_options, same.repeat)
        # Once more, and what is there stays as it is.
        assert import_records(store, read_export(path)) == Imported(added=0, known=6)
        assert len(list_lines(store)) == 5
        with StoreQueue(store) as queue:
            (sweep,) = queue.list_sweeps()
            assert (sweep.name, sweep.seed) == ("night", 2**62)
            assert [job.state.value for job in queue.jobs(sweep.id)] == ["done", "done"]


def test_a_filter_leaves_out_the_rest(filled: ResultStore, tmp_path: Path) -> None:
    (sweep,) = {line.sweep_id for line in list_lines(filled)} - {None}
    path = tmp_path / "sweep.jsonl"
    assert export_file(filled, path, LineFilter(sweep_id=sweep)) == 2
    assert {record["sweep"]["name"] for record in read_export(path)} == {"night"}


def test_csv_has_a_line_per_artifact_and_is_not_read(filled: ResultStore, tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    assert export_file(filled, path, LineFilter()) == 5
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == CSV_COLUMNS
    lines = list_lines(filled)
    assert [row["p50_ns"] for row in rows] == [str(line.p50_ns) for line in lines]
    assert {row["sweep"] for row in rows} == {"night", ""}
    assert json.loads(rows[0]["options"]) == {"threads": 1}
    with pytest.raises(ExportUnusable, match="no raw samples"):
        next(iter(read_export(path)))


def test_damaged_and_newer_exports_leave_nothing(filled: ResultStore, tmp_path: Path) -> None:
    whole = tmp_path / "whole.jsonl"
    export_file(filled, whole, LineFilter())
    lines = whole.read_bytes().splitlines(keepends=True)
    broken = {
        "cut between records": (lines[:-1], "cut off after 6"),
        "cut in a record": ([*lines[:3], lines[3][:200]], "line 4 .* damaged"),
        "a record is missing": ([*lines[:2], *lines[3:]], "5 records of 6"),
        "no header": (lines[1:], "no export of a history"),
        "newer": ([b'{"format":"boardfit-history","version":2}\n', *lines[1:]], "version 2 .*pip install --upgrade"),
        "a column is short": (
            [*lines[:2], lines[2].replace(b'"run_turn":[0,', b'"run_turn":['), *lines[3:]],
            "is damaged",
        ),
        "an unknown verdict": ([lines[0], *(line.replace(b'"stable"', b'"fine"') for line in lines[1:])], "fine"),
        "empty": ([], "cut off"),
    }
    with ResultStore.open(f"sqlite:///{tmp_path}/other.sqlite") as store:
        for name, (content, message) in broken.items():
            path = tmp_path / "broken.jsonl"
            path.write_bytes(b"".join(content))
            assert path.read_bytes() != whole.read_bytes(), name
            with pytest.raises(ExportUnusable, match=message):
                import_records(store, read_export(path))
            assert everything(store) == [], name
        for missing in (tmp_path / "none.jsonl", tmp_path / "none.parquet", tmp_path / "none.xml"):
            with pytest.raises(ExportUnusable):
                import_records(store, read_export(missing))


def test_a_parquet_file_that_was_cut_is_named(filled: ResultStore, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    whole = tmp_path / "whole.parquet"
    export_file(filled, whole, LineFilter())
    content = whole.read_bytes()
    with ResultStore.open(f"sqlite:///{tmp_path}/other.sqlite") as store:
        for broken in (content[:-10], content[:50], b""):
            path = tmp_path / "broken.parquet"
            path.write_bytes(broken)
            with pytest.raises(ExportUnusable, match=r"damaged or no Parquet file.*Nothing was imported"):
                import_records(store, read_export(path))
            assert everything(store) == []


def test_a_full_disk_leaves_nothing(filled: ResultStore, tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    export_file(filled, path, LineFilter())
    with ResultStore.open(f"sqlite:///{tmp_path}/small.sqlite") as store:
        with store.engine.connect() as connection:
            # As on a full disk: the file may not grow. The limit belongs to this connection, which the pool gives out again.
            connection.exec_driver_sql("PRAGMA max_page_count = 1")
        with pytest.raises(HistoryUnavailable, match="full"):
            import_records(store, read_export(path))
        assert everything(store) == []
    with pytest.raises(HistoryUnavailable, match="cannot write the export to /dev/full/"):
        export_file(filled, Path("/dev/full/x.jsonl"), LineFilter())


def test_a_kill_in_the_middle_of_an_import_leaves_nothing(filled: ResultStore, tmp_path: Path) -> None:
    path, url = tmp_path / "history.jsonl", f"sqlite:///{tmp_path}/killed.sqlite"
    export_file(filled, path, LineFilter())
    script = (
        "import itertools, os, signal, sys; from pathlib import Path\n"
        "from host.results.export_files import read_export; from host.results import importing\n"
        "from host.results.store import ResultStore\n"
        "importing._BATCH = 1\n"
        "def some():\n"
        "    yield from itertools.islice(read_export(Path(sys.argv[2])), 4)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "importing.import_records(ResultStore.open(sys.argv[1]), some())\n"
    )
    done = subprocess.run([sys.executable, "-c", script, url, str(path)], capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    with ResultStore.open(url) as store:
        assert everything(store) == []
        assert import_records(store, read_export(path)).added == 6
