"""Jobs, each bounded in time and memory, with the sensors sampled beside it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from device_agent.contract.deadlines import COLD_START_S, IDLE_S, longest_measurement_s
from device_agent.contract.device import Channel, Quantity
from device_agent.contract.errors import WorkerCrashed
from device_agent.contract.measurement import (
    ColdStart,
    MeasureEvent,
    MeasureResult,
    Phase,
    Progress,
    ReadingBatch,
    RunBatch,
    RunKind,
)
from device_agent.contract.runs import RunColumns
from device_agent.contract.settings import MeasureRequest
from device_agent.contract.verdicts import judge
from device_agent.profiles import Profile
from device_agent.readings import ReadingLog
from device_agent.sampler import Sampler
from device_agent.sensors import WORKER_RSS, Sensor, others, worker_rss
from device_agent.worker.launch import ArtifactFile, WorkerLimits, run_cold_start, run_measure
from device_agent.worker.result import WorkerResult

_Event = TypeVar("_Event")

#: For loading, and for each batch, of an inference; batches may be large and boards slow.
INFER_DEADLINE_S = 600.0
#: Share of the available memory that a worker may take, so that the system and the agent live on.
MEMORY_SHARE = 0.8


async def measure(
    request: MeasureRequest,
    files: Sequence[ArtifactFile],
    *,
    limits: WorkerLimits,
    sensors: Sequence[Sensor],
    profile: Profile | None,
    data: ArtifactFile | None = None,
) -> AsyncGenerator[MeasureEvent, None]:
    """Run a measurement and sample the sensors meanwhile; the last event is the result with its verdicts.

    `data` is the file of DATA inputs. Close the iterator to kill the worker. Errors are those of `run_measure`.
    """
    began_ns = time.monotonic_ns()
    channels = channels_of(sensors)
    request = replace(request, idle_s=idle_s_of(request, channels))
    cold_starts: list[list[ColdStart]] = [[] for _ in files]
    runs = RunColumns()
    readings = ReadingLog(channels)
    result: WorkerResult | None = None
    with Sampler(sensors) as sampler:
        for place in range(request.cold_starts * len(files)):
            yield Progress(phase=Phase.COLD_START, fraction=place / (request.cold_starts * len(files)), runs=0)
            index = place % len(files)
            left = _left(limits, began_ns, COLD_START_S)
            cold_starts[index].append(await run_cold_start(request, files[index], limits=left, data=data))
        limits = _left(limits, began_ns)
        worker = run_measure(request, files, limits=limits, on_pid=lambda pid: watch_worker(sampler, pid), data=data)
        async with aclosing(with_readings(worker, sampler)) as events:
            async for event in events:
                if isinstance(event, WorkerResult):
                    result = event
                    continue
                if isinstance(event, RunBatch):
                    assert isinstance(event.runs, RunColumns)
                    # Verdicts are about timed runs; a long warm-up makes many others.
                    if event.runs.has(RunKind.TIMED):
                        runs.extend(event.runs)
                elif isinstance(event, ReadingBatch):
                    readings.extend(event.readings)
                yield event
    if result is None:
        names = ", ".join(file.artifact.name for file in files)
        raise WorkerCrashed(f"the worker for {names} ended without a result; see the agent's log")
    # The statistics of a hundred thousand runs take a while, and the event loop has other calls to answer.
    judged = await asyncio.to_thread(_judged, request, result, runs, readings, channels, profile, cold_starts)
    yield replace(judged, device_time_ns=time.monotonic_ns() - began_ns)


async def with_readings(
    worker: AsyncGenerator[_Event, None], sampler: Sampler
) -> AsyncGenerator[_Event | ReadingBatch, None]:
    """Yield a worker's events and, after each, what the sensors said meanwhile; the sampler is stopped after the last."""
    async with aclosing(worker) as events:
        async for event in events:
            yield event
            fresh = sampler.drain()
            if fresh:
                yield ReadingBatch(readings=fresh)
    await asyncio.to_thread(sampler.stop)
    fresh = sampler.drain()
    if fresh:
        yield ReadingBatch(readings=fresh)


def _left(limits: WorkerLimits, began_ns: int, most_s: float | None = None) -> WorkerLimits:
    """Return what the next worker gets of a job's limits, `most_s` seconds at most."""
    if limits.deadline_s is None:
        return replace(limits, deadline_s=most_s)
    # Never quite nothing: a worker that starts too late is to say so.
    left_s = max(0.001, limits.deadline_s - (time.monotonic_ns() - began_ns) / 1e9)
    if most_s is not None and most_s < left_s:
        return replace(limits, deadline_s=most_s)
    return replace(limits, left_s=left_s)


def idle_s_of(request: MeasureRequest, channels: Sequence[Channel]) -> float:
    """Return how long the worker rests before and after: what was asked for, else 0 where no energy can come of it.

    That is on a device that measures no power, and for artifacts in turns, whose shares of the power can't be told apart.
    """
    if request.idle_s is not None:
        return request.idle_s
    if len(request.artifacts) > 1:
        return 0.0
    return IDLE_S if any(one.quantity in (Quantity.POWER, Quantity.ENERGY) for one in channels) else 0.0


def _judged(
    request: MeasureRequest,
    result: WorkerResult,
    columns: RunColumns,
    log: ReadingLog,
    channels: Sequence[Channel],
    profile: Profile | None,
    cold_starts: Sequence[Sequence[ColdStart]],
) -> MeasureResult:
    runs, readings = tuple(columns.of(RunKind.TIMED)), log.readings()
    hot = None if profile is None else profile.throttle_temperature_c
    return result.with_verdicts(
        [
            judge(request, index, runs, readings, result, channels=channels, throttle_temperature_c=hot)
            for index in range(len(request.artifacts))
        ],
        cold_starts,
    )


def channels_of(sensors: Sequence[Sensor]) -> tuple[Channel, ...]:
    """Return the channels of a job's readings: those of the sensors, and those of its worker."""
    return (*(channel for sensor in sensors for channel in sensor.channels), WORKER_RSS, others.CHANNEL)


def watch_worker(sampler: Sampler, pid: int) -> None:
    """Sample what belongs to a job's worker: its resident memory, and what the processors do for others beside it."""
    sampler.add(worker_rss(pid))
    sampler.add(others.OthersCpu(pid))


def measure_limits(request: MeasureRequest) -> WorkerLimits:
    """Return the request's limits, with defaults derived from its times and the memory that is available now."""
    return WorkerLimits(
        deadline_s=longest_measurement_s(request),
        memory_bytes=request.memory_limit_bytes or default_memory_limit(),
    )


def default_memory_limit(root: Path = Path("/")) -> int:
    """Return what a worker may take: a share of MemAvailable, or of what the cgroup leaves if that is less (bytes)."""
    available = _mem_available(root)
    left = _cgroup_left(root / "sys/fs/cgroup")
    return int((available if left is None else min(available, left)) * MEMORY_SHARE)


def _cgroup_left(folder: Path) -> int | None:
    """Return the bytes that the cgroup leaves (v2, then v1), None if it has no limit.

    The usage counts the page cache, which uploads fill and which the kernel gives up when memory is asked for.
    """
    names = (
        ("memory.max", "memory.current", "memory.stat", ""),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat", "total_"),
    )
    for limit, used, stat, prefix in names:
        try:
            left = int((folder / limit).read_text()) - int((folder / used).read_text())
        except (OSError, ValueError):  # another version, or no limit ("max")
            continue
        cache = 0
        with suppress(OSError, ValueError):
            fields = dict(line.split() for line in (folder / stat).read_text().splitlines())
            cache = sum(int(fields.get(f"{prefix}{kind}_file", 0)) for kind in ("active", "inactive"))
        return max(0, left + cache)
    return None


def _mem_available(root: Path) -> int:
    for line in (root / "proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    raise OSError(f"{root / 'proc/meminfo'} has no MemAvailable; Linux 3.14 or newer has it")
