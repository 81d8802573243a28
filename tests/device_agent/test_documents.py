"""The documents of `bench` and their text, from made-up measurements, held against the JSON Schemas in docs/."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from json_schemas import validate
from jsonschema import ValidationError
from made_up import CONTENDED, DEVICE, MS, artifact_of, measured, with_first

from device_agent import terminal
from device_agent.bench_report import bench_lines, compare_lines, decision_text
from device_agent.contract.compare_document import compare_document
from device_agent.contract.device import Channel, Quantity
from device_agent.contract.document import bench_document
from device_agent.contract.measurement import ColdStart, Measurement, MemoryPhases, NodeTime, Reading
from device_agent.contract.settings import CpuGroup, GraphOptimization, Settings


def bench(measurement: Measurement) -> dict[str, Any]:
    document = bench_document(
        measurement, artifact=artifact_of(0), device_name="desk", device=DEVICE, measurement_id=None
    )
    validate(document, "bench")
    return document


def compare(measurement: Measurement, **more: Any) -> dict[str, Any]:
    artifacts = [artifact_of(place) for place in range(len(measurement.request.artifacts))]
    document = compare_document(
        measurement, artifacts=artifacts, device_name="desk", device=DEVICE, measurement_id=3, **more
    )
    validate(document, "compare_bench")
    return document


def test_what_was_not_measured_is_null() -> None:
    document = bench(measured(1.0))
    assert (document["memory"], document["cold_starts"], document["soak"], document["cpus"]) == (None,) * 4
    assert document["notes"] == []
    assert "layers" not in document


def test_memory_cold_starts_and_settings() -> None:
    settings = Settings(
        provider="X",
        provider_options=(("a", "1"),),
        cpu_group=CpuGroup.BIG,
        nice=-3,
        batch=2,
        graph_optimization=GraphOptimization.BASIC,
        memory_arena=False,
    )
    measurement = with_first(
        measured(1.0, settings=settings, cold_starts=3),
        memory=MemoryPhases(runtime_bytes=40_000_000, load_bytes=1_000_000, first_run_bytes=2_000_000, steady_bytes=3),
        cold_starts=tuple(ColdStart(import_ns=n * MS, load_ns=2, first_run_ns=3) for n in (300, 100, 200)),
    )
    document = bench(replace(measurement, result=replace(measurement.result, cpus=(2, 3))))
    starts = document["cold_starts"]
    assert starts["count"] == 3
    assert starts["import_ns"] == {"median": 200 * MS, "min": 100 * MS, "max": 300 * MS}
    assert starts["total_ns"]["max"] == 300 * MS + 5
    assert [start["import_ns"] for start in starts["starts"]] == [300 * MS, 100 * MS, 200 * MS]
    assert document["settings"]["provider_options"] == {"a": "1"}
    assert (document["settings"]["cpu_group"], document["cpus"]) == ("big", [2, 3])
    assert document["settings"]["memory_arena"] is False
    text = "\n".join(bench_lines(document))
    for part in ("pinned to 2,3 (big)", "nice -3", "no memory arena", "1 MB while loading", "in all, 3 processes"):
        assert part in text


@pytest.mark.parametrize(
    ("threads", "cpus", "says"),
    [
        (8, None, "8 threads on 4 cores"),
        (4, None, None),
        (2, (1,), "2 threads on 1 core that the worker is pinned to"),
        (2, (1, 2), None),
    ],
)
def test_more_threads_than_cores_are_noted(threads: int, cpus: tuple[int, ...] | None, says: str | None) -> None:
    measurement = measured(1.0)
    result = replace(measurement.result, threads=threads, cpus=cpus)
    notes = bench(replace(measurement, result=result))["notes"]
    assert len(notes) == (says is not None)
    assert says is None or says in notes[0]


def test_energy_is_given_with_its_uncertainty_and_its_meter() -> None:
    power = Channel(name="in", quantity=Quantity.POWER, site="board", source="made up", meter="ina219")
    device = replace(DEVICE, channels=(power,))
    measurement = measured(1.0, blocks=200)
    end = measurement.result.windows[0].end_ns
    readings = tuple(
        Reading(channel="in", time_ns=time, value=5.0 + time % 3 / 100) for time in range(0, end, end // 200)
    )
    document = bench_document(
        replace(measurement, readings=readings),
        artifact=artifact_of(0),
        device_name="desk",
        device=device,
        measurement_id=None,
    )
    validate(document, "bench")
    text = " ".join("\n".join(bench_lines(document)).split())
    assert re.search(r"energy \d+(\.\d+)? mJ ± \S+ \w+ gross per run, no net figure: .*; ina219", text)


def test_a_soak_is_a_table_over_time() -> None:
    document = bench(with_first(measured(1.0, blocks=400, soak_s=20.0), unrecorded_runs=77))
    soak = document["soak"]
    assert soak["unrecorded_runs"] == 77
    assert sum(window["runs"] for window in soak["windows"]) == document["runs"]
    assert {window["temperature_c"] for window in soak["windows"]} == {61.5}
    assert {window["flags"] for window in soak["windows"]} == {4}
    assert {window["power_w"] for window in soak["windows"]} == {None}
    text = "\n".join(bench_lines(document))
    for part in ("61.5 °C", "1.50 GHz", "throttled", f"{document['runs'] + 77} runs were made"):
        assert part in text


def test_several_models_are_compared_with_the_first() -> None:
    document = compare(measured(1.0, 0.8, 1.001))
    assert document["baseline"] == 0
    assert [each["name"] for each in document["artifacts"]] == ["a.onnx", "b.onnx", "c.onnx"]
    faster, same = document["comparisons"]
    assert (faster["artifact"], faster["decision"]) == (1, "faster")
    low, high = faster["ratio_interval"]
    assert low < 0.8 < high
    assert (same["artifact"], same["decision"], same["difference"]) == (2, "no-difference", 0.02)
    text = "\n".join(compare_lines(document))
    assert "faster: 0.800x (0." in text
    assert "no difference of 2 % or more: 1.00" in text
    assert "baseline" in text
    stricter = compare(measured(1.0, 0.98), difference=0.001)
    assert stricter["comparisons"][0]["decision"] == "faster"


def test_too_few_blocks_are_undecided_and_say_what_to_do() -> None:
    document = compare(measured(1.0, 0.8, blocks=2))
    (comparison,) = document["comparisons"]
    assert comparison["ratio_interval"] is None
    assert comparison["decision"] == "undecided"
    assert decision_text(comparison).startswith("undecided: 0.80")
    assert "--max-time" in decision_text(comparison)


def test_layers_or_why_there_are_none() -> None:
    node = NodeTime(name="conv" * 40, op_type="Conv", median_ns=1.5, share=1.0, runs=9, sources=("a", "b"))
    measurement = with_first(measured(1.0, 0.8, profile_nodes=True), nodes=(node,))
    first, second = compare(measurement)["artifacts"]
    assert first["layers"][0]["sources"] == ["a", "b"]
    assert second["layers"] is None
    lone = with_first(measured(1.0, profile_nodes=True), nodes_unavailable="it has no profiler")
    assert bench(lone)["layers_unavailable"] == "it has no profiler"
    assert "it has no profiler" in "\n".join(bench_lines(bench(lone)))


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    node = NodeTime(name="conv" * 40, op_type="Conv", median_ns=1.5, share=1.0, runs=9)
    alone = with_first(measured(1.0, profile_nodes=True), nodes=(node,), verdicts=(replace(CONTENDED, hint="w " * 90),))
    pair = with_first(measured(1.0, 0.8, blocks=2, profile_nodes=True), nodes=(node,), verdicts=(CONTENDED,))
    for lines in (bench_lines(bench(alone)), compare_lines(compare(pair))):
        assert max(map(len, lines)) <= columns
    assert any(
        line.startswith("…") and line.endswith("conv  Conv  1.50 ns  100.0%") for line in bench_lines(bench(alone))
    )


def test_a_pipe_has_a_width_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("sys.__stdout__", None)
    assert terminal.width() == terminal.PIPED_WIDTH


def test_long_values_go_on_below_their_beginning() -> None:
    assert terminal.facts([("a", "one two three"), ("a", "four"), ("bb", "")], 9) == [
        "a   one",
        "    two",
        "    three",
        "    four",
        "bb",
    ]


def test_a_schema_refuses_what_it_does_not_know() -> None:
    document = compare(measured(1.0, 0.8))
    with pytest.raises(ValidationError):
        validate({**document, "extra": 1}, "compare_bench")
    document["artifacts"][1]["latency_ns"]["p50"] = None
    with pytest.raises(ValidationError):
        validate(document, "compare_bench")
