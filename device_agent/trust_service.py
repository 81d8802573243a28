"""The calls by which hosts renew an agent's certificate and tell it who was revoked. Loaded only by an agent that has joined."""

from __future__ import annotations

import asyncio
from typing import Any

from device_agent.admission import Admission
from device_agent.agent import Agent
from device_agent.codec import joining
from device_agent.contract.errors import DeviceBusy
from device_agent.guard import reports_errors
from device_agent.heap import trim_heap
from device_agent.pages import GRPC, release_code
from device_agent.wire.v1 import join_pb2 as pb
from device_agent.wire.v1 import join_pb2_grpc

_SETTLE_AFTER_S = 1.0


class TrustService(join_pb2_grpc.TrustServicer):  # type: ignore[misc]  # generated code is untyped
    """Serves one Admission."""

    def __init__(self, agent: Agent, admission: Admission) -> None:
        self._agent = agent
        self.admission: Admission | None = admission
        self._own = admission
        self._settling: asyncio.TimerHandle | None = None

    @property
    def stopping(self) -> bool:
        """Whether the agent is shutting down."""
        return self._agent.stopping

    @reports_errors
    async def ExchangeRevocations(self, request: pb.SignedRevocations, context: Any) -> pb.ExchangeRevocationsResponse:
        self._settle_soon()  # every host asks this right after its handshake
        return joining.newer_to_pb(await self._own.exchange(joining.revocations_from_pb(request)))

    @reports_errors
    async def RequestCertificate(self, request: pb.RequestCertificateRequest, context: Any) -> pb.CertificateRequest:
        self._check_idle()
        return joining.certificate_request_to_pb(await self._own.new_request())

    @reports_errors
    async def InstallCertificate(
        self, request: pb.InstallCertificateRequest, context: Any
    ) -> pb.InstallCertificateResponse:
        await self._own.install(*joining.install_from_pb(request))
        return joining.installed_to_pb()

    def _check_idle(self) -> None:
        use = self._agent.exclusive.use()
        if use.jobs or use.holder is not None:
            raise DeviceBusy(
                "the device is in use, and making a private key would disturb what is measured; renew the certificate later"
            )

    def _settle_soon(self) -> None:
        """Give back what the handshake took, once for hosts in quick succession."""
        if self._settling is not None:
            self._settling.cancel()
        self._settling = asyncio.get_running_loop().call_later(_SETTLE_AFTER_S, _settle)


def _settle() -> None:
    trim_heap()
    release_code(GRPC)


def add_to(server: Any, agent: Agent, admission: Admission) -> None:
    """Serve these calls beside the agent's."""
    join_pb2_grpc.add_TrustServicer_to_server(TrustService(agent, admission), server)
