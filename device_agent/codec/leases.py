"""Exclusive use."""

from __future__ import annotations

from device_agent.contract.lease import Lease
from device_agent.wire.v1 import agent_pb2 as pb


def lease_to_pb(lease: Lease) -> pb.Lease:
    return pb.Lease(token=lease.token, holder=lease.holder, reason=lease.reason, remaining_s=lease.remaining_s)


def lease_from_pb(message: pb.Lease) -> Lease:
    return Lease(token=message.token, holder=message.holder, reason=message.reason, remaining_s=message.remaining_s)


def acquire_request_to_pb(*, holder: str, reason: str, ttl_s: float) -> pb.AcquireLeaseRequest:
    return pb.AcquireLeaseRequest(holder=holder, reason=reason, ttl_s=ttl_s)


def acquire_request_from_pb(message: pb.AcquireLeaseRequest) -> tuple[str, str, float]:
    """Return holder, reason and time to live in seconds."""
    return message.holder, message.reason, message.ttl_s


def renew_request_to_pb(*, token: str, ttl_s: float) -> pb.RenewLeaseRequest:
    return pb.RenewLeaseRequest(token=token, ttl_s=ttl_s)


def renew_request_from_pb(message: pb.RenewLeaseRequest) -> tuple[str, float]:
    """Return token and time to live in seconds."""
    return message.token, message.ttl_s


def release_request_to_pb(token: str) -> pb.ReleaseLeaseRequest:
    return pb.ReleaseLeaseRequest(token=token)


def release_request_from_pb(message: pb.ReleaseLeaseRequest) -> str:
    """Return the token."""
    token: str = message.token
    return token
