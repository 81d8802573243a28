"""A model under load."""

from __future__ import annotations

from device_agent.codec.fields import equal_lengths, optional, required
from device_agent.codec.requests import settings_from_pb, settings_to_pb
from device_agent.codec.results import (
    progress_from_pb,
    progress_to_pb,
    readings_from_pb,
    readings_to_pb,
    verdict_from_pb,
    verdict_to_pb,
)
from device_agent.contract.errors import InvalidRequest
from device_agent.contract.load import LoadEvent, LoadRequest, LoadResult, LoadTrial, ServedBatch, ServedRequest
from device_agent.contract.measurement import Progress, ReadingBatch
from device_agent.wire.v1 import agent_pb2 as pb


def load_request_to_pb(request: LoadRequest, lease_token: str | None = None) -> pb.LoadRequest:
    return pb.LoadRequest(
        artifact=request.artifact,
        settings=settings_to_pb(request.settings),
        streams=request.streams,
        rate_per_s=request.rate_per_s,
        bound_ns=request.bound_ns,
        percent=request.percent,
        duration_s=request.duration_s,
        warmup_s=request.warmup_s,
        min_requests=request.min_requests,
        seed=request.seed,
        deadline_s=request.deadline_s,
        memory_limit_bytes=request.memory_limit_bytes,
        lease_token=lease_token,
    )


def load_request_from_pb(message: pb.LoadRequest) -> tuple[LoadRequest, str | None]:
    """Return the request and the lease token."""
    request = LoadRequest(
        artifact=message.artifact,
        settings=settings_from_pb(required(message, "settings")),
        streams=message.streams,
        rate_per_s=optional(message, "rate_per_s"),
        bound_ns=optional(message, "bound_ns"),
        percent=message.percent,
        duration_s=message.duration_s,
        warmup_s=message.warmup_s,
        min_requests=message.min_requests,
        seed=message.seed,
        deadline_s=optional(message, "deadline_s"),
        memory_limit_bytes=optional(message, "memory_limit_bytes"),
    )
    return request, optional(message, "lease_token")


def served_to_pb(batch: ServedBatch) -> pb.ServedBatch:
    requests = batch.requests
    return pb.ServedBatch(
        trial=[one.trial for one in requests],
        stream=[one.stream for one in requests],
        arrival_ns=[one.arrival_ns for one in requests],
        start_ns=[one.start_ns for one in requests],
        end_ns=[one.end_ns for one in requests],
    )


def served_from_pb(message: pb.ServedBatch) -> ServedBatch:
    equal_lengths(message, "trial", "stream", "arrival_ns", "start_ns", "end_ns")
    columns = zip(message.trial, message.stream, message.arrival_ns, message.start_ns, message.end_ns, strict=True)
    return ServedBatch(
        requests=tuple(
            ServedRequest(trial=trial, stream=stream, arrival_ns=arrival_ns, start_ns=start_ns, end_ns=end_ns)
            for trial, stream, arrival_ns, start_ns, end_ns in columns
        )
    )


def load_trial_to_pb(trial: LoadTrial) -> pb.LoadTrial:
    message = pb.LoadTrial(
        rate_per_s=trial.rate_per_s,
        start_ns=trial.start_ns,
        end_ns=trial.end_ns,
        requests=trial.requests,
        unserved=trial.unserved,
    )
    if trial.within_bound is not None:  # the generated types say that an absent bool is not None
        message.within_bound = trial.within_bound
    return message


def load_trial_from_pb(message: pb.LoadTrial) -> LoadTrial:
    return LoadTrial(
        rate_per_s=optional(message, "rate_per_s"),
        start_ns=message.start_ns,
        end_ns=message.end_ns,
        requests=message.requests,
        unserved=message.unserved,
        within_bound=optional(message, "within_bound"),
    )


def load_result_to_pb(result: LoadResult) -> pb.LoadResult:
    return pb.LoadResult(
        runtime=result.runtime,
        runtime_version=result.runtime_version,
        provider=result.provider,
        threads=result.threads,
        streams=result.streams,
        cpus=result.cpus or (),
        load_ns=result.load_ns,
        trials=[load_trial_to_pb(trial) for trial in result.trials],
        highest_rate_per_s=result.highest_rate_per_s,
        device_time_ns=result.device_time_ns,
        steal_fraction=result.steal_fraction,
        verdicts=[verdict_to_pb(verdict) for verdict in result.verdicts],
    )


def load_result_from_pb(message: pb.LoadResult) -> LoadResult:
    return LoadResult(
        runtime=message.runtime,
        runtime_version=message.runtime_version,
        provider=message.provider,
        threads=message.threads,
        streams=message.streams,
        cpus=tuple(message.cpus) or None,
        load_ns=message.load_ns,
        trials=tuple(load_trial_from_pb(trial) for trial in message.trials),
        highest_rate_per_s=optional(message, "highest_rate_per_s"),
        device_time_ns=message.device_time_ns,
        steal_fraction=optional(message, "steal_fraction"),
        verdicts=tuple(verdict_from_pb(verdict) for verdict in message.verdicts),
    )


def load_event_to_pb(event: LoadEvent) -> pb.LoadEvent:
    if isinstance(event, Progress):
        return pb.LoadEvent(progress=progress_to_pb(event))
    if isinstance(event, ServedBatch):
        return pb.LoadEvent(served=served_to_pb(event))
    if isinstance(event, ReadingBatch):
        return pb.LoadEvent(readings=readings_to_pb(event))
    return pb.LoadEvent(result=load_result_to_pb(event))


def load_event_from_pb(message: pb.LoadEvent) -> LoadEvent:
    which = message.WhichOneof("event")
    if which == "progress":
        return progress_from_pb(message.progress)
    if which == "served":
        return served_from_pb(message.served)
    if which == "readings":
        return readings_from_pb(message.readings)
    if which == "result":
        return load_result_from_pb(message.result)
    raise InvalidRequest("the load job sent an event that this version does not know; update the older side")
