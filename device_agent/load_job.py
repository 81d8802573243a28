"""The supervisor's side of a load job: a worker under load, and the sensors sampled beside it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace

from device_agent.contract.errors import WorkerCrashed
from device_agent.contract.load import LoadEvent, LoadRequest, LoadResult, longest_s
from device_agent.contract.measurement import Reading, ReadingBatch
from device_agent.contract.settings import Settings
from device_agent.contract.verdicts import judge_load
from device_agent.jobs import channels_of, default_memory_limit, watch_worker, with_readings
from device_agent.profiles import Profile
from device_agent.sampler import Sampler
from device_agent.sensors import Sensor
from device_agent.worker.launch import ArtifactFile, WorkerLimits
from device_agent.worker.launch_load import WorkerLoad, run_load


async def load(
    request: LoadRequest,
    file: ArtifactFile,
    *,
    limits: WorkerLimits,
    sensors: Sequence[Sensor],
    profile: Profile | None,
    data: ArtifactFile | None = None,
) -> AsyncGenerator[LoadEvent, None]:
    """Put load on a model and sample the sensors meanwhile; the last event is the result with its verdicts.

    Close the iterator to kill the worker. Errors are those of `run_load`.
    """
    readings: list[Reading] = []
    found: WorkerLoad | None = None
    with Sampler(sensors) as sampler:
        worker = run_load(request, file, limits=limits, on_pid=lambda pid: watch_worker(sampler, pid), data=data)
        async with aclosing(with_readings(worker, sampler)) as events:
            async for event in events:
                if isinstance(event, WorkerLoad):
                    found = event
                    continue
                if isinstance(event, ReadingBatch):
                    readings.extend(event.readings)
                yield event
    if found is None:
        raise WorkerCrashed(f"the worker for {file.artifact.name} ended without a result; see the agent's log")
    yield _judged(request, found, readings, sensors, profile)


def _judged(
    request: LoadRequest,
    found: WorkerLoad,
    readings: Sequence[Reading],
    sensors: Sequence[Sensor],
    profile: Profile | None,
) -> LoadResult:
    result = found.result
    begin, end = result.trials[0].start_ns, result.trials[-1].end_ns
    verdicts = judge_load(
        [reading for reading in readings if begin <= reading.time_ns <= end],
        channels=channels_of(sensors),
        throttle_temperature_c=None if profile is None else profile.throttle_temperature_c,
        asked_provider=request.settings.provider,
        ran=found,
    )
    return replace(result, verdicts=verdicts)


def load_limits(request: LoadRequest) -> WorkerLimits:
    """Return the request's limits, with defaults derived from its times and the memory that is available now."""
    return WorkerLimits(
        deadline_s=longest_s(request), memory_bytes=request.memory_limit_bytes or default_memory_limit()
    )


def share_threads(request: LoadRequest, complete: Callable[[Settings], Settings]) -> LoadRequest:
    """Return the request with complete settings; threads that it leaves to the device are divided among its streams."""
    settings = complete(request.settings)
    if request.settings.threads is None:
        assert settings.threads is not None
        settings = replace(settings, threads=max(1, settings.threads // request.streams))
    return replace(request, settings=settings)
