"""Artifacts and their upload."""

from __future__ import annotations

from collections.abc import Iterable

from device_agent.codec.fields import enum_from_pb, optional, required
from device_agent.contract.artifact import Artifact, ArtifactFormat, check_sha256
from device_agent.contract.errors import InvalidRequest
from device_agent.contract.transfer import MAX_CHUNK_BYTES, HeldBytes, UploadHeader
from device_agent.wire.v1 import agent_pb2 as pb

FORMATS = {
    ArtifactFormat.ONNX: pb.ARTIFACT_FORMAT_ONNX,
    ArtifactFormat.TFLITE: pb.ARTIFACT_FORMAT_TFLITE,
    ArtifactFormat.NPZ: pb.ARTIFACT_FORMAT_NPZ,
}


def artifact_to_pb(artifact: Artifact) -> pb.Artifact:
    return pb.Artifact(
        sha256=artifact.sha256,
        format=FORMATS[artifact.format],
        size_bytes=artifact.size_bytes,
        name=artifact.name,
    )


def artifact_from_pb(message: pb.Artifact) -> Artifact:
    return Artifact(
        sha256=message.sha256,
        format=enum_from_pb(FORMATS, message.format, "artifact format"),
        size_bytes=message.size_bytes,
        name=message.name,
    )


def artifacts_to_pb(artifacts: Iterable[Artifact]) -> pb.ListArtifactsResponse:
    return pb.ListArtifactsResponse(artifacts=[artifact_to_pb(artifact) for artifact in artifacts])


def artifacts_from_pb(message: pb.ListArtifactsResponse) -> tuple[Artifact, ...]:
    return tuple(artifact_from_pb(artifact) for artifact in message.artifacts)


def query_request_to_pb(sha256: str) -> pb.QueryArtifactRequest:
    return pb.QueryArtifactRequest(sha256=sha256)


def query_request_from_pb(message: pb.QueryArtifactRequest) -> str:
    return check_sha256(message.sha256)


def held_bytes_to_pb(held: HeldBytes) -> pb.QueryArtifactResponse:
    return pb.QueryArtifactResponse(complete=held.complete, offset=held.offset)


def held_bytes_from_pb(message: pb.QueryArtifactResponse) -> HeldBytes:
    return HeldBytes(complete=message.complete, offset=message.offset)


def upload_header_to_pb(header: UploadHeader, lease_token: str | None = None) -> pb.UploadArtifactRequest:
    return pb.UploadArtifactRequest(
        header=pb.UploadHeader(artifact=artifact_to_pb(header.artifact), offset=header.offset, lease_token=lease_token)
    )


def upload_header_from_pb(message: pb.UploadArtifactRequest) -> tuple[UploadHeader, str | None]:
    """Return the header and the lease token; raise InvalidRequest if the message is not a header."""
    header = required(message, "header")
    artifact = artifact_from_pb(required(header, "artifact"))
    return UploadHeader(artifact=artifact, offset=header.offset), optional(header, "lease_token")


def upload_chunk_to_pb(chunk: bytes) -> pb.UploadArtifactRequest:
    return pb.UploadArtifactRequest(chunk=chunk)


def upload_chunk_from_pb(message: pb.UploadArtifactRequest) -> bytes:
    """Return the bytes of a chunk; raise InvalidRequest if there is no chunk or it is too long."""
    chunk: bytes = required(message, "chunk")
    if len(chunk) > MAX_CHUNK_BYTES:
        raise InvalidRequest(f"an upload chunk has {len(chunk)} bytes; at most {MAX_CHUNK_BYTES} are allowed")
    return chunk


def upload_response_to_pb(artifact: Artifact) -> pb.UploadArtifactResponse:
    return pb.UploadArtifactResponse(artifact=artifact_to_pb(artifact))


def upload_response_from_pb(message: pb.UploadArtifactResponse) -> Artifact:
    return artifact_from_pb(required(message, "artifact"))


def delete_request_to_pb(sha256: str, lease_token: str | None = None) -> pb.DeleteArtifactRequest:
    return pb.DeleteArtifactRequest(sha256=sha256, lease_token=lease_token)


def delete_request_from_pb(message: pb.DeleteArtifactRequest) -> tuple[str, str | None]:
    """Return the hash and the lease token."""
    return check_sha256(message.sha256), optional(message, "lease_token")
