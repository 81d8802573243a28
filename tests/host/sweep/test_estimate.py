"""Estimates, cells of results, artifacts: what is done before and after the jobs."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace

import pytest
from sweep_devices import artifact_in, jobs_of

from device_agent.contract.errors import InvalidRequest
from host.sweep.artifacts import find_artifacts
from host.sweep.estimate import AROUND_S, LINK_BYTES_PER_S, START_S, estimate, job_seconds
from host.sweep.job import Job, JobState
from host.sweep.options import options_from_json
from host.sweep.outcome import outcome


def test_a_job_takes_what_its_options_ask_for() -> None:
    def times(rests: bool = False, **options: object) -> tuple[float, float]:
        return job_seconds(options_from_json(options), rests=rests)

    expected, longest = times(min_time=4.0, max_time=9.0, warmup_time=1.0)
    assert expected == pytest.approx(START_S + 1 + 6)
    assert longest == START_S + 1 + 9
    assert times(soak=600.0, warmup_time=0.0) == (START_S + 600, START_S + 600)
    assert times(min_time=4.0, max_time=9.0, warmup_time=1.0, layers=True)[1] == START_S + 1 + 18
    assert times(cold_starts=3)[1] - times()[1] == 3 * START_S
    assert times(rests=True)[1] - times()[1] == 4.0
    assert times(rests=True, idle=0.0)[1] == times()[1]


def test_the_slowest_device_makes_the_time_and_files_are_sent_once(tmp_path: Path) -> None:
    artifact = artifact_in(tmp_path)
    options = {"min_time": 2.0, "max_time": 2.0, "warmup_time": 0.0}
    jobs = [*jobs_of([artifact], ["one"], repeats=3, **options), *jobs_of([artifact], ["two"], repeats=1, **options)]
    each = START_S + 2 + AROUND_S
    found = estimate(jobs, devices_at_once=10)
    assert found.devices == {"one": pytest.approx(3 * each), "two": pytest.approx(each)}
    assert (found.wall_s, found.total_s) == (pytest.approx(3 * each), pytest.approx(4 * each))
    assert found.slowest == "one"
    assert estimate(jobs, devices_at_once=1).wall_s == pytest.approx(4 * each)
    sent = estimate(jobs, devices_at_once=10, sizes={artifact.sha256: int(5 * LINK_BYTES_PER_S)})
    assert sent.devices["one"] == pytest.approx(3 * each + 5)


def test_the_history_corrects_its_job_and_others_of_the_device(tmp_path: Path) -> None:
    one, two = artifact_in(tmp_path), artifact_in(tmp_path, "b.onnx", b"model b")
    jobs = jobs_of([one, two], ["pi", "jet"])
    plain = estimate(jobs, devices_at_once=9)
    slow = estimate(
        jobs, devices_at_once=9, history=lambda job: 60.0 if (job.device, job.artifact) == ("pi", one) else None
    )
    assert slow.known == 1
    assert slow.devices["jet"] == plain.devices["jet"]
    assert slow.devices["pi"] == pytest.approx(2 * (60 + AROUND_S))


def _job(number: int, state: JobState, wanted: object, error: str | None = None) -> Job:
    return Job(
        id=number,
        wanted=wanted,  # type: ignore[arg-type]
        state=state,
        device="one",
        attempts=1,
        controller=None,
        error=error,
        measurement_id=number if state is JobState.DONE else None,
        finished_at=datetime.now(timezone.utc),
    )


def test_cells_of_repeats(tmp_path: Path) -> None:
    wanted = jobs_of([artifact_in(tmp_path)], ["one"], repeats=6, threads=2)
    states = [JobState.DONE] * 3 + [JobState.FAILED, JobState.SKIPPED, JobState.WAITING]
    jobs = [
        _job(n, state, job, "broken" if n in (4, 5) else None)
        for n, state, job in zip(range(1, 7), states, wanted, strict=True)
    ]
    lines = [
        SimpleNamespace(measurement_id=number, p50_ns=p50, verdicts=verdicts)
        for number, p50, verdicts in ((1, 5e6, ("stable",)), (2, 7e6, ("hot", "throttled")), (3, 6e6, ("stable",)))
    ]
    (cell,) = outcome(jobs, lines)
    assert (cell.p50_ns, cell.interval_ns, cell.confidence) == (6e6, (5e6, 7e6), 0.75)
    assert cell.verdicts == {"hot": 1, "stable": 2, "throttled": 1}
    assert (cell.done, cell.failed, cell.skipped, cell.waiting, cell.errors) == (3, 1, 1, 1, ("broken",))
    (alone,) = outcome(jobs[:1], lines)
    assert (alone.p50_ns, alone.interval_ns, alone.confidence) == (5e6, None, None)
    (none,) = outcome(jobs[3:4], lines)
    assert none.p50_ns is None


def test_artifacts_are_found_by_path_pattern_and_name(tmp_path: Path) -> None:
    (tmp_path / "m" / "deep").mkdir(parents=True)
    for place, content in (
        ("m/a.onnx", b"a"),
        ("m/b.tflite", b"b"),
        ("m/copy.onnx", b"a"),
        ("m/deep/a.onnx", b"c"),
        ("m/x.txt", b"x"),
    ):
        (tmp_path / place).write_bytes(content)
    made = []

    def export(model: str, folder: Path) -> tuple[Path, str]:
        made.append(model)
        path = folder / f"{model}.onnx"
        path.write_bytes(b"exported")
        return path, path.name

    found, notes = find_artifacts(["m/**/*", "m/a.onnx", "net"], tmp_path, export=export, keep=tmp_path / "keep")
    assert [artifact.name for artifact in found] == ["m/a.onnx", "b.tflite", "deep/a.onnx", "net.onnx"]
    assert made == ["net"]
    assert all(artifact.path.is_file() and artifact.path.is_absolute() for artifact in found)
    assert found[-1].path == tmp_path / "keep" / found[-1].sha256 / "net.onnx"
    assert len(notes) == 1
    assert "copy.onnx is left out: it has the content of" in notes[0]
    for wanted, says in (
        ("m/none.onnx", "there is no file"),
        ("m/*.pt", "matches no .onnx or .tflite"),
        ("m/x.txt", "another type"),
    ):
        with pytest.raises(InvalidRequest, match=says):
            find_artifacts([wanted], tmp_path, export=export, keep=tmp_path / "keep")
