"""Agents without boards: many in one process, each on a port of its own, with the real service, codec, leases and job slot.

What is made up is in benchmarks.fake_agent: the device, its storage, and the measuring. All else on the way from a host's call to
its answer is the agent's own code on real connections. Used by the benchmarks and by tests.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, TypeVar

import grpc
import grpc.aio

from benchmarks.fake_agent import Behaviour, FakeAgent, FakeJob, FakeStore, fake_device, transient
from device_agent.contract.device import DeviceInfo
from device_agent.contract.errors import status_of
from device_agent.contract.transfer import MAX_MESSAGE_BYTES
from device_agent.service import AgentService
from device_agent.wire.v1 import agent_pb2_grpc

_Result = TypeVar("_Result")
_START_S = 60.0
_PROFILES = ("pi4", "pi5", "jetson-orin-nano")
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
)


class _FakeService(AgentService):
    """The real service; it gives no memory back after each call, and has no thread for a disk."""

    def __init__(self, agent: FakeAgent) -> None:
        super().__init__(agent)
        self._disk.shutdown()
        self._disk = _AtOnce()  # type: ignore[assignment]

    def _trim_soon(self) -> None:
        """Do nothing: hundreds of agents share this heap."""


class _AtOnce:
    """An executor without threads, for work that does not wait."""

    def submit(self, call: Callable[..., _Result], *arguments: Any) -> Future[_Result]:
        done: Future[_Result] = Future()
        try:
            done.set_result(call(*arguments))
        except BaseException as error:
            done.set_exception(error)
        return done

    def shutdown(self) -> None:
        pass


class _Faults(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # grpc has no types
    """Lets calls fail or hang before they reach the service. Measurements fail by themselves, at more places."""

    def __init__(self, place: _Place) -> None:
        self._place = place

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        handler = await continuation(details)
        await self._place.awake.wait()
        agent = self._place.agent
        if agent is None or details.method.endswith("/Measure") or agent.rng.random() >= agent.behaviour.failing:
            return handler
        error = transient(agent.rng)

        async def fail(_request: Any, context: Any) -> None:
            status, code = status_of(error)
            await context.abort(grpc.StatusCode[status], str(error), (("boardfit-error", code),))

        make = (
            grpc.stream_unary_rpc_method_handler if handler.request_streaming else grpc.unary_unary_rpc_method_handler
        )
        return make(fail, handler.request_deserializer, handler.response_serializer)


@dataclass(slots=True)
class _Place:
    """A port with an agent behind it, or none while it is killed. Used in the fleet's event loop."""

    info: DeviceInfo
    behaviour: Behaviour
    rng: random.Random
    store: FakeStore = field(default_factory=FakeStore)
    port: int = 0
    server: Any = None
    agent: FakeAgent | None = None
    awake: asyncio.Event = field(default_factory=asyncio.Event)


class FakeAgents:
    """So many agents on 127.0.0.1, in an event loop of a thread of their own. A context manager; methods are for other threads.

    Agent number i is device `fake-iiii`, with a profile of three in turn. `jobs` are the measurements that ended, oldest first.
    """

    def __init__(
        self,
        count: int,
        behaviour: Behaviour | None = None,
        *,
        seed: int = 0,
        profiles: Sequence[str] = _PROFILES,
        on_job: Callable[[FakeJob], None] | None = None,
    ) -> None:
        """Nothing runs before `start`. `on_job` is called in the event loop, with what is also appended to `jobs`."""
        self.jobs: list[FakeJob] = []
        self._on_job = on_job
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake-agents", daemon=True)
        self._places = [
            _Place(
                info=fake_device(number, profiles[number % len(profiles)]),
                behaviour=behaviour or Behaviour(),
                rng=random.Random(f"{seed}-{number}"),
            )
            for number in range(count)
        ]

    def start(self) -> None:
        """Listen on free ports; OSError if there are none."""
        self._thread.start()
        self._do(self._start_all())

    def stop(self) -> None:
        """Kill them all and end the thread."""
        self._do(self._stop_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> FakeAgents:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def addresses(self) -> list[str]:
        """HOST:PORT of every agent, in their order; a killed one comes back at the same."""
        return [f"127.0.0.1:{place.port}" for place in self._places]

    @property
    def devices(self) -> list[DeviceInfo]:
        """What the agents say of themselves, in their order."""
        return [place.info for place in self._places]

    def kill(self, number: int) -> None:
        """End an agent at once: its job, its leases and its connections are gone, its artifacts stay."""
        self._do(_kill(self._places[number]))

    def restart(self, number: int) -> None:
        """Let a killed agent listen again, without the leases that it had."""
        self._do(self._listen(self._places[number]))

    def stall(self, number: int) -> None:
        """Let calls wait from now on, as on a device that swaps; those that run go on."""
        self._loop.call_soon_threadsafe(self._places[number].awake.clear)

    def resume(self, number: int) -> None:
        """Let the waiting calls go on."""
        self._loop.call_soon_threadsafe(self._places[number].awake.set)

    def behave(self, behaviour: Behaviour, number: int | None = None) -> None:
        """Change what the next calls meet, of one agent or of all."""
        for place in self._places if number is None else [self._places[number]]:
            place.behaviour = behaviour
            if place.agent is not None:
                place.agent.behaviour = behaviour

    def _do(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_START_S)

    def _record(self, job: FakeJob) -> None:
        self.jobs.append(job)
        if self._on_job is not None:
            self._on_job(job)

    async def _start_all(self) -> None:
        for place in self._places:
            place.awake.set()
            await self._listen(place)

    async def _stop_all(self) -> None:
        await asyncio.gather(*(_kill(place) for place in self._places))

    async def _listen(self, place: _Place) -> None:
        if place.server is not None:
            return
        agent = FakeAgent(place.info, place.store, place.behaviour, rng=place.rng, record=self._record)
        server = grpc.aio.server(options=_OPTIONS, interceptors=(_Faults(place),))
        agent_pb2_grpc.add_AgentServicer_to_server(_FakeService(agent), server)
        place.port = server.add_insecure_port(f"127.0.0.1:{place.port}")
        if place.port == 0:
            raise OSError("no port of 127.0.0.1 is free for a fake agent")
        await server.start()
        place.agent, place.server = agent, server


async def _kill(place: _Place) -> None:
    server, place.server, place.agent = place.server, None, None
    if server is not None:
        with suppress(asyncio.CancelledError):
            await server.stop(None)
