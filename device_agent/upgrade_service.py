"""The calls by which a host upgrades an installed agent. Loaded only by an agent that `device-agent install` put there.

The new version is made from the wheel beside the one that runs (device_agent.environments), and started on trial by the launcher
(device_agent.switching), which goes back unless the host confirms it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from device_agent.admission import Admission
from device_agent.agent import Agent
from device_agent.codec import upgrading
from device_agent.contract.errors import AgentStopping, NotTrusted, UpgradeFailed
from device_agent.guard import reports_errors
from device_agent.switching import EXIT_FOR_SWITCH, Installation
from device_agent.wire.v1 import upgrade_pb2 as pb
from device_agent.wire.v1 import upgrade_pb2_grpc

#: Long enough for the answer to leave.
_LEAVE_S = 0.5
_LOOPBACK = ("ipv4:127.", "ipv6:%5B::1%5D", "ipv6:[::1]", "unix:")


class UpgradeService(upgrade_pb2_grpc.UpgradeServicer):  # type: ignore[misc]  # generated code is untyped
    """Serves one installation. `admission` is that of the agent's other calls."""

    def __init__(self, agent: Agent, admission: Admission | None, installation: Installation) -> None:
        self._agent = agent
        self.admission = admission
        self._installation = installation

    @property
    def stopping(self) -> bool:
        """Whether the agent is shutting down."""
        return self._agent.stopping

    @reports_errors
    async def Install(self, request: pb.InstallRequest, context: Any) -> pb.InstallResponse:
        peer = str(context.peer())
        if self.admission is None and not peer.startswith(_LOOPBACK):
            raise NotTrusted(
                "this agent has not joined a host, so it takes upgrades only from the board itself: join (host enroll), use an "
                "SSH tunnel, or run `device-agent install` on the board"
            )
        order = upgrading.install_order_from_pb(request)
        with self._agent.exclusive.job(f"an upgrade to {order.file_name}", order.lease_token, peer):
            installed = await asyncio.to_thread(self._install, order)
        if not installed.is_current:
            self._agent.exit_code = EXIT_FOR_SWITCH
            asyncio.get_running_loop().call_later(_LEAVE_S, os.kill, os.getpid(), signal.SIGTERM)
        return upgrading.installed_to_pb(installed)

    @reports_errors
    async def Confirm(self, request: pb.ConfirmRequest, context: Any) -> pb.ConfirmResponse:
        name = upgrading.confirm_request_from_pb(request)
        trial, outcome = self._installation.trial(), self._installation.outcome()
        if trial is not None and trial["to"] == name:
            if Path(sys.prefix).name != name:
                raise AgentStopping(f"the agent is about to start again as {name}; ask again when it has")
            self._installation.confirm(name)
        elif outcome is None or outcome["to"] != name or not outcome["kept"]:
            known = outcome is not None and outcome["to"] == name
            why = outcome["reason"] if known and outcome is not None else "it was not tried"
            raise UpgradeFailed(f"{name} does not run here, {self._installation.current()} does: {why}")
        return upgrading.confirmed_to_pb()

    def _install(self, order: upgrading.InstallOrder) -> upgrading.Installed:
        """Make the version's environment, and switch to it on trial."""
        import tempfile  # an agent that is never upgraded does not pay for these

        from device_agent import environments

        with tempfile.TemporaryDirectory(prefix="boardfit-wheel-") as folder:
            # The name is checked before it becomes a path.
            environments.version_of(Path(order.file_name))
            wheel = Path(folder) / Path(order.file_name).name
            wheel.write_bytes(order.wheel)
            name = environments.name_of(wheel)
            if name == self._installation.current():
                return upgrading.Installed(name=name, is_current=True)
            if not environments.is_complete(self._installation, name):
                try:
                    environments.clone(self._installation, name, wheel)
                except environments.CommandFailed as error:
                    raise UpgradeFailed(
                        f"{name} could not be installed beside {self._installation.current()}, which goes on: {error}"
                    ) from error
        self._installation.begin_trial(name, order.confirm_within_s)
        keep = (self._installation.current(), self._installation.previous())
        environments.remove_others(self._installation, keep)
        return upgrading.Installed(name=name, is_current=False)


def add_to(server: Any, agent: Agent, admission: Admission | None, folder: str) -> None:
    """Serve these calls beside the agent's, for the installation in `folder`."""
    service = UpgradeService(agent, admission, Installation(Path(folder)))
    upgrade_pb2_grpc.add_UpgradeServicer_to_server(service, server)
