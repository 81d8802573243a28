"""What `host bench` shows of made-up measurements: everything that was asked for, and no line wider than the terminal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from made_up import CONTENDED, DEVICE, MS, artifact_of, measured, with_first

from device_agent.contract.compare_document import compare_document
from device_agent.contract.document import bench_document
from device_agent.contract.measurement import ColdStart, Measurement, MemoryPhases, NodeTime
from device_agent.contract.settings import CpuGroup, GraphOptimization, Settings
from host.cli import render
from host.cli.bench_progress import WORDS
from host.cli.bench_view import print_bench
from host.cli.compare_view import decision_text, labels, print_comparison

NODE = NodeTime(name="convolution/" * 12, op_type="Conv", median_ns=1.5, share=1.0, runs=9)


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Print a measurement as `host bench` does, in a pipe of so many columns, and return the text."""

    def show(measurement: Measurement, columns: int = 100) -> str:
        monkeypatch.setattr(render, "PIPED_WIDTH", columns)
        where = {"device_name": "desk", "device": DEVICE, "measurement_id": 3}
        artifacts = [artifact_of(place) for place in range(len(measurement.request.artifacts))]
        if len(artifacts) == 1:
            print_bench(bench_document(measurement, artifact=artifacts[0], **where))
        else:
            print_comparison(compare_document(measurement, artifacts=artifacts, **where))
        return capsys.readouterr().out

    return show


def everything() -> Measurement:
    settings = Settings(
        provider="CPUExecutionProvider",
        provider_options=(("a", "1"),),
        cpu_group=CpuGroup.BIG,
        nice=-3,
        batch=2,
        graph_optimization=GraphOptimization.BASIC,
        memory_arena=False,
    )
    measurement = with_first(
        measured(1.0, settings=settings, cold_starts=3, profile_nodes=True),
        memory=MemoryPhases(runtime_bytes=40_000_000, load_bytes=1_000_000, first_run_bytes=2_000_000, steady_bytes=3),
        cold_starts=tuple(ColdStart(import_ns=n * MS, load_ns=2 * MS, first_run_ns=3 * MS) for n in (300, 100, 200)),
        verdicts=(CONTENDED, replace(CONTENDED, hint="word " * 60)),
        nodes=(NODE,) * 3,
    )
    return replace(measurement, result=replace(measurement.result, cpus=(0, 2, 3), threads=8))


def test_everything_that_was_measured_is_shown(shown: Any) -> None:
    text = " ".join(shown(everything()).split())
    for part in (
        "8 threads, a=1, pinned to 0,2-3 (big), nice -3, batch 2, graph optimization basic, no memory arena",
        "runtime 40.0 MB; above it 1.00 MB while loading, 2.00 MB in the first run, 3 B after it",
        "cold start median fastest slowest",
        "start and import 200 ms 100 ms 300 ms",
        "in all, 3 processes 205 ms 105 ms 305 ms",
        "contended: 0.250 share of runs preempted (limit 0.100). Stop the other work.",
        "8 threads on 3 cores that the worker is pinned to",
    ):
        assert part in text


def test_a_soak(shown: Any) -> None:
    measurement = with_first(measured(1.0, blocks=400, soak_s=20.0), unrecorded_runs=77)
    text = shown(measurement, 80)
    for part in ("1.50 GHz", "61.5 °C", "throttled", "5.00 ms", "runs were made"):
        assert part in text
    assert "Every run was recorded" in shown(with_first(measurement, unrecorded_runs=0))


@pytest.mark.parametrize("columns", [80, 100, 120])
def test_no_line_is_wider_than_the_terminal(shown: Any, columns: int) -> None:
    soak = with_first(measured(1.0, blocks=400, soak_s=20.0), unrecorded_runs=77)
    pair = with_first(measured(1.0, 0.8, blocks=2, profile_nodes=True), nodes=(NODE,), verdicts=(CONTENDED,))
    for measurement in (everything(), soak, pair):
        text = shown(measurement, columns)
        assert max(len(line.rstrip()) for line in text.splitlines()) <= columns


def test_decisions_in_words(shown: Any) -> None:
    text = shown(measured(1.0, 0.8, 1.001))
    assert "faster: 0.800x (0." in text
    assert "no difference of 2 % or more: 1.00" in text
    undecided = {
        "ratio": 1.05,
        "ratio_interval": None,
        "decision": "undecided",
        "difference": 0.005,
        "hint": "ask for more",
    }
    assert decision_text(undecided) == "undecided: 1.050x. Ask for more"
    small = {**undecided, "decision": "no-difference", "ratio_interval": [1.0, 1.001], "hint": None}
    assert decision_text(small) == "no difference of 0.5 % or more: 1.050x (1.000 - 1.001)"


def test_the_same_file_twice_is_numbered() -> None:
    assert labels(["a", "b", "a"]) == ["a (1)", "b", "a (2)"]


def test_every_phase_has_words() -> None:
    from device_agent.contract.measurement import Phase

    assert set(WORDS) == set(Phase)


def test_runs_of_numbers_are_drawn_together() -> None:
    assert render.numbers_text((3, 0, 2, 7)) == "0,2-3,7"
    assert render.numbers_text((4, 5, 6, 7)) == "4-7"
