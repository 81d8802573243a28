"""Assembles the agent and serves it until a signal ends it."""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from device_agent.agent import Agent
from device_agent.contract.errors import InvalidRequest
from device_agent.contract.transfer import MAX_MESSAGE_BYTES
from device_agent.heap import trim_heap
from device_agent.pages import GRPC, release_code
from device_agent.service import AgentService
from device_agent.switching import VARIABLE
from device_agent.wire.v1 import agent_pb2_grpc

if TYPE_CHECKING:
    from device_agent.credentials import LiveCredentials

#: How long short calls may go on after a signal. Jobs and uploads are aborted at once.
GRACE_S = 1.0

_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # Two agents must not share a port in silence.
    ("grpc.so_reuseport", 0),
    # A pulled cable is noticed within 30 s, and ends the job that nobody waits for.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # A ping of the flow control that is on its way holds back the keepalive's; it would be waited for a minute.
    ("grpc.http2.ping_timeout_ms", 10_000),
    # Without it a job that sends nothing for a while would be pinged twice only.
    ("grpc.http2.max_pings_without_data", 0),
    # Clients may ping as often as that while they wait for a long, silent run.
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    # What is under way when a cable is pulled is sent twice. Left to itself the window grows to megabytes, most of them in the
    # sender's buffers; this much is 39 Mbit/s over 80 ms. A longer message still passes in one piece.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 384 * 1024),
)


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """A numeric address and a port; port 0 lets the system choose."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> ListenAddress:
        """Return the address in `ADDRESS:PORT`, `[IPV6]:PORT` or `localhost:PORT`; raise InvalidRequest otherwise."""
        host, separator, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
        host = "127.0.0.1" if host == "localhost" else host
        try:
            if not separator or not 0 <= int(port) <= 65535:
                raise ValueError
            return cls(str(ipaddress.ip_address(host)), int(port))
        except ValueError:
            raise InvalidRequest(
                f"{text!r} is not ADDRESS:PORT with a numeric address, such as 127.0.0.1:50051 or [::1]:0"
            ) from None

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return ipaddress.ip_address(self.host).is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


async def serve(
    agent: Agent,
    address: ListenAddress,
    *,
    announce: Callable[[ListenAddress], None],
    credentials: LiveCredentials | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, then abort the running job and return when no child process is left.

    With `credentials` only over TLS, and only for hosts of their authority. `announce` is called once with the real
    address. OSError if the address cannot be listened on.
    """
    server = grpc.aio.server(options=_OPTIONS)
    admission = None
    if credentials is not None:
        # An agent without TLS does not pay for these.
        from device_agent import trust_service
        from device_agent.admission import Admission

        admission = Admission(credentials)
        trust_service.add_to(server, agent, admission)
    installation = os.environ.get(VARIABLE)
    if installation is not None:
        from device_agent import upgrade_service

        upgrade_service.add_to(server, agent, admission, installation)
    service = AgentService(agent, admission)
    agent_pb2_grpc.add_AgentServicer_to_server(service, server)
    try:
        if credentials is None:
            port = server.add_insecure_port(str(address))
        else:
            port = server.add_secure_port(str(address), credentials.server_credentials())
    except RuntimeError:
        port = 0
    if port == 0:
        raise OSError(
            f"cannot listen on {address}: the port is in use, or the address is not this machine's;"
            " choose another with --listen"
        )
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await server.start()
    agent.start()
    announce(ListenAddress(address.host, port))
    # What start-up made lives as long as the process; keep the collector from walking it again and again.
    gc.collect()
    gc.freeze()
    trim_heap()
    release_code(GRPC)
    await stop.wait()
    await agent.stop()
    await service.stop()
    await server.stop(GRACE_S)
