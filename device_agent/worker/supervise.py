"""The life of a worker process: started on one job, watched for memory and time, killed and reaped however the caller leaves."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_agent.contract.errors import BoardfitError, WorkerCrashed, WorkerOutOfMemory, WorkerTimedOut, error_from
from device_agent.durable import inherited_locks
from device_agent.sensors.worker_rss import ResidentMemory
from device_agent.worker import frames

_FOLDER_PREFIX = "boardfit-worker-"
_TAIL_BYTES = 8192
#: While a model is loaded memory grows fast; later a slower look is enough, and disturbs the runs less.
_LOADING_POLL_S = 0.02
_RUNNING_POLL_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLimits:
    """Wall time of the whole job (of loading and of each run, for infer) and resident bytes; None sets no limit.

    `left_s` is what a worker gets of the deadline where others of the same job came before it.
    """

    deadline_s: float | None = None
    left_s: float | None = None
    memory_bytes: int | None = None


def temporary_folder() -> Path:
    """Return the folder that workers' folders are made in: $TMPDIR, else /tmp, else /var/tmp."""
    # tempfile would also ask TEMP and TMP, and brings random: 0.3 MiB.
    places = (os.environ.get("TMPDIR") or "/tmp", "/tmp", "/var/tmp")
    return next((Path(place).absolute() for place in places if os.access(place, os.W_OK | os.X_OK)), Path.cwd())


def clear_stale_folders() -> None:
    """Remove folders that workers of dead agents left in the temporary folder. Call at the agent's start."""
    for folder in temporary_folder().glob(f"{_FOLDER_PREFIX}*-*"):
        owner = folder.name[len(_FOLDER_PREFIX) :].partition("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(folder, ignore_errors=True)


class Worker:
    """A running worker process: its pipes, the last of its stderr, and the reason why it was killed."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        events: asyncio.StreamReader,
        jobs: asyncio.StreamWriter,
        names: Sequence[str],
        limits: WorkerLimits,
    ) -> None:
        self._process = process
        self._events = events
        self._jobs = jobs
        self._limits = limits
        self._deadline: asyncio.TimerHandle | None = None
        self._failure: BoardfitError | None = None
        self._tail = bytearray()
        self.reading_stderr: asyncio.Task[None] | None = None
        self.loading = True
        self.who = f"the worker of model {', '.join(map(repr, names))}" if names else "the worker that probes runtimes"
        self.pid = process.pid

    def set_deadline(self, seconds: float | None, *, stated_s: float | None = None) -> None:
        """Kill the worker after this many seconds unless called again; None disarms. `stated_s` is the deadline to speak of."""
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if seconds is not None:
            error = WorkerTimedOut(
                f"{self.who} did not finish within its deadline of {stated_s or seconds:g} s and was killed;"
                " raise the deadline (--timeout) or ask for fewer runs"
            )
            self._deadline = asyncio.get_running_loop().call_later(seconds, self._fail, error)

    def _fail(self, error: BoardfitError) -> None:
        self._failure = self._failure or error
        self.kill()

    def kill(self) -> None:
        """Kill the worker's whole process group."""
        _kill_group(self.pid)

    async def send(self, header: dict[str, Any], payload: bytes = b"") -> None:
        """Send a frame; a worker that is gone is noticed by the next `receive`."""
        with contextlib.suppress(ConnectionError):
            self._jobs.write(frames.encode(header, payload))
            await self._jobs.drain()

    async def receive(self) -> tuple[dict[str, Any], bytes]:
        """Return the next frame. Raises what the worker reported or the reason of its death."""
        try:
            header_bytes, payload_bytes = frames.lengths(await self._events.readexactly(frames.PREFIX.size))
            header = json.loads(await self._events.readexactly(header_bytes))
            payload = await self._events.readexactly(payload_bytes)
        except asyncio.IncompleteReadError:
            raise await self._death() from None
        if header["type"] == "error":
            raise error_from("INTERNAL", header["code"], header["message"])
        return header, payload

    async def _death(self) -> BoardfitError:
        """Return why the worker is gone."""
        self.kill()
        status = await self._process.wait()
        if self._failure is not None:
            return self._failure
        if self.reading_stderr is not None:
            await asyncio.wait([self.reading_stderr], timeout=1.0)
        words = " ".join(self._tail.decode(errors="replace").split())[-400:]
        said = f"; its last words: {words}" if words else ""
        if status == -signal.SIGKILL:
            return WorkerOutOfMemory(
                f"{self.who} was killed (SIGKILL), most likely by the kernel for lack of memory; free memory on the device"
                f" or use a smaller model{said}"
            )
        if "bad_alloc" in words or "MemoryError" in words:
            limit = self._limits.memory_bytes
            bound = "" if limit is None else f" with a limit of {limit / 2**20:.0f} MiB"
            return WorkerOutOfMemory(
                f"{self.who} ran out of memory{bound}; raise the limit (--memory-limit) or use a smaller model{said}"
            )
        if status < 0:
            cause = f"crashed with signal {signal.Signals(-status).name} in the runtime"
        else:
            cause = f"exited with status {status} before it was done"
        return WorkerCrashed(f"{self.who} {cause}; try another runtime or version, or export the model again{said}")

    async def watch_memory(self) -> None:
        """Kill the worker when its resident memory passes the limit."""
        limit = self._limits.memory_bytes
        if limit is None:
            return
        with ResidentMemory(self.pid) as memory:
            while (used := memory.read()) is not None:
                if used > limit:
                    self._fail(
                        WorkerOutOfMemory(
                            f"{self.who} used {used / 2**20:.0f} MiB, over its limit of {limit / 2**20:.0f} MiB, and was"
                            " killed; raise the limit (--memory-limit) or use a smaller model"
                        )
                    )
                    return
                await asyncio.sleep(_LOADING_POLL_S if self.loading else _RUNNING_POLL_S)

    async def keep_tail(self) -> None:
        """Read stderr to its end, so that the worker never blocks on it, and keep the last of it."""
        assert self._process.stderr is not None
        while chunk := await self._process.stderr.read(4096):
            self._tail += chunk
            del self._tail[:-_TAIL_BYTES]


@contextlib.asynccontextmanager
async def start_worker(job: dict[str, Any], names: Sequence[str], limits: WorkerLimits) -> AsyncIterator[Worker]:
    """Start a worker on a job; kill and reap it, and remove its folder, at the end of the block."""
    folder = temporary_folder() / f"{_FOLDER_PREFIX}{os.getpid()}-{os.urandom(8).hex()}"
    folder.mkdir(mode=0o700)
    tasks: list[asyncio.Task[None]] = []
    closers: list[Callable[[], Any]] = []
    worker: Worker | None = None
    try:
        spawned_ns = time.monotonic_ns()
        worker = await _start(names, limits, folder, closers)
        worker.reading_stderr = asyncio.create_task(worker.keep_tail())
        tasks = [worker.reading_stderr, asyncio.create_task(worker.watch_memory())]
        await worker.send({**job, "spawned_ns": spawned_ns, "memory_bytes": limits.memory_bytes, "folder": str(folder)})
        yield worker
    finally:
        try:
            if worker is not None:
                worker.set_deadline(None)
                worker.kill()
                for task in tasks:
                    task.cancel()
                await _reap(worker._process)
                await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            for close in closers:
                close()
            shutil.rmtree(folder, ignore_errors=True)


async def _reap(process: asyncio.subprocess.Process) -> None:
    """Wait for a killed worker's end, even if the caller is cancelled once more meanwhile; the cancellation comes after."""
    reaping = asyncio.ensure_future(process.wait())
    cancelled: asyncio.CancelledError | None = None
    while not reaping.done():
        try:
            await asyncio.shield(reaping)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


async def _start(names: Sequence[str], limits: WorkerLimits, folder: Path, closers: list[Callable[[], Any]]) -> Worker:
    jobs_read, jobs_write = os.pipe()
    events_read, events_write = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "device_agent.worker",
            str(jobs_read),
            str(events_write),
            str(os.getpid()),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            # An agent that starts after this one was killed waits until the last worker is gone.
            pass_fds=(jobs_read, events_write, *inherited_locks()),
            start_new_session=True,
            cwd=folder,
            # The worker finds the same modules as the agent, wherever it was started from.
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
                "TMPDIR": str(folder),
            },
        )
    except BaseException:
        os.close(jobs_write)
        os.close(events_read)
        raise
    finally:
        os.close(jobs_read)
        os.close(events_write)
    events_pipe, jobs_pipe = os.fdopen(events_read, "rb", 0), os.fdopen(jobs_write, "wb", 0)
    try:
        loop = asyncio.get_running_loop()
        events = asyncio.StreamReader(limit=1 << 20)
        protocol = asyncio.StreamReaderProtocol(events)
        read_transport, _ = await loop.connect_read_pipe(lambda: protocol, events_pipe)
        closers.append(read_transport.close)
        write_transport, flow = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, jobs_pipe)
        closers.append(lambda: None if write_transport.is_closing() else write_transport.abort())
        return Worker(process, events, asyncio.StreamWriter(write_transport, flow, None, loop), names, limits)
    except BaseException:  # cancelled: no Worker yet that the caller could end
        for close in closers:
            close()
        closers[:] = [events_pipe.close, jobs_pipe.close]
        _kill_group(process.pid)
        await _reap(process)
        raise
