"""The gRPC channel to an agent: its options, its address, and how gRPC errors become the contract's."""

from __future__ import annotations

import re

import grpc

from device_agent import __version__
from device_agent.contract.device import CONTRACT_VERSION
from device_agent.contract.errors import (
    AgentTooOld,
    BoardfitError,
    DeadlineExceeded,
    DeviceUnreachable,
    InvalidRequest,
    JobAborted,
    error_from,
)
from device_agent.contract.transfer import MAX_MESSAGE_BYTES
from host.fleet.identity import Peer

DEFAULT_PORT = 50051

#: Trailing metadata in which an agent says which error of the contract it means.
ERROR_METADATA = "boardfit-error"

#: A pulled cable is noticed after 2 s of silence and 3 s without an answer to the ping.
#: A proxy from the environment would be asked for boards on the desk, so none is used.
#: Subchannels are shared in a process by default, and with them the waiting time after a failed connection.
CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.keepalive_time_ms", 2_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    # A ping of the flow control that is on its way holds back the keepalive's; it would be waited for a minute.
    ("grpc.http2.ping_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # The thread that reads a stream waits for it itself. Else there is one more for each channel, and the two of them wake up
    # fifteen times a second: with two hundred devices at work that took half of the processor time of a sweep.
    ("SingleThreadedUnaryStream", 1),
)

_HOST_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[^\s:/\[\]]+)(?::(?P<port>[0-9]{1,5}))?")


def check_address(text: str) -> str:
    """Return HOST:PORT with the default port filled in; raise InvalidRequest for anything else."""
    match = _HOST_PORT.fullmatch(text)
    port = DEFAULT_PORT if match is None or match["port"] is None else int(match["port"])
    if match is None or not 1 <= port <= 65535:
        raise InvalidRequest(
            f"{text!r} is not an address: give HOST or HOST:PORT, such as 192.168.1.20:{DEFAULT_PORT}, "
            "with an IPv6 address in brackets"
        )
    return f"{match['host']}:{port}"


def open_channel(address: str, peer: Peer | None = None) -> grpc.Channel:
    """Open a channel: over TLS to exactly this peer, in plaintext without one. Nothing is sent before the first call."""
    if peer is None:
        return grpc.insecure_channel(address, options=CHANNEL_OPTIONS)
    # The certificate is bound to the device, not to its address.
    options = (*CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", peer.name))
    return grpc.secure_channel(address, peer.credentials.channel_credentials(), options=options)


def unreachable(address: str, details: str) -> DeviceUnreachable:
    """Return the error for an address where no agent answers."""
    return DeviceUnreachable(
        f"no agent answers at {address} ({details}). Is the device on, and does "
        "`device-agent serve --listen ADDRESS` run there with an address that this host can reach? "
        "`host devices list --check` tries every registered device."
    )


def too_old(address: str, what: str) -> AgentTooOld:
    """Return the error for an agent that is older than this host."""
    return AgentTooOld(
        f"the agent at {address} is too old: {what}. This host is boardfit {__version__} and speaks contract "
        f"version {CONTRACT_VERSION}. Upgrade on the device with "
        f"`pip install --upgrade 'boardfit>={__version__}'` and restart the agent there."
    )


def contract_error(error: grpc.RpcError, address: str, *, reached: bool, doing: str) -> BoardfitError:
    """Return the contract's error for a failed call; `reached` says whether this agent has answered before.

    An agent names its errors in the trailing metadata; without a name the status is all there is, and the
    message is made here, since the transport knows neither the address nor what was being done.
    """
    status = error.code().name
    details = error.details() or "no details"
    code = next((value for key, value in error.trailing_metadata() or () if key == ERROR_METADATA), None)
    if code is not None:
        return error_from(status, str(code), details)
    if status == "UNAVAILABLE" or (status == "DEADLINE_EXCEEDED" and not reached):
        if reached:
            return DeviceUnreachable(
                f"the connection to the agent at {address} broke during {doing} ({details}). "
                "Is the device still on and connected? Its agent may have been stopped."
            )
        return unreachable(address, details)
    if status == "DEADLINE_EXCEEDED":
        return DeadlineExceeded(f"the agent at {address} did not answer {doing} in time; it may be busy or overloaded")
    if status == "CANCELLED":
        return JobAborted(f"{doing} on the agent at {address} was cancelled")
    if status == "UNIMPLEMENTED":
        return too_old(address, f"it does not know the call for {doing}")
    return error_from(status, None, f"{details} (agent at {address}, during {doing})")
