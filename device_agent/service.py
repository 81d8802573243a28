"""The gRPC service: convert, delegate, convert. Errors of the contract become status codes in one place."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from device_agent import codec
from device_agent.agent import Agent
from device_agent.contract.errors import (
    AgentStopping,
    DeadlineExceeded,
    InvalidRequest,
    UploadConflict,
)
from device_agent.contract.transfer import UploadHeader
from device_agent.exclusive import CANCEL_AGAIN_S
from device_agent.guard import reports_errors
from device_agent.heap import trim_heap
from device_agent.upload import Upload
from device_agent.wire.v1 import agent_pb2 as pb
from device_agent.wire.v1 import agent_pb2_grpc

if TYPE_CHECKING:
    from device_agent.admission import Admission

#: Bytes that are handed to the disk's thread at once: large enough to make the hand-over cheap.
_WRITE_BYTES = 4 * 1024 * 1024
#: The same for many small chunks, each of which has its own cost in memory.
_WRITE_CHUNKS = 4096
_TRIM_AFTER_S = 1.0
#: A silent upload keeps others from uploading the same artifact, a silent inference keeps them from the device.
UPLOAD_IDLE_S = 60.0
INFER_IDLE_S = 300.0
#: A caller that reads nothing keeps others from the device, too.
READ_IDLE_S = 60.0
#: An upload from which nothing has come for so long gives way to another of the same artifact: the host notices a cut link long
#: before the agent does, and comes again.
UPLOAD_YIELDS_S = 3.0

_log = logging.getLogger(__name__)
_Context = Any  # grpc.aio.ServicerContext; grpc has no type hints in the versions that boards have


class AgentService(agent_pb2_grpc.AgentServicer):  # type: ignore[misc]  # generated code is untyped
    """Serves one Agent. `admission` says who may call; None lets in whoever reaches it."""

    def __init__(self, agent: Agent, admission: Admission | None = None) -> None:
        self._agent = agent
        self.admission = admission
        # One thread writes to the disk, so that the closing of an upload comes after its last write, whatever
        # happens to the call in between.
        self._trim: asyncio.TimerHandle | None = None
        self._uploads: set[asyncio.Task[Any]] = set()
        self._receiving: dict[str, _Receiving] = {}
        self._disk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")

    @property
    def stopping(self) -> bool:
        """Whether the agent is shutting down."""
        return self._agent.stopping

    async def stop(self) -> None:
        """End the uploads, whose callers are told so, and return after the last write."""
        while self._uploads:
            for task in self._uploads:
                task.cancel()
            await asyncio.wait(self._uploads, timeout=CANCEL_AGAIN_S)
        if self._trim is not None:
            self._trim.cancel()
        self._disk.shutdown()

    @reports_errors
    async def Describe(self, request: pb.DescribeRequest, context: _Context) -> pb.DescribeResponse:
        return codec.device_info_to_pb(await self._agent.describe())

    @reports_errors
    async def QueryArtifact(self, request: pb.QueryArtifactRequest, context: _Context) -> pb.QueryArtifactResponse:
        return codec.held_bytes_to_pb(self._agent.store.held(codec.query_request_from_pb(request)))

    @reports_errors
    async def UploadArtifact(
        self, requests: AsyncIterator[pb.UploadArtifactRequest], context: _Context
    ) -> pb.UploadArtifactResponse:
        if self._agent.stopping:
            raise AgentStopping("the agent is shutting down and takes no uploads; try again when it is back")
        task = asyncio.current_task()
        assert task is not None
        self._uploads.add(task)
        task.add_done_callback(self._uploads.discard)
        messages = _paced(requests, UPLOAD_IDLE_S, "upload")
        header, token = codec.upload_header_from_pb(await _first(messages))
        what = f"receiving {header.artifact.name}"
        with self._agent.exclusive.job(what, token, _caller(context), exclusive=False):
            return await self._receive(header, messages)

    async def _receive(self, header: UploadHeader, messages: AsyncIterator[Any]) -> pb.UploadArtifactResponse:
        sha256 = header.artifact.sha256
        await self._oust_silent(sha256)
        upload = await self._begin(header)
        if upload is None:
            return codec.upload_response_to_pb(self._agent.store.get(sha256))
        task = asyncio.current_task()
        assert task is not None
        receiving = self._receiving[sha256] = _Receiving(task, asyncio.get_running_loop().time())
        try:
            return await self._write_all(upload, messages, receiving)
        except asyncio.CancelledError:
            if not receiving.ousted:
                raise
            raise UploadConflict(
                f"nothing of {header.artifact.name!r} came for {UPLOAD_YIELDS_S:g} s, and another upload of it took over"
            ) from None
        finally:
            receiving.ended.set()
            if self._receiving.get(sha256) is receiving:
                del self._receiving[sha256]

    async def _oust_silent(self, sha256: str) -> None:
        """End an upload of this artifact from which nothing comes any more; what came of it is on the disk then."""
        other = self._receiving.get(sha256)
        loop = asyncio.get_running_loop()
        if other is None or loop.time() - other.heard_s < UPLOAD_YIELDS_S:
            return
        other.ousted = True
        while not other.ended.is_set():
            other.task.cancel()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(other.ended.wait(), CANCEL_AGAIN_S)

    async def _write_all(
        self, upload: Upload, messages: AsyncIterator[Any], receiving: _Receiving
    ) -> pb.UploadArtifactResponse:
        writing: Future[None] | None = None
        chunks: list[bytes] = []
        size = 0
        waiting = False  # for a write; else what came during it is written when it is done
        loop = asyncio.get_running_loop()

        def hand_over() -> None:
            nonlocal writing, chunks, size
            writing = self._disk.submit(upload.write, chunks)
            chunks, size = [], 0
            writing.add_done_callback(_in_loop(loop, go_on))

        def go_on() -> None:
            # The link may be silent by now, and what waits here is lost with the agent.
            if chunks and not waiting and writing is not None and writing.done() and writing.exception() is None:
                hand_over()

        try:
            async for message in messages:
                receiving.heard_s = loop.time()
                chunk = codec.upload_chunk_from_pb(message)
                chunks.append(chunk)
                size += len(chunk)
                full = size >= _WRITE_BYTES or len(chunks) >= _WRITE_CHUNKS
                # What a slow link brings in a minute must not wait here for more: a kill would lose it.
                if full or writing is None or writing.done():
                    if writing is not None:
                        waiting = True
                        await _written(writing)
                        waiting = False
                    hand_over()
            waiting = True
            if writing is not None:
                await _written(writing)
            rest, chunks = chunks, []
            await _written(self._disk.submit(upload.write, rest))
            artifact = await asyncio.wrap_future(self._disk.submit(upload.finish))
        finally:
            rest, chunks = chunks, []
            self._disk.submit(upload.keep, rest)  # where the link was cut, the next upload begins after these
            self._disk.submit(upload.close)
            self._trim_soon()
        return codec.upload_response_to_pb(artifact)

    @reports_errors
    async def ListArtifacts(self, request: pb.ListArtifactsRequest, context: _Context) -> pb.ListArtifactsResponse:
        return codec.artifacts_to_pb(self._agent.list())

    @reports_errors
    async def DeleteArtifact(self, request: pb.DeleteArtifactRequest, context: _Context) -> pb.DeleteArtifactResponse:
        self._agent.delete(*codec.delete_request_from_pb(request))
        return pb.DeleteArtifactResponse()

    @reports_errors
    async def Measure(self, request: pb.MeasureRequest, context: _Context) -> None:
        measurement, token = codec.measure_request_from_pb(request)
        # Written, not yielded: a cancelled call then unwinds through this frame at once and takes the worker with it.
        try:
            async with aclosing(self._agent.measure(measurement, token, _caller(context))) as events:
                async for event in events:
                    await _write(context, codec.event_to_pb(event))
        finally:
            self._trim_soon()

    @reports_errors
    async def Load(self, request: pb.LoadRequest, context: _Context) -> None:
        wanted, token = codec.load_request_from_pb(request)
        try:
            async with aclosing(self._agent.load(wanted, token, _caller(context))) as events:
                async for event in events:
                    await _write(context, codec.load_event_to_pb(event))
        finally:
            self._trim_soon()

    @reports_errors
    async def Infer(self, requests: AsyncIterator[pb.InferRequest], context: _Context) -> None:
        messages = _paced(requests, INFER_IDLE_S, "inference")
        header, token = codec.infer_header_from_pb(await _first(messages))
        try:
            async with self._agent.infer(header, token, _caller(context)) as session:
                async for message in messages:
                    outputs = await session.run(codec.infer_inputs_from_pb(message))
                    await _write(context, codec.infer_outputs_to_pb(outputs))
        finally:
            self._trim_soon()

    @reports_errors
    async def ReadSensors(self, request: pb.ReadSensorsRequest, context: _Context) -> pb.ReadingBatch:
        token = codec.read_sensors_request_from_pb(request)
        return codec.readings_to_pb(await self._agent.read_sensors(token, _caller(context)))

    @reports_errors
    async def AcquireLease(self, request: pb.AcquireLeaseRequest, context: _Context) -> pb.Lease:
        return codec.lease_to_pb(await self._agent.exclusive.acquire(*codec.acquire_request_from_pb(request)))

    @reports_errors
    async def QueueLease(self, request: pb.QueueLeaseRequest, context: _Context) -> pb.QueueLeaseResponse:
        holder, reason, ttl_s, ticket, hold_s = codec.queue_request_from_pb(request)
        answer = await self._agent.exclusive.queue(ticket, holder, reason, ttl_s, hold_s)
        return codec.queue_response_to_pb(answer)

    @reports_errors
    async def LeaveQueue(self, request: pb.LeaveQueueRequest, context: _Context) -> pb.LeaveQueueResponse:
        self._agent.exclusive.leave(codec.leave_request_from_pb(request))
        return pb.LeaveQueueResponse()

    @reports_errors
    async def RenewLease(self, request: pb.RenewLeaseRequest, context: _Context) -> pb.Lease:
        return codec.lease_to_pb(self._agent.exclusive.renew(*codec.renew_request_from_pb(request)))

    @reports_errors
    async def ReleaseLease(self, request: pb.ReleaseLeaseRequest, context: _Context) -> pb.ReleaseLeaseResponse:
        self._agent.exclusive.release(codec.release_request_from_pb(request))
        return pb.ReleaseLeaseResponse()

    @reports_errors
    async def DescribeUse(self, request: pb.DescribeUseRequest, context: _Context) -> pb.DeviceUse:
        return codec.use_to_pb(self._agent.exclusive.use())

    @reports_errors
    async def EndUse(self, request: pb.EndUseRequest, context: _Context) -> pb.DeviceUse:
        use = await self._agent.exclusive.end_use()
        _log.warning("ended by %s: %s", _caller(context), use)
        return codec.use_to_pb(use)

    def _trim_soon(self) -> None:
        """Give memory back when the messages of the call are gone, once for calls in quick succession."""
        if self._trim is not None:
            self._trim.cancel()
        self._trim = asyncio.get_running_loop().call_later(_TRIM_AFTER_S, trim_heap)

    async def _begin(self, header: UploadHeader) -> Upload | None:
        opening = self._disk.submit(self._agent.store.begin, header)
        try:
            return await asyncio.wrap_future(opening)
        except asyncio.CancelledError:
            # The thread may open the file all the same; nobody is left to write it.
            opening.add_done_callback(_close_opened)
            raise


@dataclass(slots=True)
class _Receiving:
    """An upload under way: its call, when its last message came (event loop's time), and whether another took its place."""

    task: asyncio.Task[Any]
    heard_s: float
    ousted: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)


def _in_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> Callable[[Any], None]:
    """Return a callback for futures of other threads that makes `call` in the event loop, if that still runs."""

    def done(_: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(call)

    return done


async def _written(writing: Future[None]) -> None:
    """Wait for a write, which goes on if this upload is cancelled meanwhile: later chunks must not take its place."""
    await asyncio.shield(asyncio.wrap_future(writing))


def _close_opened(opening: Future[Upload | None]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        upload = opening.result()
        if upload is not None:
            upload.close()


async def _paced(requests: AsyncIterator[Any], idle_s: float, what: str) -> AsyncIterator[Any]:
    """Yield the messages of a stream. DeadlineExceeded if the caller is silent for `idle_s`: others wait for their turn."""
    messages = aiter(requests)
    while True:
        try:
            message = await asyncio.wait_for(anext(messages), idle_s)
        except StopAsyncIteration:
            return
        except asyncio.TimeoutError:
            raise DeadlineExceeded(f"no message of this {what} came for {idle_s:.0f} s; start it again") from None
        yield message


async def _write(context: _Context, message: Any) -> None:
    """Send one message of a stream. DeadlineExceeded if the caller leaves no room for it."""
    try:
        await asyncio.wait_for(context.write(message), READ_IDLE_S)
    except asyncio.TimeoutError:
        raise DeadlineExceeded(
            f"the caller read nothing for {READ_IDLE_S:.0f} s and the device is wanted by others; start the call again"
        ) from None


async def _first(messages: AsyncIterator[Any]) -> Any:
    try:
        return await anext(messages)
    except StopAsyncIteration:
        raise InvalidRequest("the stream ended before its first message, the header") from None


def _caller(context: _Context) -> str:
    """Return the caller's address for people."""
    return f"the caller at {unquote(context.peer())}"
