"""How a model is to be run and measured."""

from __future__ import annotations

from device_agent.codec.fields import optional, required
from device_agent.contract.settings import MeasureRequest, Settings, Stopping
from device_agent.wire.v1 import agent_pb2 as pb


def settings_to_pb(settings: Settings) -> pb.Settings:
    return pb.Settings(
        runtime=settings.runtime,
        threads=settings.threads,
        provider=settings.provider,
        cpus=settings.cpus or (),
    )


def settings_from_pb(message: pb.Settings) -> Settings:
    return Settings(
        runtime=message.runtime,
        threads=optional(message, "threads"),
        provider=optional(message, "provider"),
        cpus=tuple(message.cpus) or None,
    )


def stopping_to_pb(stopping: Stopping) -> pb.Stopping:
    return pb.Stopping(
        warmup_runs=stopping.warmup_runs,
        warmup_time_s=stopping.warmup_time_s,
        min_runs=stopping.min_runs,
        min_time_s=stopping.min_time_s,
        max_time_s=stopping.max_time_s,
        precision=stopping.precision,
    )


def stopping_from_pb(message: pb.Stopping) -> Stopping:
    return Stopping(
        warmup_runs=message.warmup_runs,
        warmup_time_s=message.warmup_time_s,
        min_runs=message.min_runs,
        min_time_s=message.min_time_s,
        max_time_s=message.max_time_s,
        precision=optional(message, "precision"),
    )


def measure_request_to_pb(request: MeasureRequest, lease_token: str | None = None) -> pb.MeasureRequest:
    return pb.MeasureRequest(
        artifacts=request.artifacts,
        settings=settings_to_pb(request.settings),
        stopping=stopping_to_pb(request.stopping),
        turn_runs=request.turn_runs,
        profile_nodes=request.profile_nodes,
        seed=request.seed,
        deadline_s=request.deadline_s,
        memory_limit_bytes=request.memory_limit_bytes,
        lease_token=lease_token,
    )


def measure_request_from_pb(message: pb.MeasureRequest) -> tuple[MeasureRequest, str | None]:
    """Return the request and the lease token."""
    request = MeasureRequest(
        artifacts=tuple(message.artifacts),
        settings=settings_from_pb(required(message, "settings")),
        stopping=stopping_from_pb(required(message, "stopping")),
        turn_runs=message.turn_runs,
        profile_nodes=message.profile_nodes,
        seed=message.seed,
        deadline_s=optional(message, "deadline_s"),
        memory_limit_bytes=optional(message, "memory_limit_bytes"),
    )
    return request, optional(message, "lease_token")
