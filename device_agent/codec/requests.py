"""How a model is to be run and measured."""

from __future__ import annotations

from typing import Any

from device_agent.codec.fields import enum_from_pb, optional, required
from device_agent.contract.settings import (
    CpuGroup,
    GraphOptimization,
    InputKind,
    MeasureRequest,
    Settings,
    Stopping,
)
from device_agent.wire.v1 import agent_pb2 as pb

CPU_GROUPS = {CpuGroup.BIG: pb.CPU_GROUP_BIG, CpuGroup.LITTLE: pb.CPU_GROUP_LITTLE}
GRAPH_OPTIMIZATIONS = {
    GraphOptimization.DISABLED: pb.GRAPH_OPTIMIZATION_DISABLED,
    GraphOptimization.BASIC: pb.GRAPH_OPTIMIZATION_BASIC,
    GraphOptimization.EXTENDED: pb.GRAPH_OPTIMIZATION_EXTENDED,
    GraphOptimization.ALL: pb.GRAPH_OPTIMIZATION_ALL,
}
INPUT_KINDS = {
    InputKind.RANDOM: pb.INPUT_KIND_RANDOM,
    InputKind.ZEROS: pb.INPUT_KIND_ZEROS,
    InputKind.DATA: pb.INPUT_KIND_DATA,
}


def settings_to_pb(settings: Settings) -> pb.Settings:
    group, level = settings.cpu_group, settings.graph_optimization
    message = pb.Settings(
        runtime=settings.runtime,
        threads=settings.threads,
        provider=settings.provider,
        cpus=settings.cpus or (),
        cpu_group=None if group is None else CPU_GROUPS[group],
        provider_options=[pb.ProviderOption(name=name, value=value) for name, value in settings.provider_options],
        nice=settings.nice,
        batch=settings.batch,
        graph_optimization=None if level is None else GRAPH_OPTIMIZATIONS[level],
        inputs=INPUT_KINDS[settings.inputs],
        inputs_sha256=settings.inputs_sha256,
    )
    if settings.memory_arena is not None:  # the generated types say that an absent bool is not None
        message.memory_arena = settings.memory_arena
    return message


def settings_from_pb(message: pb.Settings) -> Settings:
    return Settings(
        runtime=message.runtime,
        threads=optional(message, "threads"),
        provider=optional(message, "provider"),
        provider_options=tuple((option.name, option.value) for option in message.provider_options),
        cpus=tuple(message.cpus) or None,
        cpu_group=_optional_enum(message, "cpu_group", CPU_GROUPS),
        nice=optional(message, "nice"),
        batch=optional(message, "batch"),
        graph_optimization=_optional_enum(message, "graph_optimization", GRAPH_OPTIMIZATIONS),
        memory_arena=optional(message, "memory_arena"),
        inputs=_optional_enum(message, "inputs", INPUT_KINDS) or InputKind.RANDOM,
        inputs_sha256=optional(message, "inputs_sha256"),
    )


def _optional_enum(message: Any, name: str, table: dict[Any, Any]) -> Any:
    number = optional(message, name)
    return None if number is None else enum_from_pb(table, number, name.replace("_", " "))


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
        cold_starts=request.cold_starts,
        soak_s=request.soak_s,
        idle_s=request.idle_s,
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
        cold_starts=message.cold_starts,
        soak_s=optional(message, "soak_s"),
        idle_s=optional(message, "idle_s"),
        deadline_s=optional(message, "deadline_s"),
        memory_limit_bytes=optional(message, "memory_limit_bytes"),
    )
    return request, optional(message, "lease_token")
