"""What it costs to sample a board's sensors while a model is timed.

Compares: the processor time of the sampler at each sensor's own rate with the goal of 1 % of a core; and the p50 of the agent's
    timed loop while the sampler runs with its p50 while it does not, and, as the measure of this machine's noise, two stretches
    without it with each other (A/A).
On: synthetic boards, whose files are on this machine's disk: a Jetson Orin Nano with its power meter at 20 looks a second, and a
    Raspberry Pi 5, whose power needs a process per look, three a second (cat stands in for vcgencmd). ONNX Runtime, one thread.
Fair because: it is the agent's own loop in its own worker process, with the sampler in the process that the worker reports to,
    as in a job. The worker runs without a pause; the sampler is switched on and off beside it in a balanced order in which drift
    cancels, and runs near a switch are left out. What is judged is the median over rounds of the logarithm of the ratio within
    a round, with its 95 % interval. A file on a disk is read as fast as most of sysfs; a chip on a slow bus makes the thread
    sleep longer and takes no more processor time. `device-agent sensors` says what a look costs on a real board.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from statistics import median

from benchmarks.nets import write_convolutions
from benchmarks.processes import Others
from benchmarks.table import Benchmark, CannotMeasure, Goal, Row, interval_of, judged, progress
from device_agent.contract.artifact import Artifact, ArtifactFormat
from device_agent.contract.measurement import Run, RunBatch, RunKind
from device_agent.contract.settings import MeasureRequest, Settings, Stopping
from device_agent.sampler import Sampler
from device_agent.sensors import Sensor, survey
from device_agent.sensors.recording import recorded_output, unpack_file
from device_agent.sensors.vcgencmd import find_vcgencmd
from device_agent.worker.launch import ArtifactFile, run_measure
from device_agent.worker.order import williams_rows
from device_agent.worker.supervise import WorkerLimits

BOARDS = Path(__file__).parents[1] / "tests/fixtures/sysroots"
CORE = Goal(below=1)
CHANGE = Goal(low=0.995, high=1.005)
_SAMPLED, _PLAIN, _PLAIN_AGAIN = range(3)
#: Runs so near to a switch of the sampler are left out: threads start and end there.
_MARGIN_NS = 30_000_000
_FEWEST_RUNS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class _Size:
    """Windows of the sampler alone, rounds of three windows beside the loop, and how long a window lasts."""

    windows: int
    rounds: int
    window_s: float


_FULL = _Size(windows=20, rounds=24, window_s=1.0)
_QUICK = _Size(windows=6, rounds=2, window_s=0.6)


def measure(quick: bool) -> list[Row]:
    """Measure on both boards."""
    size = _QUICK if quick else _FULL
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="boardfit-bench-") as name:
        folder = Path(name)
        model = write_convolutions(folder / "small.onnx", channels=24, size=40, layers=4)
        for board in ("jetson-orin-nano", "pi5"):
            with sensors_of(board, folder / board) as sensors:
                progress(f"{board}: the sampler alone")
                rows.append(_cost(board, sensors, size))
                others = Others()
                found = asyncio.run(_beside(board, sensors, model, size))
                rows += judge(board, found, others=others.doubt())
    return rows


@contextmanager
def sensors_of(board: str, folder: Path) -> Iterator[tuple[Sensor, ...]]:
    """Yield the sensors of a synthetic board. Its vcgencmd, if it has one, is cat, in a folder with a file per argument."""
    if not (BOARDS / board).is_dir():
        raise CannotMeasure(f"{BOARDS / board} is missing; run this in a checkout of Boardfit")
    unpack_file(BOARDS / board, folder)
    answer, path, before = recorded_output(folder, "vcgencmd pmic_read_adc"), os.environ.get("PATH", ""), Path.cwd()
    if answer is None:
        yield survey(folder).sensors
        return
    commands = folder / "commands"
    (commands / "pmic_read_adc").write_text(answer)
    (commands / "vcgencmd").symlink_to(shutil.which("cat") or "/bin/cat")
    os.environ["PATH"] = f"{commands}:{path}"
    os.chdir(commands)
    try:
        yield survey(folder, vcgencmd=find_vcgencmd()).sensors
    finally:
        os.environ["PATH"] = path
        os.chdir(before)


def _cost(board: str, sensors: Sequence[Sensor], size: _Size) -> Row:
    """Return what of a core the sampler takes with nothing else in the process; one value per window."""
    with Sampler(sensors) as sampler:
        time.sleep(size.window_s)
        marks = [(time.monotonic(), _core_s())]
        for _ in range(size.windows):
            time.sleep(size.window_s)
            sampler.drain()
            marks.append((time.monotonic(), _core_s()))
    shares = [(core - core0) / (at - at0) * 100 for (at0, core0), (at, core) in pairwise(marks)]
    share, interval = interval_of(shares)
    looks = sum(1 / sensor.interval_s for sensor in sensors)
    title = f"{board}: {len(sensors)} sensors, {looks:.0f} looks a second"
    return judged(title, share, "% of a core", CORE, interval=interval)


def _core_s() -> float:
    """Processor time of this process and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


async def _beside(board: str, sensors: Sequence[Sensor], model: Path, size: _Size) -> list[tuple[float, float, float]]:
    """Return per round the p50 (ns) of the timed loop with the sampler, without it, and without it again."""
    file = _artifact(model)
    request = MeasureRequest(
        artifacts=(file.artifact.sha256,),
        settings=Settings(threads=1),
        stopping=Stopping(min_time_s=3600, max_time_s=3600, precision=None),
    )
    runs: list[Run] = []
    windows: asyncio.Task[list[list[tuple[int, int]]]] | None = None
    worker = run_measure(request, [file], limits=WorkerLimits(deadline_s=3600), on_pid=lambda _: None)
    async with aclosing(worker) as events:
        async for event in events:
            if isinstance(event, RunBatch):
                runs += [run for run in event.runs if run.kind is RunKind.TIMED]
            if runs and windows is None:
                windows = asyncio.create_task(_switch(board, sensors, size))
            # The last batch comes after the last window: wait for a run that began later.
            if windows is not None and windows.done() and runs[-1].start_ns > windows.result()[-1][-1][1]:
                break
    if windows is None:
        raise CannotMeasure("the worker ended before it timed a run")
    found = [one for spans in windows.result() if (one := _medians(runs, spans)) is not None]
    if not found:
        raise CannotMeasure("the timed loop hardly got a processor; the machine is too busy, try again later")
    return found


async def _switch(board: str, sensors: Sequence[Sensor], size: _Size) -> list[list[tuple[int, int]]]:
    """Switch the sampler on and off; return per round the begin and end of the three windows, in the order of the arms."""
    rows = williams_rows(3)
    balanced = list(chain.from_iterable((row, row[::-1]) for row in rows))
    found = []
    for number in range(size.rounds):
        progress(f"{board}: beside the loop, round {number + 1} of {size.rounds}")
        spans = [(0, 0)] * 3
        for arm in balanced[number % len(balanced)]:
            with Sampler(sensors if arm == _SAMPLED else ()) as sampler:
                begin = time.monotonic_ns()
                await asyncio.sleep(size.window_s)
                sampler.drain()
                spans[arm] = (begin + _MARGIN_NS, time.monotonic_ns() - _MARGIN_NS)
        found.append(spans)
    return found


def _medians(runs: Sequence[Run], spans: Sequence[tuple[int, int]]) -> tuple[float, float, float] | None:
    """Return the p50 of each window; None for a round with a window of too few runs."""
    within = [[run.latency_ns for run in runs if begin <= run.start_ns < end] for begin, end in spans]
    if min(map(len, within)) < _FEWEST_RUNS:
        return None
    sampled, plain, again = (median(latencies) for latencies in within)
    return sampled, plain, again


def _artifact(path: Path) -> ArtifactFile:
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    artifact = Artifact(sha256=sha256, format=ArtifactFormat.ONNX, size_bytes=len(content), name=path.name)
    return ArtifactFile(path=path, artifact=artifact)


def judge(board: str, found: Sequence[tuple[float, float, float]], *, others: str | None) -> list[Row]:
    """Return the rows of one board: the p50, its ratio with the verdict, and the noise.

    `found` holds per round the p50 (ns) with the sampler, without it, and without it again.
    """
    middle, interval = interval_of([math.log(sampled / plain) for sampled, plain, _ in found])
    noise_middle, noise = interval_of([math.log(again / plain) for _, plain, again in found])
    band, noise_band = _exponentials(interval), _exponentials(noise)
    doubt = None
    if band is None or noise_band is None:
        doubt = "too few rounds for an interval; run without --quick"
    elif not all(map(CHANGE.holds, band)) and band[0] <= noise_band[1] and noise_band[0] <= band[1]:
        if not all(map(CHANGE.holds, noise_band)):
            doubt = f"too noisy to tell: two stretches without it give {noise_band[0]:.4f} - {noise_band[1]:.4f}"
        else:
            doubt = others
    title = f"{board}: p50 with the sampler / without, {len(found)} rounds"
    return [
        Row(metric=f"{board}: p50 of the loop without the sampler", value=median(one[_PLAIN] for one in found) / 1e6, unit="ms"),
        judged(title, math.exp(middle), "ratio", CHANGE, interval=band, doubt=doubt),
        Row(metric=f"{board}: without / without (A/A)", value=math.exp(noise_middle), unit="ratio", interval=noise_band),
    ]  # fmt: skip


def _exponentials(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if interval is None else (math.exp(interval[0]), math.exp(interval[1]))


BENCHMARK = Benchmark(name="sampler", about=__doc__ or "", measure=measure)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
