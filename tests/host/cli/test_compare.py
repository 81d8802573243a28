"""`host compare` and `host history` on histories that are made up, and one measurement in turns on a real agent."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from histories import add, made, sha256_of
from json_schemas import validate
from made_up import DEVICE, measured

from device_agent.contract.settings import GraphOptimization, Settings
from host.cli.history_view import sparkline
from host.results.compare_figures import file_facts
from host.results.store import ResultStore

A, B, C, D = map(sha256_of, "abcd")
OTHER = replace(DEVICE, device_id="other", board="Raspberry Pi 5", kernel="6.6")


@pytest.fixture
def store(folders: Path) -> Iterator[ResultStore]:
    with ResultStore.open() as opened:
        yield opened


@pytest.fixture
def slower(store: ResultStore) -> ResultStore:
    """b.onnx takes 5 % longer than a.onnx; each was measured four times."""
    rng = random.Random(1)
    for _ in range(4):
        add(store, "a.onnx", A, rng.gauss(1.0, 0.004))
        add(store, "b.onnx", B, rng.gauss(1.05, 0.004))
    return store


def test_a_slow_down_fails_the_build(host: Callable[..., Any], slower: ResultStore) -> None:
    ran = host("compare", "a.onnx", "b", "--fail-if", "p50 > +2%", "--fail-if", "peak_memory > +20%", "--json")
    assert ran.code == 3, ran.err
    validate(ran.document, "compare")
    (row,) = ran.document["rows"]
    median = row["metrics"]["p50"]
    assert median["change"] == pytest.approx(0.05, abs=0.01)
    assert median["change_interval"][0] > 0.02
    assert (median["method"], median["measurements"], median["run_to_run"]) == ("two-sample", [4, 4], True)
    assert [bound["met"] for bound in row["bounds"]] == ["met", "not-met"]
    assert (row["decision"], row["device"]["name"]) == ("slower", "board")
    assert host("compare", "b", "a", "--fail-if", "p50 > +2%").code == 0


def test_undecided_passes_with_a_hint_unless_it_shall_fail(host: Callable[..., Any], slower: ResultStore) -> None:
    limit = ("--fail-if", "p50 > +5%")
    passed = host("compare", "a.onnx", "b.onnx", *limit)
    assert passed.code == 0
    assert "undecided" in passed.out
    failed = host("compare", "a.onnx", "b.onnx", *limit, "--undecided", "fail", "--json")
    assert failed.code == 3
    assert "p50 > +5% is undecided" in failed.err


def test_other_environments_are_refused_with_the_field(host: Callable[..., Any], slower: ResultStore) -> None:
    add(slower, "c.onnx", C, 1.0, runtime_version="1.33.0")
    ran = host("compare", "a.onnx", "c.onnx")
    assert ran.code == 1
    assert "runtime's version 1.32.0 → 1.33.0" in " ".join(ran.out.split())
    allowed = host("compare", "a.onnx", "c.onnx", "--across", "runtime-version", "--json")
    assert allowed.code == 0
    validate(allowed.document, "compare")
    assert [each["field"] for each in allowed.document["rows"][0]["differences"]] == ["runtime_version"]


def test_comparing_runtimes_needs_no_leave(host: Callable[..., Any], slower: ResultStore) -> None:
    add(slower, "a.onnx", A, 0.9, runtime_version="1.33.1")
    sides = ("a.onnx,runtime:onnxruntime@1.32", "a.onnx,runtime:onnxruntime@1.33")
    ran = host("compare", *sides, "--json")
    assert ran.code == 0, ran.err
    (row,) = ran.document["rows"]
    assert row["metrics"]["p50"]["change"] == pytest.approx(-0.1, abs=0.02)
    assert row["metrics"]["p50"]["measurements"] == [4, 1]


def test_devices_are_matched_and_filtered(host: Callable[..., Any], slower: ResultStore) -> None:
    for _ in range(2):
        add(slower, "a.onnx", A, 0.5, device=OTHER, device_name="rack-7")
        add(slower, "b.onnx", B, 0.5, device=OTHER, device_name="rack-7")
    rows = host("compare", "a.onnx", "b.onnx", "--json").document["rows"]
    assert {row["device"]["name"] for row in rows} == {"board", "rack-7"}
    one = host("compare", "a.onnx", "b.onnx", "--device", "rack-7", "--json").document
    assert [row["device"]["id"] for row in one["rows"]] == ["other"]
    assert one["confidence"] == 0.95
    across = host("compare", "a.onnx", "b.onnx", "--across", "device", "--json").document["rows"]
    assert len(across) == 1
    assert host("compare", "a.onnx", "b.onnx", "--device", "nobody").code == 2


def test_days_and_files_of_one_name(host: Callable[..., Any], store: ResultStore) -> None:
    first = datetime(2026, 11, 1, 6)
    for day, sha, ratio in ((0, A, 1.0), (0, A, 1.001), (1, B, 1.0), (7, C, 1.1), (7, C, 1.101), (7, D, 0.5)):
        add(store, "other.onnx" if sha == D else "nightly.onnx", sha, ratio, day=first + timedelta(days=day))
    ran = host("compare", "2026-11-01", "since:2026-11-02", "--json")
    assert ran.code == 0, ran.err
    (row,) = ran.document["rows"]
    assert (row["model"], row["baseline"]["sha256"], row["candidate"]["sha256"]) == ("nightly.onnx", A, C)
    assert any("2 files of this name" in remark for remark in row["remarks"])
    again = host("compare", "2026-11-01..2026-11-20", "since:2026-11-08")
    assert again.code == 2
    assert "share" in again.err
    nothing = host("compare", "other.onnx", "before:2026-11-05")
    assert nothing.code == 1
    assert "no model on the same device in common" in nothing.err


def test_many_models_make_one_table(host: Callable[..., Any], store: ResultStore) -> None:
    for day, ratio in ((1, 1.0), (2, 1.2)):
        for letter in "abcd":
            for _ in range(2):
                add(store, f"{letter}.onnx", sha256_of(letter), ratio, day=datetime(2026, 11, day))
    ran = host("compare", "2026-11-01", "2026-11-02", "--fail-if", "p50 > +10%")
    assert ran.code == 3
    assert ran.out.count("slower") == 4
    assert ran.out.count("on board: p50 > +10%  met") == 4


def with_settings(
    store: ResultStore, sha: str, name: str, settings: Settings, *, ratio: float = 1.0, **result: Any
) -> None:
    found = made(sha, ratio, **result)
    asked = replace(found.request, settings=settings)
    store.add_measurement(replace(found, request=asked), device=DEVICE, artifact_names=(name,), device_name="board")


@pytest.fixture
def matrix(store: ResultStore) -> ResultStore:
    """Threads by levels of optimization, as a sweep makes them, in no order."""
    for threads in (2, 1):
        for level in (None, GraphOptimization.BASIC, GraphOptimization.ALL):
            for batch in (16, None, 2):
                asked = Settings(graph_optimization=level, batch=batch)
                with_settings(store, A, "a.onnx", asked, ratio=1.0 if threads == 1 else 0.7, threads=threads)
    return store


def test_settings_tell_rows_apart_and_order_them(host: Callable[..., Any], matrix: ResultStore) -> None:
    document = host("compare", "threads:1", "threads:2", "--json").document
    found = [(row["settings"]["batch"], row["settings"]["graph_optimization"]) for row in document["rows"]]
    batches = [(batch, level) for batch in (2, 16) for level in (None, "all", "basic")]
    assert found == [(None, None), *batches, (None, "all"), (None, "basic")]
    ran = host("compare", "threads:1", "threads:2", "--fail-if", "p50 > -50%")
    assert ran.code == 3
    failed = [line for line in ran.out.splitlines() if "p50 > -50%" in line]
    assert len(set(failed)) == len(failed) == 9
    assert "a.onnx on board: p50 > -50%  met" in failed
    assert "a.onnx on board, batch 16, graph optimization basic: p50 > -50%  met" in failed
    full = host("compare", "#1", "#2").out + host("compare", "#1", "#2", "--across", "batch").out
    assert "batch 16 → not set" in full


def test_headings_differ_where_results_do(host: Callable[..., Any], store: ResultStore) -> None:
    for kernel in ("6.12", "6.6"):
        for name, sha in (("a.onnx", A), ("b.onnx", B)):
            found = made(sha, 1.0)
            store.add_measurement(
                found, device=replace(DEVICE, kernel=kernel), artifact_names=(name,), device_name="board"
            )
    with_settings(store, A, "a.onnx", Settings(cpus=(2, 3), memory_arena=False), cpus=(2, 3))
    with_settings(store, B, "b.onnx", Settings(cpus=(2, 3), memory_arena=False), cpus=(2, 3))
    shown = host("compare", "a.onnx", "b.onnx").out
    headings = [line for line in shown.splitlines() if "4 threads" in line]
    assert len(set(headings)) == len(headings) == 3
    # A long heading goes on in the next line.
    assert " ".join(shown.split()).count("kernel 6.1, no memory arena, cpus 2,3 ") == 1
    assert ["kernel 6.6" in headings[0], "kernel 6.12" in headings[1]] == [True, True]
    courses = " ".join(host("history", "a.onnx").out.split())
    assert courses.count("4 threads; p50") == courses.count("4 threads, no memory arena, cpus 2,3; p50") == 1


def test_turns_go_before_single_measurements(host: Callable[..., Any], slower: ResultStore) -> None:
    pair = replace(measured(1.0, 0.97), request=replace(measured(1.0, 0.97).request, artifacts=(A, B)))
    number = slower.add_measurement(pair, device=DEVICE, artifact_names=("a.onnx", "b.onnx"))
    (row,) = host("compare", "a.onnx", "b.onnx", "--json").document["rows"]
    assert row["pairs"] == [number]
    assert row["metrics"]["p50"]["method"] == "paired"
    assert row["metrics"]["p50"]["change"] == pytest.approx(-0.03, abs=0.002)
    assert row["metrics"]["peak_memory"]["method"] == "two-sample"
    named = host("compare", f"#{number}:1", f"#{number}:2", "--json").document["rows"]
    assert named[0]["metrics"]["p50"] == row["metrics"]["p50"]
    unnamed = host("compare", f"#{number}", "a.onnx")
    assert unnamed.code == 2
    assert f"#{number}:2 (b.onnx)" in unnamed.err


def test_what_is_not_there(host: Callable[..., Any], slower: ResultStore, tmp_path: Path) -> None:
    unknown = host("compare", "a.onnxx", "b.onnx")
    assert unknown.code == 1
    assert "similar: a.onnx" in unknown.err
    (tmp_path / "new.onnx").write_bytes(b"never measured")
    missing = host("compare", "a.onnx", str(tmp_path / "new.onnx"))
    assert missing.code == 1
    assert "host bench" in missing.err
    for arguments in (
        ("a", "a"),
        ("a", "b", "--measure"),
        ("a", "b", "--fail-if", "p50"),
        ("a", "b", "--max-time", "3s"),
    ):
        assert host("compare", *arguments).code == 2


def test_sizes_and_accuracies_of_results(tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text(
        '{"baseline": {"accuracy": 0.9, "test_images": 1000}, "result": {"accuracy": 0.88, "test_images": 1000}}'
    )
    for name in ("model.onnx", "baseline.onnx", "stranger.onnx"):
        (tmp_path / name).write_bytes(b"1234")
    assert file_facts(tmp_path / "baseline.onnx") == {"size": 4, "accuracy": 0.9, "test_images": 1000}
    assert file_facts(tmp_path / "model.onnx")["accuracy"] == 0.88
    assert file_facts(tmp_path / "stranger.onnx") == {"size": 4}


def test_a_pair_is_measured_when_asked(
    host: Callable[..., Any], agent: Any, model: Path, tmp_path: Path, store: ResultStore
) -> None:
    net = onnx.load(model)
    weights = net.graph.initializer[0]
    changed = onnx.numpy_helper.from_array(np.zeros((64, 64), np.float32), weights.name)
    weights.CopyFrom(changed)
    onnx.save(net, tmp_path / "zeros.onnx")
    assert host("devices", "add", "bench-board", agent.address).code == 0
    asked = ("--measure", "--device", "bench-board", "--threads", "1", "--max-time", "0.3s", "--json")
    ran = host("compare", str(model), str(tmp_path / "zeros.onnx"), *asked)
    assert ran.code == 0, ran.err
    validate(ran.document, "compare")
    (row,) = ran.document["rows"]
    assert row["metrics"]["p50"]["method"] == "paired"
    assert row["metrics"]["size"]["method"] == "exact"
    assert row["device"]["name"] == "bench-board"
    assert (row["baseline"]["name"], row["candidate"]["name"]) == ("tiny.onnx", "zeros.onnx")
    again = host("compare", str(model), str(tmp_path / "zeros.onnx"), "--json")
    assert again.document["rows"][0]["metrics"]["size"]["method"] == "exact"
    assert again.document["rows"][0]["pairs"] == row["pairs"]


@pytest.fixture
def nightly(store: ResultStore) -> ResultStore:
    """Thirty mornings: ONNX Runtime 1.33 makes it 6 % faster, and the last three builds are 5 % slower."""
    rng = random.Random(7)
    for day in range(30):
        ratio = rng.gauss(1.0, 0.005) * (0.94 if day >= 12 else 1.0) * (1.05 if day >= 27 else 1.0)
        sha, version = sha256_of("0123456789"[day // 3]), "1.33.0" if day >= 12 else "1.32.0"
        morning = datetime(2026, 10, 1, 6) + timedelta(days=day)
        add(store, "nightly.onnx", sha, ratio, day=morning, runtime_version=version)
    return store


def test_history_finds_and_explains_shifts(host: Callable[..., Any], nightly: ResultStore) -> None:
    ran = host("history", "nightly", "--fail-if-slower", "--json")
    assert ran.code == 3, ran.err
    validate(ran.document, "history")
    (course,) = ran.document["courses"]
    first, last = course["shifts"]
    assert abs(first["point"] - 12) <= 1
    assert "runtime's version 1.32.0 → 1.33.0" in [each["text"] for each in first["causes"]]
    assert abs(last["point"] - 27) <= 1
    assert last["causes"] == []
    assert last["change"] == pytest.approx(0.05, abs=0.015)
    assert last["change_interval"][0] < last["change"] < last["change_interval"][1]
    assert (first["recent"], last["recent"], course["slower"]) == (False, True, True)
    if last["point"] == 27:
        assert (last["artifact_before"], last["artifact_after"]) == (sha256_of("8"), sha256_of("9"))
    shown = host("history", "nightly", "--device", "board")
    assert shown.code == 0
    assert shown.out.count("│") == 2
    assert "nothing that is recorded" in shown.out or "file 8888" in shown.out


def test_history_without_a_shift_passes(host: Callable[..., Any], nightly: ResultStore) -> None:
    ran = host("history", "nightly,2026-10-13..2026-10-27", "--fail-if-slower")
    assert ran.code == 0
    assert "none" in ran.out
    assert host("history", "nightly", "--metric", "speed").code == 2
    assert host("history", "nothing").code == 1


def test_spark_lines() -> None:
    assert sparkline([1, 2, 3]) == "▁▅█"
    assert sparkline([1, 1, 1, 2, 2], [3]) == "▁▁▁│██"
    assert sparkline([5.0, 5.0]) == "▅▅"
    assert len(sparkline(list(range(1, 1001)))) <= 60
    assert sparkline([]) == ""
