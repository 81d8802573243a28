"""The agent's work in terms of the contract; gRPC stands in front of it, in service.py."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace

from device_agent import __version__, processors
from device_agent.board import BoardFacts
from device_agent.contract.artifact import Artifact
from device_agent.contract.device import CONTRACT_VERSION, DeviceInfo, MissingSensor, RuntimeInfo
from device_agent.contract.load import LoadEvent, LoadRequest
from device_agent.contract.measurement import MeasureEvent, ReadingBatch
from device_agent.contract.settings import MeasureRequest, Settings
from device_agent.contract.transfer import InferHeader
from device_agent.exclusive import ExclusiveUse
from device_agent.jobs import (
    INFER_DEADLINE_S,
    channels_of,
    default_memory_limit,
    measure,
    measure_limits,
)
from device_agent.profiles import Profile
from device_agent.sampler import Sampler
from device_agent.sensors import Sensor
from device_agent.store import ArtifactStore
from device_agent.worker.launch import ArtifactFile, InferSession, WorkerLimits, open_infer, probe_runtimes

#: Long enough for a sensor that starts a process for each look.
READ_S = 0.25


class Agent:
    """One device's store, and who uses it. Lives in one event loop.

    `describe_board` is asked at every Describe, since the governor may change; the runtimes are probed once.
    """

    def __init__(
        self,
        store: ArtifactStore,
        *,
        describe_board: Callable[[], BoardFacts],
        profile: Profile | None,
        sensors: Sequence[Sensor],
        missing_sensors: Sequence[MissingSensor] = (),
    ) -> None:
        self.store = store
        self.exclusive = ExclusiveUse()
        self._describe_board = describe_board
        self._profile = profile
        self._sensors = tuple(sensors)
        self._missing_sensors = tuple(missing_sensors)
        self._probe: asyncio.Task[tuple[RuntimeInfo, ...]] | None = None
        #: With which the process ends; an upgrade asks to be started again.
        self.exit_code = 0

    def start(self) -> None:
        """Begin to look for runtimes in the background, in a process of their own."""
        self._probe = asyncio.create_task(probe_runtimes())

    @property
    def stopping(self) -> bool:
        """Whether `stop` was called."""
        return self.exclusive.stopping

    async def stop(self) -> None:
        """Abort what runs and refuse new jobs. Returns when no child process is left."""
        await self.exclusive.stop()
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.wait([self._probe])

    async def describe(self) -> DeviceInfo:
        """Return what the device is. Errors are those of probing the runtimes."""
        runtimes = await self._runtimes()
        return device_info(
            self.store.device_id(),
            self._describe_board(),
            self._profile,
            runtimes=runtimes,
            sensors=self._sensors,
            missing_sensors=self._missing_sensors,
        )

    async def measure(
        self, request: MeasureRequest, token: str | None, caller: str
    ) -> AsyncGenerator[MeasureEvent, None]:
        """Yield the events of a measurement; close the iterator to end it. `caller` names whoever holds no lease."""
        self.exclusive.check(token)
        wanted = request.settings.inputs_sha256
        with self.store.use([*request.artifacts, *([wanted] if wanted else [])]) as held:
            every = [ArtifactFile(path=path, artifact=artifact) for path, artifact in held]
            files, data = every[: len(request.artifacts)], every[-1] if wanted else None
            names = " and ".join(file.artifact.name for file in files)
            with self.exclusive.job(f"measuring {names}", token, caller):
                await self._probed()
                request = replace(request, settings=self._complete(request.settings))
                limits = measure_limits(request)
                job = measure(request, files, limits=limits, sensors=self._sensors, profile=self._profile, data=data)
                async with aclosing(job) as events:
                    async for event in events:
                        yield event

    async def load(self, request: LoadRequest, token: str | None, caller: str) -> AsyncGenerator[LoadEvent, None]:
        """Yield the events of a load job; close the iterator to end it. `caller` names whoever holds no lease."""
        from device_agent import load_job  # an agent that is never asked for it does not pay for it

        self.exclusive.check(token)
        wanted = request.settings.inputs_sha256
        with self.store.use([request.artifact, *([wanted] if wanted else [])]) as held:
            file, *data = [ArtifactFile(path=path, artifact=artifact) for path, artifact in held]
            with self.exclusive.job(f"putting load on {file.artifact.name}", token, caller):
                await self._probed()
                request = load_job.share_threads(request, self._complete)
                job = load_job.load(
                    request,
                    file,
                    limits=load_job.load_limits(request),
                    sensors=self._sensors,
                    profile=self._profile,
                    data=data[0] if data else None,
                )
                async with aclosing(job) as events:
                    async for event in events:
                        yield event

    @asynccontextmanager
    async def infer(self, header: InferHeader, token: str | None, caller: str) -> AsyncIterator[InferSession]:
        """Load one artifact and answer batches of inputs until the context ends."""
        self.exclusive.check(token)
        with (
            self.store.use([header.sha256]) as [(path, artifact)],
            self.exclusive.job(f"inference with {artifact.name}", token, caller),
        ):
            await self._probed()
            limits = WorkerLimits(
                deadline_s=header.deadline_s or INFER_DEADLINE_S,
                memory_bytes=header.memory_limit_bytes or default_memory_limit(),
            )
            file = ArtifactFile(path=path, artifact=artifact)
            async with open_infer(self._complete(header.settings), file, limits=limits) as session:
                yield session

    async def read_sensors(self, token: str | None, caller: str) -> ReadingBatch:
        """Return the newest reading of each channel. DeviceBusy while a job runs: two who read one sensor disturb each other."""
        self.exclusive.check(token)
        with self.exclusive.job("reading the sensors", token, caller):
            with Sampler(self._sensors) as sampler:
                await asyncio.sleep(READ_S)
            return ReadingBatch(readings=tuple({each.channel: each for each in sampler.drain()}.values()))

    def delete(self, sha256: str, token: str | None) -> None:
        """Remove an artifact. ArtifactNotFound; DeviceBusy while it is in use or the device is somebody's."""
        self.exclusive.check(token)
        self.store.delete(sha256)

    def list(self) -> tuple[Artifact, ...]:
        """Return the artifacts, least recently used first."""
        return self.store.list()

    def _complete(self, settings: Settings) -> Settings:
        return complete_settings(settings, self._describe_board(), self._profile)

    async def _runtimes(self) -> tuple[RuntimeInfo, ...]:
        if self._probe is None or (self._probe.done() and (self._probe.cancelled() or self._probe.exception())):
            self._probe = asyncio.create_task(probe_runtimes())
        # One caller that hangs up must not cancel the probe that others wait for.
        return await asyncio.shield(self._probe)

    async def _probed(self) -> None:
        """Wait until the probe is over, however it ended: its imports would disturb a measurement."""
        if self._probe is not None and not self._probe.done():
            await asyncio.wait([self._probe])


def complete_settings(settings: Settings, board: BoardFacts, profile: Profile | None) -> Settings:
    """Return the settings with the processors of the group that they name, and the device's threads where they leave those to it.

    InvalidRequest if the board has no such group.
    """
    if settings.cpu_group is not None:
        settings = replace(settings, cpus=processors.of_group(board.cpu_groups, settings.cpu_group), cpu_group=None)
    if settings.threads is None:
        settings = replace(settings, threads=default_threads(board, profile, settings.cpus))
    return settings


def default_threads(board: BoardFacts, profile: Profile | None, cpus: tuple[int, ...] | None = None) -> int:
    """Return how many threads compute unless a request says otherwise: no more than the processors it is pinned to."""
    usable = board.cores if cpus is None else min(board.cores, len(cpus))
    if profile is not None and profile.threads is not None:
        return min(profile.threads, usable)
    return usable


def device_info(
    device_id: str,
    board: BoardFacts,
    profile: Profile | None,
    *,
    runtimes: tuple[RuntimeInfo, ...],
    sensors: Sequence[Sensor],
    missing_sensors: Sequence[MissingSensor] = (),
) -> DeviceInfo:
    """Put together what Describe says."""
    return DeviceInfo(
        device_id=device_id,
        agent_version=__version__,
        contract_version=CONTRACT_VERSION,
        profile=None if profile is None else profile.name,
        board=board.board,
        architecture=board.architecture,
        cpu=board.cpu,
        cores=board.cores,
        memory_bytes=board.memory_bytes,
        operating_system=board.operating_system,
        kernel=board.kernel,
        python=board.python,
        governor=board.governor,
        default_threads=default_threads(board, profile),
        runtimes=runtimes,
        channels=channels_of(sensors),
        missing_sensors=tuple(missing_sensors),
    )
