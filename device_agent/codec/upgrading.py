"""The messages by which a host brings another version of the agent to a board."""

from __future__ import annotations

from dataclasses import dataclass

from device_agent.contract.errors import InvalidRequest
from device_agent.wire.v1 import upgrade_pb2 as pb

MAX_WHEEL_BYTES = 32 * 2**20
#: The shortest and longest trial, in seconds: a small board needs half a minute to start, and nobody waits for an hour.
SHORTEST_TRIAL_S, LONGEST_TRIAL_S = 2.0, 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallOrder:
    """A wheel to install; the new version has to be confirmed within so many seconds of its start."""

    file_name: str
    wheel: bytes
    confirm_within_s: float
    lease_token: str | None = None

    def __post_init__(self) -> None:
        if not 0 < len(self.wheel) <= MAX_WHEEL_BYTES:
            raise InvalidRequest(f"a wheel of {len(self.wheel)} bytes; it must have 1 to {MAX_WHEEL_BYTES}")
        if not SHORTEST_TRIAL_S <= self.confirm_within_s <= LONGEST_TRIAL_S:
            raise InvalidRequest(
                f"confirm_within_s={self.confirm_within_s} is not in {SHORTEST_TRIAL_S:.0f}..{LONGEST_TRIAL_S:.0f} seconds"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """The version that was installed, by its name on the board; `is_current` if it runs there already."""

    name: str
    is_current: bool


def install_order_to_pb(order: InstallOrder) -> pb.InstallRequest:
    return pb.InstallRequest(
        file_name=order.file_name,
        wheel=order.wheel,
        confirm_within_s=order.confirm_within_s,
        lease_token=order.lease_token,
    )


def install_order_from_pb(message: pb.InstallRequest) -> InstallOrder:
    return InstallOrder(
        file_name=message.file_name,
        wheel=message.wheel,
        confirm_within_s=message.confirm_within_s,
        lease_token=message.lease_token if message.HasField("lease_token") else None,
    )


def installed_to_pb(installed: Installed) -> pb.InstallResponse:
    return pb.InstallResponse(name=installed.name, is_current=installed.is_current)


def installed_from_pb(message: pb.InstallResponse) -> Installed:
    return Installed(name=message.name, is_current=message.is_current)


def confirm_request_to_pb(name: str) -> pb.ConfirmRequest:
    return pb.ConfirmRequest(name=name)


def confirm_request_from_pb(message: pb.ConfirmRequest) -> str:
    return str(message.name)


def confirmed_to_pb() -> pb.ConfirmResponse:
    return pb.ConfirmResponse()
