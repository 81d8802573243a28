"""What happens around the timed part: rests, memory by phase, cold starts; and soaks, which are all timed part."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from running_agent import workers_of

from device_agent import jobs
from device_agent.contract.artifact import Artifact, ArtifactFormat
from device_agent.contract.deadlines import longest_measurement_s
from device_agent.contract.device import Channel, Quantity
from device_agent.contract.errors import (
    BoardfitError,
    ModelRejected,
    RuntimeUnavailable,
    WorkerOutOfMemory,
    WorkerTimedOut,
)
from device_agent.contract.measurement import (
    MeasureResult,
    Phase,
    Progress,
    Reading,
    ReadingBatch,
    Run,
    RunBatch,
    RunKind,
    Window,
    WindowKind,
)
from device_agent.contract.settings import MeasureRequest, Settings, Stopping
from device_agent.readings import ReadingLog
from device_agent.sensors import Sensor
from device_agent.sensors.others import OthersCpu
from device_agent.worker import soak
from device_agent.worker.launch import ArtifactFile
from device_agent.worker.memory import PeakMemory

RUNTIMES = Path(__file__).parents[1] / "fixtures" / "runtimes"
NAMES = ["Steady", "Phased", "Lazy", "Mortal", "Hungry", "Hangs", "Telling"]
QUICK = Stopping(warmup_runs=4, warmup_time_s=0, min_runs=10, min_time_s=0, max_time_s=1, precision=None)
MIB = 1 << 20


@pytest.fixture(autouse=True)
def _test_runtimes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(RUNTIMES))
    targets = [f"{name.lower()}=boardfit_test_runtimes:{name}Runtime" for name in NAMES]
    monkeypatch.setenv("BOARDFIT_RUNTIMES", ",".join(targets))


class Meter(Sensor):
    """A power sensor that reads one watt."""

    interval_s = 0.02

    @property
    def channels(self) -> tuple[Channel, ...]:
        return (Channel(name="board.power", quantity=Quantity.POWER, site="board", source="test", meter="test"),)

    def read(self, now_ns: int) -> tuple[Reading, ...]:
        return (Reading(channel="board.power", time_ns=now_ns, value=1.0),)


class Job:
    """A measurement as the agent makes it, and all that it said."""

    def __init__(
        self, folder: Path, runtime: str, *names: str, sensors: Sequence[Sensor] = (), **changes: object
    ) -> None:
        self.runs: list[Run] = []
        self.readings: list[Reading] = []
        self.progress: list[Progress] = []
        self.result: MeasureResult | None = None
        files = [self._file(folder, name) for name in names or ("net.onnx",)]
        request = MeasureRequest(
            artifacts=tuple(file.artifact.sha256 for file in files),
            settings=Settings(runtime=runtime, threads=1),
            stopping=QUICK,
        )
        self.request = replace(request, **changes)
        asyncio.run(self._run(files, sensors))

    async def _run(self, files: Sequence[ArtifactFile], sensors: Sequence[Sensor]) -> None:
        limits = jobs.measure_limits(self.request)
        async for event in jobs.measure(self.request, files, limits=limits, sensors=sensors, profile=None):
            assert self.result is None, "the result is the last event"
            if isinstance(event, RunBatch):
                self.runs.extend(event.runs)
            elif isinstance(event, ReadingBatch):
                self.readings.extend(event.readings)
            elif isinstance(event, Progress):
                self.progress.append(event)
            else:
                self.result = event

    @property
    def found(self) -> MeasureResult:
        assert self.result is not None
        return self.result

    def phases(self) -> list[Phase]:
        """Return the phases in their order, each once per stay."""
        told = [one.phase for one in self.progress]
        return [phase for place, phase in enumerate(told) if not place or told[place - 1] is not phase]

    def _file(self, folder: Path, name: str) -> ArtifactFile:
        path = folder / hashlib.sha256(name.encode()).hexdigest()
        path.write_bytes(name.encode())
        made = Artifact(sha256=path.name, format=ArtifactFormat.ONNX, size_bytes=len(name), name=name)
        return ArtifactFile(path=path, artifact=made)


# Rests.


@pytest.mark.parametrize("names", [("a.onnx",), ("a.onnx", "b.onnx")])
def test_the_worker_rests_before_and_after_and_says_when(tmp_path: Path, names: tuple[str, ...]) -> None:
    before_ns = time.monotonic_ns()
    job = Job(tmp_path, "steady", *names, idle_s=0.3, sensors=[Meter()])
    windows = job.found.windows
    assert [window.kind for window in windows] == [WindowKind.IDLE_BEFORE, WindowKind.TIMED, WindowKind.IDLE_AFTER]
    ends = [before_ns, *(edge for window in windows for edge in (window.start_ns, window.end_ns)), time.monotonic_ns()]
    assert ends == sorted(ends), "the worker's clock is the one of sensors and supervisor, CLOCK_MONOTONIC"
    first, timed, last = windows
    assert min(first.end_ns - first.start_ns, last.end_ns - last.start_ns) >= 300_000_000

    def made(window: Window) -> Counter[RunKind]:
        return Counter(run.kind for run in job.runs if window.start_ns <= run.start_ns < window.end_ns)

    assert not made(first)
    assert not made(last)
    in_loop = [run for run in job.runs if run.kind in (RunKind.TIMED, RunKind.SETTLING)]
    assert sum(made(timed).values()) == len(in_loop)
    warm = [run.start_ns for run in job.runs if run.kind is RunKind.WARM_UP]
    assert min(warm) < first.start_ns, "models are loaded and were run once before the rest"
    assert max(warm) > first.end_ns, "the timed part follows a warm-up, not a rest"
    for window in (first, last):
        assert any(window.start_ns <= reading.time_ns <= window.end_ns for reading in job.readings)
    assert Phase.IDLE in job.phases()


def test_without_a_power_sensor_there_is_no_rest_unless_one_is_asked_for(tmp_path: Path) -> None:
    assert [window.kind for window in Job(tmp_path, "steady").found.windows] == [WindowKind.TIMED]
    assert len(Job(tmp_path, "steady", idle_s=0.01).found.windows) == 3


def test_a_device_with_a_power_sensor_rests_by_itself(tmp_path: Path) -> None:
    job = Job(tmp_path, "steady", sensors=[Meter()])
    assert len(job.found.windows) == 3
    assert len(Job(tmp_path, "steady", sensors=[Meter()], idle_s=0.0).found.windows) == 1


# Memory by phase.


def test_memory_is_told_by_phase(tmp_path: Path) -> None:
    one = Job(tmp_path, "phased").found.artifacts[0]
    memory = one.memory
    assert memory is not None
    # The kernel counts resident pages per processor and sums them up late.
    assert 30 * MIB <= memory.load_bytes < 60 * MIB
    assert 94 * MIB <= memory.first_run_bytes < 125 * MIB
    assert 46 * MIB <= memory.steady_bytes < 76 * MIB
    assert memory.runtime_bytes > 4 * MIB
    assert one.peak_memory_bytes == memory.first_run_bytes
    assert one.peak_rss_bytes == memory.runtime_bytes + memory.first_run_bytes


def test_a_kernel_that_cannot_reset_its_mark_yields_no_memory(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("VmHWM:\t  5000 kB\nVmRSS:\t  3000 kB\n")
    memory = PeakMemory(tmp_path)
    assert memory.baseline == 3000 * 1024
    assert memory.lap() is None, "built without CONFIG_PROC_PAGE_MONITOR: there is no clear_refs"
    (tmp_path / "clear_refs").touch()
    memory = PeakMemory(tmp_path)
    assert memory.lap() == 2000 * 1024


def test_memory_is_told_of_a_lone_artifact_only(tmp_path: Path) -> None:
    for one in Job(tmp_path, "phased", "a.onnx", "b.onnx").found.artifacts:
        assert (one.memory, one.peak_memory_bytes, one.peak_rss_bytes) == (None, None, None)


# Cold starts.


def test_cold_starts_are_fresh_processes_with_the_same_settings(tmp_path: Path) -> None:
    job = Job(tmp_path, "lazy", "a.onnx", "b.onnx", cold_starts=2)
    for one in job.found.artifacts:
        assert len(one.cold_starts) == 2
        for start in one.cold_starts:
            assert start.import_ns > 10_000_000, "no interpreter starts within ten milliseconds"
            assert start.load_ns >= 200_000_000
            assert start.first_run_ns >= 100_000_000
            assert start.total_ns == start.import_ns + start.load_ns + start.first_run_ns
    told = [one.fraction for one in job.progress if one.phase is Phase.COLD_START]
    assert told == [0.0, 0.25, 0.5, 0.75]
    assert job.phases()[0] is Phase.COLD_START
    spent = sum(start.total_ns for one in job.found.artifacts for start in one.cold_starts)
    assert job.found.device_time_ns > spent, "they hold the device"
    assert Job(tmp_path, "lazy").found.artifacts[0].cold_starts == ()
    assert workers_of(os.getpid()) == []


@pytest.mark.parametrize(
    ("runtime", "changes", "error", "message"),
    [
        ("mortal", {}, ModelRejected, "model 'net.onnx': this model runs in one process only"),
        ("unheard", {}, RuntimeUnavailable, "no runtime is named 'unheard'"),
        ("hangs", {"deadline_s": 2.0}, WorkerTimedOut, "'net.onnx' did not finish within its deadline of 2 s"),
        ("greedy", {"memory_limit_bytes": 200 * MIB}, WorkerOutOfMemory, "'net.onnx'.*a limit of 200 MiB"),
    ],
)
def test_a_cold_start_that_fails_ends_the_job_with_its_reason(
    tmp_path: Path,
    runtime: str,
    changes: dict[str, object],
    error: type[BoardfitError],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(
        "BOARDFIT_RUNTIMES", os.environ["BOARDFIT_RUNTIMES"] + ",greedy=boardfit_test_runtimes:GreedyRuntime"
    )
    with pytest.raises(error, match=message):
        Job(tmp_path, runtime, cold_starts=3, **changes)
    assert workers_of(os.getpid()) == []


def test_the_deadline_is_one_for_cold_starts_and_the_rest(tmp_path: Path) -> None:
    """The first cold starts end in time and the last does not."""
    with pytest.raises(WorkerTimedOut, match=r"within its deadline of 3 s"):
        Job(tmp_path, "lazy", cold_starts=100, deadline_s=3.0)


# Soaks.


def test_a_short_soak_records_every_run_and_lasts_as_long_as_asked(tmp_path: Path) -> None:
    job = Job(tmp_path, "steady", soak_s=1.0, stopping=replace(QUICK, max_time_s=0.1))
    [timed] = job.found.windows
    assert timed.end_ns - timed.start_ns >= 1_000_000_000
    runs = [run for run in job.runs if run.kind is RunKind.TIMED]
    assert job.found.artifacts[0].unrecorded_runs == 0
    assert runs[-1].start_ns - runs[0].start_ns > 900_000_000
    told = [one.fraction for one in job.progress if one.phase is Phase.TIMING]
    assert told == sorted(told)
    assert all(0 <= fraction <= 1 for fraction in told)


def test_a_long_soak_records_turns_at_even_distances_and_counts_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a day is to 200,000 runs, two seconds are to 1000.
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'device_agent.worker' in sys.orig_argv:\n"
        "    from device_agent.worker import soak\n"
        "    soak.RECORDED_RUNS = 5000\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    job = Job(tmp_path, "steady", soak_s=3.0)
    [one] = job.found.artifacts
    [timed] = job.found.windows
    runs = [run for run in job.runs if run.kind is RunKind.TIMED]
    assert 1000 < len(runs) < 7000
    assert one.unrecorded_runs > 1000
    turns = sorted({run.turn for run in runs})
    starts = {turn: min(run.start_ns for run in runs if run.turn == turn) for turn in turns}
    assert starts[turns[0]] - timed.start_ns < 200_000_000
    assert timed.end_ns - starts[turns[-1]] < 1_500_000_000
    gaps = [after - before for before, after in pairwise(turns)]
    assert min(gaps) > 1, "turns in between are left out"
    assert job.progress[-1].runs > len(job.runs), "progress counts all of them"


@pytest.mark.parametrize(
    ("length_s", "turn_ms", "turn_runs"),
    [(60, 100, 1), (86_400, 100, 20), (7 * 86_400, 60, 500), (10, 100, 500), (86_400, 3000, 1)],
)
def test_the_record_of_a_soak_stays_small_and_spans_all_of_it(length_s: int, turn_ms: int, turn_runs: int) -> None:
    spacing = soak.Spacing(length_s * 10**9, turn_runs, 5)
    starts = [5 + place * turn_ms * 10**6 for place in range(length_s * 1000 // turn_ms)]
    kept = [start for start in starts if spacing.due(start)]
    assert len(kept) * turn_runs <= soak.RECORDED_RUNS + turn_runs
    assert len(kept) == len(starts) or len(kept) * turn_runs > 0.4 * soak.RECORDED_RUNS
    assert kept[0] == starts[0]
    gaps = [after - before for before, after in pairwise(kept)]
    assert max(gaps) - min(gaps) <= turn_ms * 10**6, "even, but for the turn that a distance ends in"
    assert starts[-1] - kept[-1] <= max(gaps)


def test_deadlines_count_all_that_was_asked_for() -> None:
    plain = MeasureRequest(artifacts=("0" * 64,) * 2, stopping=QUICK)
    bound = longest_measurement_s(plain)
    assert longest_measurement_s(replace(plain, cold_starts=10)) > bound + 2 * 10 * 10
    assert longest_measurement_s(replace(plain, idle_s=600.0)) > 2 * 600
    assert longest_measurement_s(replace(plain, artifacts=("0" * 64,), soak_s=86_400.0)) > 86_400
    assert longest_measurement_s(replace(plain, deadline_s=7.0)) == 7.0


# Readings for verdicts, bounded.


def channel(name: str, quantity: Quantity) -> Channel:
    return Channel(name=name, quantity=quantity, site="cpu", source="test")


def test_a_days_readings_stay_small_and_keep_what_verdicts_look_at() -> None:
    channels = [
        channel("heat", Quantity.TEMPERATURE),
        channel("flags", Quantity.FLAGS),
        channel("clock0", Quantity.FREQUENCY),
        channel("clock1", Quantity.FREQUENCY),
        channel("watts", Quantity.POWER),
    ]
    log = ReadingLog(channels, most=100)
    for second in range(86_400):
        values = {
            "heat": 85.0 if second == 40_001 else 60.0,
            "flags": 4.0 if second == 12_345 else 1.0 if second == 80_000 else 0.0,
            "clock0": 1.5e9 if second < 50_000 else 1.0e9,
            "clock1": 0.6e9,
            "watts": 5.0,
        }
        log.extend(Reading(channel=name, time_ns=second * 10**9, value=value) for name, value in values.items())
    kept = log.readings()
    assert len(kept) < 4 * 100
    assert [one.time_ns for one in kept] == sorted(one.time_ns for one in kept)
    by_name = {
        name: [one for one in kept if one.channel == name] for name in ("heat", "flags", "clock0", "clock1", "watts")
    }
    assert by_name["watts"] == []
    assert max(one.value for one in by_name["heat"]) == 85.0
    assert {int(one.value) for one in by_name["flags"]} == {0, 1, 4}
    assert [one.time_ns for one in by_name["clock0"]] == [one.time_ns for one in by_name["clock1"]]
    slow = [one for one in by_name["clock0"] if one.value == 1.0e9]
    assert len(slow) / len(by_name["clock0"]) == pytest.approx(36_400 / 86_400, abs=0.1)


def test_few_readings_are_kept_as_they_are() -> None:
    log = ReadingLog([channel("heat", Quantity.TEMPERATURE)])
    readings = [Reading(channel="heat", time_ns=second, value=second / 3) for second in range(1000)]
    log.extend(readings)
    log.extend([Reading(channel="worker.rss", time_ns=1, value=1.0)])
    assert list(log.readings()) == readings


# The load of others.


def test_the_load_of_others_is_all_but_the_workers(tmp_path: Path) -> None:
    (tmp_path / "proc/77").mkdir(parents=True)

    def write(user: int, system: int, stolen: int, own_user: int, own_system: int) -> None:
        rest = f"idle {user} 10 {system} 9000 500 3 4 {stolen} 0 0".removeprefix("idle")
        (tmp_path / "proc/stat").write_text(f"cpu {rest}\ncpu0 1 2 3 4 5 6 7 8 0 0\n")
        words = " ".join(["0"] * 10)
        (tmp_path / "proc/77/stat").write_text(f"77 (a (b) c) R {words} {own_user} {own_system} 0 0\n")

    sensor = OthersCpu(77, tmp_path)
    write(1000, 100, 50, 200, 20)
    assert sensor.read(10**9) == (), "the first reading has nothing before it"
    hertz = os.sysconf("SC_CLK_TCK")
    write(1000 + 3 * hertz, 100 + hertz, 50 + 9 * hertz, 200 + 2 * hertz, 20 + hertz // 2)
    [reading] = sensor.read(3 * 10**9)
    assert (reading.channel, reading.time_ns) == ("cpu.others", 3 * 10**9)
    assert reading.value == pytest.approx((3 + 1 - 2 - 0.5) / 2)
    (tmp_path / "proc/77/stat").unlink()
    assert sensor.read(4 * 10**9) == (), "the worker is gone"
    sensor.close()
