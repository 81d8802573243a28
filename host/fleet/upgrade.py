"""Brings the agents of registered devices to this host's version, one by one; an agent that does not answer goes back by itself.

The wheel of this host's agent travels to the board, which installs it beside the version that runs and starts it on trial. The
host asks the new version what the device is, and confirms. Without that, for whatever reason, the board starts the version before
again: see device_agent.switching.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from device_agent import codec
from device_agent.codec import upgrading
from device_agent.contract.errors import (
    AgentTooOld,
    BoardfitError,
    DeviceUnreachable,
    StableError,
    TransientError,
    UpgradeFailed,
)
from device_agent.wire.v1 import upgrade_pb2_grpc
from host.fleet import identity
from host.fleet.client import AgentClient
from host.fleet.inventory import RegisteredDevice

#: How long a new version has, from its start, to be confirmed. A small board takes half a minute to start.
CONFIRM_WITHIN_S = 120.0
#: An installation that downloads packages to a slow card takes minutes.
INSTALL_S = 1200.0
_ASK_AGAIN_S = 0.5
_MARGIN_S = 30.0


class UpgradeClient(AgentClient):
    """A client that speaks to agents of any version, and upgrades them."""

    def version(self) -> tuple[str, str]:
        """Return the agent's version and the device's id, whatever contract it speaks."""
        response = self._call(self._stub.Describe, codec.describe_request_to_pb(), "Describe")
        return response.agent_version or "unknown", response.device_id

    def install(self, order: upgrading.InstallOrder) -> upgrading.Installed:
        """Let the agent install a version and start it on trial. Raises UpgradeFailed, DeviceBusy, NotTrusted, AgentTooOld."""
        try:
            answer = self._call(self._upgrade.Install, upgrading.install_order_to_pb(order), "Install", INSTALL_S)
        except AgentTooOld as error:
            raise AgentTooOld(
                f"the agent at {self.address} takes no upgrades, since `device-agent install` did not put it there. Do that "
                "once: host devices install USER@BOARD"
            ) from error
        return upgrading.installed_from_pb(answer)

    def confirm(self, name: str) -> None:
        """End the trial of a version. Raises UpgradeFailed if the version before runs again, TransientError meanwhile."""
        self._call(self._upgrade.Confirm, upgrading.confirm_request_to_pb(name), "Confirm")

    @property
    def _upgrade(self) -> Any:
        return upgrade_pb2_grpc.UpgradeStub(self._channel)


class Outcome(Enum):
    """What became of one device."""

    UPGRADED = "upgraded"
    CURRENT = "current"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpgradeReport:
    """One device's upgrade; `before` is None where the agent did not answer, `error` what went wrong where it failed."""

    device: str
    before: str | None
    after: str | None
    outcome: Outcome
    error: BoardfitError | None = None


def upgrade_device(
    device: RegisteredDevice,
    wheel: Path,
    *,
    within_s: float = CONFIRM_WITHIN_S,
    say: Callable[[str], None] = lambda _: None,
    connect: Callable[[RegisteredDevice], UpgradeClient] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> UpgradeReport:
    """Upgrade one device's agent to the wheel and confirm it. Never raises a BoardfitError: it is part of the report.

    `connect` is called anew for every try, since the agent restarts in between.
    """
    connect = connect or connected
    before: str | None = None
    try:
        say("asking for the version")
        with closing(connect(device)) as client:
            before, device_id = client.version()
            say(f"installing {wheel.name} beside {before}")
            order = upgrading.InstallOrder(file_name=wheel.name, wheel=wheel.read_bytes(), confirm_within_s=within_s)
            installed = client.install(order)
        if installed.is_current:
            return UpgradeReport(device=device.name, before=before, after=before, outcome=Outcome.CURRENT)
        say(f"waiting for {installed.name} to answer")
        until_s = clock() + within_s + _MARGIN_S
        while True:
            try:
                with closing(connect(device)) as client:
                    after = _confirmed(client, installed.name, device_id)
            except TransientError as error:
                if clock() >= until_s:
                    raise DeviceUnreachable(
                        f"{device.name} has not answered since {installed.name} was started there; unless the board is gone, it "
                        f"went back to {before} by itself ({error})"
                    ) from error
                sleep(_ASK_AGAIN_S)
            else:
                return UpgradeReport(device=device.name, before=before, after=after, outcome=Outcome.UPGRADED)
    except UpgradeFailed as error:
        return UpgradeReport(device=device.name, before=before, after=before, outcome=Outcome.FAILED, error=error)
    except BoardfitError as error:
        return UpgradeReport(device=device.name, before=before, after=None, outcome=Outcome.FAILED, error=error)


def connected(device: RegisteredDevice) -> UpgradeClient:
    """Return a client of a registered device, over TLS if it has joined. Raises NotTrusted."""
    return UpgradeClient(device.address, peer=identity.peer_of(device), name=device.name)


def _confirmed(client: UpgradeClient, name: str, device_id: str) -> str:
    """Let the agent say what the device is, then confirm it; return its version."""
    try:
        version, found = client.version()
    except StableError as error:
        # It runs and cannot describe the device: no version to keep. The board goes back when its time is over.
        raise DeviceUnreachable(f"the new version answers with an error: {error}") from error
    if found != device_id:
        raise UpgradeFailed(f"another device answers at {client.address} now: {found}, it was {device_id}")
    client.confirm(name)
    return version
