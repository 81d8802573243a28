"""Inputs and outputs of a model."""

from __future__ import annotations

from collections.abc import Iterable

from device_agent.codec.fields import optional, required
from device_agent.codec.requests import settings_from_pb, settings_to_pb
from device_agent.contract.artifact import Tensor
from device_agent.contract.transfer import InferHeader
from device_agent.wire.v1 import agent_pb2 as pb


def tensor_to_pb(tensor: Tensor) -> pb.Tensor:
    return pb.Tensor(name=tensor.name, dtype=tensor.dtype, shape=tensor.shape, data=tensor.data)


def tensor_from_pb(message: pb.Tensor) -> Tensor:
    return Tensor(name=message.name, dtype=message.dtype, shape=tuple(message.shape), data=message.data)


def infer_header_to_pb(header: InferHeader, lease_token: str | None = None) -> pb.InferRequest:
    return pb.InferRequest(
        header=pb.InferHeader(
            sha256=header.sha256,
            settings=settings_to_pb(header.settings),
            lease_token=lease_token,
            deadline_s=header.deadline_s,
            memory_limit_bytes=header.memory_limit_bytes,
        )
    )


def infer_header_from_pb(message: pb.InferRequest) -> tuple[InferHeader, str | None]:
    """Return the header and the lease token; raise InvalidRequest if the message is not a header."""
    part = required(message, "header")
    header = InferHeader(
        sha256=part.sha256,
        settings=settings_from_pb(required(part, "settings")),
        deadline_s=optional(part, "deadline_s"),
        memory_limit_bytes=optional(part, "memory_limit_bytes"),
    )
    return header, optional(part, "lease_token")


def infer_inputs_to_pb(tensors: Iterable[Tensor]) -> pb.InferRequest:
    return pb.InferRequest(inputs=pb.TensorBatch(tensors=[tensor_to_pb(tensor) for tensor in tensors]))


def infer_inputs_from_pb(message: pb.InferRequest) -> tuple[Tensor, ...]:
    return tuple(tensor_from_pb(tensor) for tensor in required(message, "inputs").tensors)


def infer_outputs_to_pb(tensors: Iterable[Tensor]) -> pb.InferResponse:
    return pb.InferResponse(outputs=pb.TensorBatch(tensors=[tensor_to_pb(tensor) for tensor in tensors]))


def infer_outputs_from_pb(message: pb.InferResponse) -> tuple[Tensor, ...]:
    return tuple(tensor_from_pb(tensor) for tensor in required(message, "outputs").tensors)
