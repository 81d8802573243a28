"""The least client that speaks to an agent, for tests of the agent alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
from running_agent import RunningAgent

from device_agent import codec
from device_agent.contract.artifact import Artifact, ArtifactFormat, Tensor
from device_agent.contract.device import DeviceInfo
from device_agent.contract.errors import BoardfitError, error_from
from device_agent.contract.lease import Lease
from device_agent.contract.measurement import MeasureEvent, MeasureResult
from device_agent.contract.settings import MeasureRequest, Settings, Stopping
from device_agent.contract.transfer import HeldBytes, InferHeader, UploadHeader
from device_agent.wire.v1 import agent_pb2_grpc

#: A bound against a hang.
TIMEOUT_S = 60.0
CHUNK_BYTES = 1 << 20
#: As short as a measurement can be.
SHORT = Stopping(warmup_runs=1, warmup_time_s=0.0, min_runs=5, min_time_s=0.0, max_time_s=1.0, precision=None)
#: Goes on until somebody ends it.
ENDLESS = Stopping(warmup_runs=1, warmup_time_s=0.0, min_runs=5, min_time_s=600.0, max_time_s=600.0, precision=None)


def artifact_of(data: bytes, name: str = "net.onnx") -> Artifact:
    """Return the artifact of some bytes; the format goes by the name's suffix."""
    kind = ArtifactFormat.of_suffix(Path(name).suffix)
    return Artifact(sha256=hashlib.sha256(data).hexdigest(), format=kind, size_bytes=len(data), name=name)


def error_of(error: grpc.RpcError) -> BoardfitError:
    """Return the contract's error in a failed call."""
    metadata = dict(error.trailing_metadata() or ())
    return error_from(error.code().name, metadata.get("boardfit-error"), error.details())


class WireClient:
    """Calls raise the contract's errors."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address)
        self.stub = agent_pb2_grpc.AgentStub(self._channel)

    def close(self) -> None:
        self._channel.close()

    def call(self, name: str, request: Any) -> Any:
        """Make a call with one answer."""
        try:
            return getattr(self.stub, name)(request, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            raise error_of(error) from error

    def describe(self) -> DeviceInfo:
        return codec.device_info_from_pb(self.call("Describe", codec.describe_request_to_pb()))

    def held(self, sha256: str) -> HeldBytes:
        return codec.held_bytes_from_pb(self.call("QueryArtifact", codec.query_request_to_pb(sha256)))

    def list(self) -> tuple[Artifact, ...]:
        from device_agent.wire.v1 import agent_pb2 as pb

        return codec.artifacts_from_pb(self.call("ListArtifacts", pb.ListArtifactsRequest()))

    def delete(self, sha256: str, token: str | None = None) -> None:
        self.call("DeleteArtifact", codec.delete_request_to_pb(sha256, token))

    def upload(self, artifact: Artifact, data: bytes, *, offset: int = 0, token: str | None = None) -> Artifact:
        """Send `data` from its beginning as the bytes of `artifact` from `offset` on."""

        def parts() -> Iterator[Any]:
            yield codec.upload_header_to_pb(UploadHeader(artifact=artifact, offset=offset), token)
            for start in range(0, len(data), CHUNK_BYTES):
                yield codec.upload_chunk_to_pb(data[start : start + CHUNK_BYTES])

        return codec.upload_response_from_pb(self.call("UploadArtifact", parts()))

    def put(self, path: Path, *, token: str | None = None) -> Artifact:
        """Upload a file."""
        data = path.read_bytes()
        return self.upload(artifact_of(data, path.name), data, token=token)

    def start_measure(
        self,
        *artifacts: Artifact,
        stopping: Stopping = SHORT,
        runtime: str = "onnxruntime",
        settings: Settings | None = None,
        token: str | None = None,
        **request: Any,
    ) -> Any:
        """Return the call, an iterator of messages with a `cancel`."""
        message = codec.measure_request_to_pb(
            MeasureRequest(
                artifacts=tuple(artifact.sha256 for artifact in artifacts),
                settings=settings or Settings(runtime=runtime, threads=1),
                stopping=stopping,
                **request,
            ),
            token,
        )
        return self.stub.Measure(message, timeout=TIMEOUT_S)

    def drain(self, call: Any) -> None:
        """Read a stream to its end."""
        try:
            for _ in call:
                pass
        except grpc.RpcError as error:
            raise error_of(error) from error

    def measure(self, *artifacts: Artifact, **options: Any) -> tuple[list[MeasureEvent], MeasureResult]:
        """Measure and return (all events, the result)."""
        try:
            events = [codec.event_from_pb(message) for message in self.start_measure(*artifacts, **options)]
        except grpc.RpcError as error:
            raise error_of(error) from error
        assert isinstance(events[-1], MeasureResult)
        return events, events[-1]

    def infer(
        self, header: InferHeader, batches: Iterable[Sequence[Tensor]], token: str | None = None
    ) -> list[tuple[Tensor, ...]]:
        def parts() -> Iterator[Any]:
            yield codec.infer_header_to_pb(header, token)
            yield from map(codec.infer_inputs_to_pb, batches)

        try:
            return [codec.infer_outputs_from_pb(message) for message in self.stub.Infer(parts(), timeout=TIMEOUT_S)]
        except grpc.RpcError as error:
            raise error_of(error) from error

    def acquire(self, holder: str = "ann", reason: str = "compress", ttl_s: float = 60.0) -> Lease:
        request = codec.acquire_request_to_pb(holder=holder, reason=reason, ttl_s=ttl_s)
        return codec.lease_from_pb(self.call("AcquireLease", request))


Connect = Callable[[RunningAgent], WireClient]
