"""Exclusive use: leases, the queue, and who uses the device."""

from __future__ import annotations

from device_agent.codec.fields import optional
from device_agent.contract.errors import InvalidRequest
from device_agent.contract.lease import DeviceUse, Job, Lease, Place, Waiter
from device_agent.wire.v1 import agent_pb2 as pb


def lease_to_pb(lease: Lease) -> pb.Lease:
    return pb.Lease(token=lease.token, holder=lease.holder, reason=lease.reason, remaining_s=lease.remaining_s)


def lease_from_pb(message: pb.Lease) -> Lease:
    return Lease(token=message.token, holder=message.holder, reason=message.reason, remaining_s=message.remaining_s)


def acquire_request_to_pb(
    *, holder: str, reason: str, ttl_s: float, ticket: str | None = None
) -> pb.AcquireLeaseRequest:
    return pb.AcquireLeaseRequest(holder=holder, reason=reason, ttl_s=ttl_s, ticket=ticket)


def acquire_request_from_pb(message: pb.AcquireLeaseRequest) -> tuple[str, str, float, str | None]:
    """Return holder, reason, time to live in seconds, and ticket."""
    return message.holder, message.reason, message.ttl_s, optional(message, "ticket")


def queue_request_to_pb(*, holder: str, reason: str, ttl_s: float, ticket: str, hold_s: float) -> pb.QueueLeaseRequest:
    return pb.QueueLeaseRequest(holder=holder, reason=reason, ttl_s=ttl_s, ticket=ticket, hold_s=hold_s)


def queue_request_from_pb(message: pb.QueueLeaseRequest) -> tuple[str, str, float, str, float]:
    """Return holder, reason, time to live in seconds, ticket, and how long the answer may be held back in seconds."""
    return message.holder, message.reason, message.ttl_s, message.ticket, message.hold_s


def queue_response_to_pb(answer: Lease | Place) -> pb.QueueLeaseResponse:
    if isinstance(answer, Lease):
        return pb.QueueLeaseResponse(lease=lease_to_pb(answer))
    return pb.QueueLeaseResponse(place=_place_to_pb(answer))


def queue_response_from_pb(message: pb.QueueLeaseResponse) -> Lease | Place:
    answer = message.WhichOneof("answer")
    if answer == "lease":
        return lease_from_pb(message.lease)
    if answer == "place":
        return _place_from_pb(message.place)
    raise InvalidRequest("the answer to a request for a lease is neither a lease nor a place in the queue")


def _place_to_pb(place: Place) -> pb.Place:
    return pb.Place(
        position=place.position,
        waiting=place.waiting,
        holder=place.holder,
        reason=place.reason,
        remaining_s=place.remaining_s,
    )


def _place_from_pb(message: pb.Place) -> Place:
    return Place(
        position=message.position,
        waiting=message.waiting,
        holder=optional(message, "holder"),
        reason=optional(message, "reason"),
        remaining_s=optional(message, "remaining_s"),
    )


def leave_request_to_pb(ticket: str) -> pb.LeaveQueueRequest:
    return pb.LeaveQueueRequest(ticket=ticket)


def leave_request_from_pb(message: pb.LeaveQueueRequest) -> str:
    """Return the ticket."""
    ticket: str = message.ticket
    return ticket


def use_to_pb(use: DeviceUse) -> pb.DeviceUse:
    return pb.DeviceUse(
        holder=use.holder,
        reason=use.reason,
        remaining_s=use.remaining_s,
        held_s=use.held_s,
        jobs=[pb.Job(what=job.what, holder=job.holder, running_s=job.running_s) for job in use.jobs],
        waiting=[pb.Waiter(holder=one.holder, reason=one.reason, waited_s=one.waited_s) for one in use.waiting],
    )


def use_from_pb(message: pb.DeviceUse) -> DeviceUse:
    return DeviceUse(
        holder=optional(message, "holder"),
        reason=optional(message, "reason"),
        remaining_s=optional(message, "remaining_s"),
        held_s=optional(message, "held_s"),
        jobs=tuple(Job(what=job.what, holder=job.holder, running_s=job.running_s) for job in message.jobs),
        waiting=tuple(Waiter(holder=one.holder, reason=one.reason, waited_s=one.waited_s) for one in message.waiting),
    )


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
