"""The worker process from the supervisor's side: events, limits, crashes, and that nothing of it is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from device_agent.contract.artifact import Artifact, ArtifactFormat, Tensor
from device_agent.contract.errors import (
    BoardfitError,
    InvalidRequest,
    ModelRejected,
    RuntimeUnavailable,
    WorkerCrashed,
    WorkerOutOfMemory,
    WorkerTimedOut,
)
from device_agent.contract.measurement import Phase, Progress, Run, RunBatch, RunKind
from device_agent.contract.runs import RunColumns
from device_agent.contract.settings import MAX_RUNS, MeasureRequest, Settings, Stopping
from device_agent.worker import frames, order
from device_agent.worker.launch import (
    ArtifactFile,
    WorkerLimits,
    clear_stale_folders,
    open_infer,
    probe_runtimes,
    run_measure,
)
from device_agent.worker.loop import TurnTimer
from device_agent.worker.result import WorkerResult
from device_agent.worker.stopping import StoppingRule

RUNTIMES = Path(__file__).parents[1] / "fixtures" / "runtimes"
NAMES = ["Steady", "Segfaults", "Exits", "Hangs", "Hungry", "Greedy", "Peaky", "Noisy", "Picky", "Broken", "Wide"]
QUICK = Stopping(warmup_runs=2, warmup_time_s=0, min_runs=10, min_time_s=0, max_time_s=1, precision=None)
MIB = 1 << 20


@pytest.fixture(autouse=True)
def _test_runtimes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(RUNTIMES))
    targets = [f"{name.lower()}=boardfit_test_runtimes:{name}Runtime" for name in NAMES]
    monkeypatch.setenv("BOARDFIT_RUNTIMES", ",".join(targets))


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """No folder, no descriptor and no child outlives a test."""
    before = _leftovers()
    yield
    assert _leftovers() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def _leftovers() -> tuple[list[str], int]:
    own = Path(tempfile.gettempdir()).glob(f"boardfit-worker-{os.getpid()}-*")
    return sorted(map(str, own)), sum(1 for _ in Path("/proc/self/fd").iterdir())


def artifact(folder: Path, name: str = "net.onnx") -> ArtifactFile:
    content = name.encode()
    path = folder / hashlib.sha256(content).hexdigest()
    path.write_bytes(content)
    made = Artifact(sha256=path.name, format=ArtifactFormat.ONNX, size_bytes=len(content), name=name)
    return ArtifactFile(path=path, artifact=made)


class Recorder:
    """Runs a measurement to its end and keeps what it yields."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.phases: list[Phase] = []
        self.result: WorkerResult | None = None
        self.pid = 0

    def measure(
        self, runtime: str, *files: ArtifactFile, limits: WorkerLimits | None = None, **changes: object
    ) -> WorkerResult:
        request = MeasureRequest(
            artifacts=tuple(file.artifact.sha256 for file in files),
            settings=Settings(runtime=runtime, threads=1),
            stopping=QUICK,
        )
        asyncio.run(self._measure(replace(request, **changes), files, limits or WorkerLimits(deadline_s=60)))
        assert self.result is not None
        return self.result

    def keep_pid(self, pid: int) -> None:
        self.pid = pid

    async def _measure(self, request: MeasureRequest, files: tuple[ArtifactFile, ...], limits: WorkerLimits) -> None:
        async for event in run_measure(request, files, limits=limits, on_pid=self.keep_pid):
            assert self.result is None, "the result is the last event"
            if isinstance(event, RunBatch):
                self.runs.extend(event.runs)
            elif isinstance(event, Progress):
                self.phases.append(event.phase)
            else:
                self.result = event


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_one_artifact_is_warmed_up_and_timed(tmp_path: Path) -> None:
    recorder = Recorder()
    result = recorder.measure("steady", artifact(tmp_path))
    counts = Counter(run.kind for run in recorder.runs)
    assert counts[RunKind.WARM_UP] >= 2
    assert counts[RunKind.TIMED] >= 10
    assert set(counts) == {RunKind.WARM_UP, RunKind.TIMED}
    assert [run.start_ns for run in recorder.runs] == sorted(run.start_ns for run in recorder.runs)
    assert all(run.latency_ns >= 100_000 for run in recorder.runs), "a run sleeps for 100 us at least"
    assert recorder.phases[0] is Phase.STARTING
    assert Phase.LOADING in recorder.phases
    assert (result.runtime, result.runtime_version, result.threads) == ("steady", "1.0", 1)
    assert result.artifacts[0].sha256 == artifact(tmp_path).artifact.sha256
    assert result.device_time_ns > sum(run.latency_ns for run in recorder.runs)
    assert is_gone(recorder.pid)


def test_two_artifacts_take_balanced_turns_whose_first_run_settles(tmp_path: Path) -> None:
    recorder = Recorder()
    result = recorder.measure("steady", artifact(tmp_path, "a.onnx"), artifact(tmp_path, "b.onnx"), turn_runs=3)
    turns: dict[int, list[Run]] = {}
    for run in recorder.runs:
        if run.kind is not RunKind.WARM_UP:
            turns.setdefault(run.turn, []).append(run)
    sequence = [turns[turn][0].artifact for turn in sorted(turns)]
    assert sequence[:8] == [0, 1, 1, 0, 1, 0, 0, 1]
    for runs in turns.values():
        assert [run.kind for run in runs] == [RunKind.SETTLING, RunKind.TIMED, RunKind.TIMED]
        assert len({run.artifact for run in runs}) == 1
    timed = Counter(run.artifact for run in recorder.runs if run.kind is RunKind.TIMED)
    assert timed[0] == timed[1] >= 10
    assert [one.peak_rss_bytes for one in result.artifacts] == [None, None]


def test_every_run_is_sent_once_and_in_order(tmp_path: Path) -> None:
    recorder = Recorder()
    recorder.measure("steady", artifact(tmp_path), stopping=replace(QUICK, min_runs=3000, max_time_s=5))
    turns = [run.turn for run in recorder.runs]
    assert turns == sorted(turns)
    assert len({run.start_ns for run in recorder.runs}) == len(recorder.runs) >= 3000


def test_the_maximum_time_ends_a_measurement_that_is_never_content(tmp_path: Path) -> None:
    recorder = Recorder()
    recorder.measure("steady", artifact(tmp_path), stopping=replace(QUICK, min_runs=10**6, max_time_s=0.5))
    timed = [run for run in recorder.runs if run.kind is RunKind.TIMED]
    assert 0 < len(timed) < 10**6


def test_peak_memory_counts_what_was_held_for_a_moment(tmp_path: Path) -> None:
    peaky = Recorder().measure("peaky", artifact(tmp_path)).artifacts[0]
    steady = Recorder().measure("steady", artifact(tmp_path)).artifacts[0]
    assert peaky.peak_memory_bytes is not None
    assert steady.peak_memory_bytes is not None
    assert peaky.peak_rss_bytes is not None
    # The kernel counts resident pages per processor and sums them up late.
    assert 94 * MIB <= peaky.peak_memory_bytes < 128 * MIB
    assert steady.peak_memory_bytes < 16 * MIB
    assert peaky.peak_rss_bytes > peaky.peak_memory_bytes


def test_the_worker_stays_on_its_processors(tmp_path: Path) -> None:
    last = max(os.sched_getaffinity(0))
    settings = Settings(runtime="steady", threads=1, cpus=(last,))
    assert Recorder().measure("steady", artifact(tmp_path), settings=settings).artifacts[0].provider == str(last)
    with pytest.raises(InvalidRequest, match=r"cpus=\(9999,\): this device lets the agent use"):
        Recorder().measure("steady", artifact(tmp_path), settings=replace(settings, cpus=(9999,)))


def test_noise_on_stdout_and_stderr_disturbs_nothing(tmp_path: Path) -> None:
    recorder = Recorder()
    recorder.measure("noisy", artifact(tmp_path))
    assert len(recorder.runs) >= 12


@pytest.mark.parametrize(
    ("runtime", "limits", "error", "message"),
    [
        ("segfaults", WorkerLimits(), WorkerCrashed, "'net.onnx' crashed with signal SIGSEGV.*panic in convolution"),
        ("exits", WorkerLimits(), WorkerCrashed, "'net.onnx' exited with status 3"),
        ("hangs", WorkerLimits(deadline_s=2), WorkerTimedOut, "'net.onnx' did not finish within its deadline of 2 s"),
        (
            "hungry",
            WorkerLimits(memory_bytes=200 * MIB),
            WorkerOutOfMemory,
            r"'net.onnx' used 2\d\d MiB, over its limit of 200 MiB",
        ),
        ("greedy", WorkerLimits(memory_bytes=200 * MIB), WorkerOutOfMemory, "'net.onnx'.*a limit of 200 MiB"),
        ("picky", WorkerLimits(), ModelRejected, "model 'net.onnx': operator Frobnicate is not supported"),
        ("broken", WorkerLimits(), ModelRejected, "model 'net.onnx': the runtime failed: KeyError: 'forgotten'"),
        ("unheard", WorkerLimits(), RuntimeUnavailable, "no runtime is named 'unheard'.*known: .*onnxruntime"),
    ],
)
def test_each_way_to_fail_is_told_by_name(
    tmp_path: Path, runtime: str, limits: WorkerLimits, error: type[BoardfitError], message: str
) -> None:
    recorder = Recorder()
    endless = Stopping(warmup_runs=1, warmup_time_s=0, min_runs=10**6, max_time_s=3600, precision=None)
    with pytest.raises(error, match=message):
        recorder.measure(runtime, artifact(tmp_path), limits=limits, stopping=endless)
    assert is_gone(recorder.pid)


def test_a_killed_worker_is_reported_as_out_of_memory(tmp_path: Path) -> None:
    """SIGKILL that we did not send is the kernel's out-of-memory killer in all likelihood."""

    async def scenario() -> None:
        events = run_measure(
            MeasureRequest(artifacts=(file.artifact.sha256,), settings=Settings(runtime="hangs"), stopping=QUICK),
            [file],
            limits=WorkerLimits(),
            on_pid=lambda pid: asyncio.get_running_loop().call_later(1.0, os.kill, pid, signal.SIGKILL) and None,
        )
        async for _ in events:
            pass

    file = artifact(tmp_path)
    with pytest.raises(WorkerOutOfMemory, match=r"'net.onnx' was killed"):
        asyncio.run(scenario())


@pytest.mark.parametrize("way", ["close", "cancel"])
def test_leaving_early_kills_and_reaps(tmp_path: Path, way: str) -> None:
    pids: list[int] = []
    file = artifact(tmp_path)
    request = MeasureRequest(artifacts=(file.artifact.sha256,), settings=Settings(runtime="hangs"), stopping=QUICK)

    async def consume(started: Callable[[], object]) -> None:
        events = run_measure(request, [file], limits=WorkerLimits(), on_pid=pids.append)
        async with contextlib.aclosing(events):
            async for event in events:
                if isinstance(event, Progress) and event.phase is Phase.LOADING:
                    started()
                    if way == "close":
                        return

    async def scenario() -> None:
        loading = asyncio.Event()
        task = asyncio.create_task(consume(loading.set))
        await loading.wait()
        if way == "cancel":
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            await task
        assert is_gone(pids[0])

    asyncio.run(scenario())


def test_the_worker_dies_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    file = artifact(tmp_path)
    script = f"""
import asyncio, os
from pathlib import Path
from device_agent.contract.artifact import Artifact, ArtifactFormat
from device_agent.contract.measurement import Phase
from device_agent.contract.settings import MeasureRequest, Settings
from device_agent.worker.launch import ArtifactFile, WorkerLimits, run_measure
sha = {file.artifact.sha256!r}
file = ArtifactFile(path=Path({str(file.path)!r}),
                    artifact=Artifact(sha256=sha, format=ArtifactFormat.ONNX, size_bytes=1, name="n"))
async def main():
    request = MeasureRequest(artifacts=(sha,), settings=Settings(runtime="hangs"))
    pids = []
    async for event in run_measure(request, [file], limits=WorkerLimits(), on_pid=pids.append):
        if getattr(event, "phase", None) is Phase.LOADING:
            print(pids[0], flush=True)
asyncio.run(main())
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "TMPDIR": str(tmp_path)}
    supervisor = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment)
    assert supervisor.stdout is not None
    with supervisor.stdout:
        pid = int(supervisor.stdout.readline())
        assert not is_gone(pid)
        supervisor.kill()
        supervisor.wait()
    for _ in range(200):
        if is_gone(pid) or Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
            break
        time.sleep(0.05)
    else:
        os.kill(pid, signal.SIGKILL)
        pytest.fail("the worker outlived its supervisor by ten seconds")


def test_folders_of_dead_agents_are_cleared_and_those_of_live_ones_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    dead, alive = tmp_path / "boardfit-worker-4194999-x", tmp_path / f"boardfit-worker-{os.getpid()}-x"
    for folder in (dead, alive):
        folder.mkdir()
    clear_stale_folders()
    assert (dead.exists(), alive.exists()) == (False, True)


def test_the_files_must_be_those_of_the_request(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="not those of the request"):
        Recorder().measure("steady", artifact(tmp_path), artifacts=("f" * 64,))


def test_inference_without_inputs_answers_and_a_wrong_input_is_named(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_infer(
            Settings(runtime="steady"), artifact(tmp_path), limits=WorkerLimits(deadline_s=30)
        ) as session:
            assert await session.run(()) == ()
            extra = Tensor(name="x", dtype="float32", shape=(1,), data=b"\0\0\0\0")
            with pytest.raises(
                InvalidRequest, match=r"model 'net.onnx': inputs \['x'\] were sent; the model takes \[\]"
            ):
                await session.run((extra,))
            assert await session.run(()) == (), "a wrong request leaves the session usable"

    asyncio.run(scenario())


def test_an_answer_that_no_message_carries_is_refused_in_the_worker(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with open_infer(
            Settings(runtime="wide"), artifact(tmp_path), limits=WorkerLimits(deadline_s=30)
        ) as session:
            with pytest.raises(InvalidRequest, match=r"model 'net\.onnx': its outputs have 70\.0 MB .* smaller batch"):
                await session.run(())

    asyncio.run(scenario())


def test_a_limit_beyond_what_the_kernel_counts_is_none(tmp_path: Path) -> None:
    limits = WorkerLimits(deadline_s=60, memory_bytes=2**64 - 1)
    assert Recorder().measure("steady", artifact(tmp_path), limits=limits).artifacts


def test_an_inference_that_hangs_or_crashes_is_told_by_name(tmp_path: Path) -> None:
    async def scenario(runtime: str) -> None:
        async with open_infer(
            Settings(runtime=runtime), artifact(tmp_path), limits=WorkerLimits(deadline_s=2)
        ) as session:
            for _ in range(100):
                await session.run(())

    with pytest.raises(WorkerTimedOut, match=r"'net.onnx'.*2 s"):
        asyncio.run(scenario("hangs"))
    with pytest.raises(WorkerCrashed, match=r"'net.onnx' crashed with signal SIGSEGV"):
        asyncio.run(scenario("segfaults"))


def test_runtimes_are_probed_in_a_child_and_one_that_fails_to_import_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOARDFIT_RUNTIMES", "steady=boardfit_test_runtimes:SteadyRuntime,ghost=no_such_module:X")
    found = {info.name: info for info in asyncio.run(probe_runtimes())}
    assert {"onnxruntime", "litert", "tflite-runtime", "steady", "ghost"} <= set(found)
    assert found["steady"].unavailable is None
    assert "No module named 'no_such_module'" in str(found["ghost"].unavailable)


def test_the_supervisor_imports_neither_numpy_nor_a_runtime() -> None:
    code = (
        "import sys, device_agent.worker.launch, device_agent.sensors, device_agent.board, device_agent.contract.verdicts;"
        "print(sorted({name.partition('.')[0] for name in sys.modules}"
        " & {'numpy', 'onnxruntime', 'ai_edge_litert', 'tflite_runtime', 'torch', 'onnx', 'host'}))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


# The parts of which a worker is made.


def test_a_run_is_marked_when_it_or_the_one_before_it_was_preempted() -> None:
    timer = TurnTimer(threads=1, capacity=8)
    for place, count in enumerate([5, 5, 6, 6, 6, 8]):
        timer.switches[place] = count
    assert timer.disturbed(5) == [False, True, True, False, True]
    for place in range(4):
        timer.switches[place] = 9
    assert timer.disturbed(3) == [True, False, False], "the mark carries over to the next turn"


def test_a_turn_times_each_run_and_refuses_more_than_it_holds() -> None:
    timer = TurnTimer(threads=2, capacity=4)
    timer.turn(lambda: time.sleep(0.001), 4)
    assert all(timer.ends[i] - timer.starts[i] >= 1_000_000 for i in range(4))
    assert all(timer.starts[i + 1] >= timer.ends[i] for i in range(3))
    with pytest.raises(ValueError, match="5 runs are over the timer's capacity of 4"):
        timer.turn(lambda: None, 5)


@pytest.mark.parametrize("count", range(1, 9))
def test_the_order_is_balanced(count: int) -> None:
    rows = order.williams_rows(count)
    for position in range(count):
        assert {row[position] for row in rows} == set(range(count))
    follows: Counter[tuple[int, int]] = Counter()
    for row in [*rows, *(row[::-1] for row in rows)]:
        assert sorted(row) == list(range(count))
        follows.update(itertools.pairwise(row))
    assert len(set(follows.values())) <= 1, "each stands right after every other equally often"
    assert len(follows) == count * (count - 1)


def test_blocks_mirror_themselves_so_that_a_linear_drift_cancels() -> None:
    blocks = order.blocks(3)
    for _ in range(7):
        block = next(blocks)
        assert block == block[::-1]
        assert len({sum(i for i, who in enumerate(block) if who == one) for one in range(3)}) == 1


def test_runs_and_tensors_survive_the_pipe() -> None:
    runs = tuple(
        Run(artifact=i % 3, kind=kind, turn=i * 70_000, start_ns=2**60 + i, latency_ns=i * 10**9, disturbed=bool(i % 2))
        for i, kind in enumerate(list(RunKind) * 3)
    )
    columns = RunColumns()
    for run in runs:
        columns.add(run.artifact, run.kind, run.turn, run.start_ns, run.latency_ns, run.disturbed)
    assert tuple(RunColumns.from_bytes(columns.to_bytes())) == runs
    with pytest.raises(ValueError, match="no whole number of runs"):
        RunColumns.from_bytes(columns.to_bytes()[:-1])
    tensors = (
        Tensor(name="a", dtype="float32", shape=(1, 2), data=bytes(8)),
        Tensor(name="empty", dtype="int8", shape=(0,), data=b""),
        Tensor(name="b", dtype="uint8", shape=(3,), data=b"xyz"),
    )
    reader, writer = os.pipe()
    frames.write_frame(writer, *frames.tensors_frame("outputs", tensors))
    os.close(writer)
    frame = frames.read_frame(reader)
    assert frame is not None
    assert frames.tensors_of(*frame) == tensors
    assert frames.read_frame(reader) is None
    os.close(reader)


def test_the_worker_keeps_runs_as_they_were() -> None:
    log = RunColumns()
    runs = [*_timed(5, 3), replace(_timed(1, 0)[0], artifact=65_535, kind=RunKind.PROFILED, turn=2**31, disturbed=True)]
    for run in runs:
        log.add(run.artifact, run.kind, run.turn, run.start_ns, run.latency_ns, run.disturbed)
    assert list(log) == runs
    assert list(log[1:3]) == runs[1:3]
    twice = log[:]
    twice.extend(log)
    assert list(twice) == runs + runs
    assert len(log) == len(runs), "a slice is a copy"
    assert log.has(RunKind.PROFILED)
    assert not log.has(RunKind.WARM_UP)
    assert list(log.of(RunKind.TIMED)) == runs[:5]
    assert list(log.timed(0)) == runs[:5]
    assert list(log.timed(65_535)) == []
    assert log[-1] == runs[-1]


def test_a_frame_cut_short_is_an_error_and_not_an_end() -> None:
    reader, writer = os.pipe()
    os.write(writer, frames.encode({"type": "runs"}, b"payload")[:-3])
    os.close(writer)
    with pytest.raises(EOFError, match="closed"):
        frames.read_frame(reader)
    os.close(reader)


def _timed(count: int, spread: int) -> list[Run]:
    return [
        Run(
            artifact=0,
            kind=RunKind.TIMED,
            turn=i,
            start_ns=i,
            latency_ns=1_000_000 + (i * 7919) % (spread + 1),
            disturbed=False,
        )
        for i in range(count)
    ]


def test_the_rule_stops_when_count_time_and_precision_are_all_reached() -> None:
    rule = StoppingRule(Stopping(min_runs=100, min_time_s=1.0, max_time_s=10, precision=0.01), 1)
    rule.count(0, 100, 0.5)
    assert not rule.done(_timed(100, 0))
    assert rule.fraction == 0.5
    rule.count(0, 100, 0.6)
    assert rule.done(_timed(200, 0))


def test_the_rule_looks_again_only_after_some_growth() -> None:
    rule = StoppingRule(Stopping(min_runs=100, min_time_s=0, max_time_s=10, precision=0.001), 1)
    rule.count(0, 100, 0.1)
    assert not rule.done(_timed(100, 500_000))
    rule.count(0, 29, 0.1)
    assert not rule.done(_timed(129, 0)), "129 is not 1.3 times 100"
    rule.count(0, 1, 0.1)
    assert rule.done(_timed(130, 0))


def test_the_rule_ends_at_the_most_runs_that_anybody_may_ask_for() -> None:
    rule = StoppingRule(Stopping(min_runs=1, min_time_s=9, max_time_s=9, precision=None), 1)
    rule.count(0, MAX_RUNS - 1, 1.0)
    assert not rule.done(())
    rule.count(0, 1, 1.0)
    assert rule.done(())
    with pytest.raises(InvalidRequest, match="at most"):
        Stopping(min_runs=MAX_RUNS + 1)
    with pytest.raises(InvalidRequest, match="65 artifacts in one measurement; 64 at most"):
        MeasureRequest(artifacts=("0" * 64,) * 65)


def test_the_rule_ends_at_the_maximum_time() -> None:
    rule = StoppingRule(Stopping(min_runs=100, min_time_s=0, max_time_s=2), 1)
    rule.count(0, 3, 2.0)
    assert rule.done(_timed(3, 0))


@pytest.mark.parametrize("steps", range(0, 24, 2))
def test_a_start_that_is_cancelled_at_any_point_leaves_nothing(tmp_path: Path, steps: int) -> None:
    """The fixture of this file looks for a folder, a descriptor or a child that is left."""
    file = artifact(tmp_path)

    async def load() -> None:
        async with open_infer(Settings(runtime="steady"), file, limits=WorkerLimits()):
            await asyncio.sleep(3600)

    async def scenario() -> None:
        task = asyncio.create_task(load())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
