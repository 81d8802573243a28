"""The host's side of the contract: one synchronous client per agent. Every call has a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import grpc

from device_agent import codec
from device_agent.codec import joining
from device_agent.contract.artifact import Artifact
from device_agent.contract.deadlines import longest_measurement_s
from device_agent.contract.device import CONTRACT_VERSION, DeviceInfo
from device_agent.contract.errors import (
    AgentInternalError,
    BoardfitError,
    DeviceBusy,
    DeviceUnreachable,
    TransientError,
)
from device_agent.contract.joining import SignedRevocations
from device_agent.contract.lease import DeviceUse, Lease, Place
from device_agent.contract.load import LoadEvent, LoadMeasurement, LoadRequest, LoadResult, ServedBatch, longest_s
from device_agent.contract.measurement import (
    MeasureEvent,
    Measurement,
    MeasureResult,
    Reading,
    ReadingBatch,
    Run,
    RunBatch,
)
from device_agent.contract.served import ServedLog
from device_agent.contract.settings import MeasureRequest, Settings
from device_agent.contract.transfer import HeldBytes, InferHeader, UploadHeader
from device_agent.wire.v1 import agent_pb2 as pb
from device_agent.wire.v1 import agent_pb2_grpc
from host.fleet import channel as channels
from host.fleet import upload
from host.fleet.identity import Peer
from host.fleet.lease import TTL_S, default_holder, keep_renewed, new_ticket, wait_for_lease
from host.fleet.upload import PushReport, Retry

if TYPE_CHECKING:
    import numpy as np

#: A board makes a private key, or checks a certificate, in a process that it starts for that: seconds on a small one.
KEY_S = 90.0


class AgentClient:
    """A connection to the agent at `address`, over TLS to exactly `peer`, or in plaintext without one (see host.fleet.devices,
    which knows of registered devices); `timeout_s` bounds each short call, `name` is the device's, for what errors advise.

    Calls raise the contract's errors (device_agent.contract.errors). May be used from several threads.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout_s: float = 10.0,
        retry: Retry | None = None,
        peer: Peer | None = None,
        name: str | None = None,
    ) -> None:
        self.address = channels.check_address(address)
        self.peer = peer
        self._name = name
        self.timeout_s = timeout_s
        self._retry = retry or Retry()
        self._channel = channels.open_channel(self.address, peer)
        self._stub = agent_pb2_grpc.AgentStub(self._channel)
        self._reached = False
        self._token: str | None = None
        self._streams: set[Any] = set()

    def __enter__(self) -> AgentClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; running calls are cancelled."""
        self._channel.close()

    def cancel(self) -> bool:
        """End the jobs that run now, from another thread: their callers get JobAborted. Say whether there were any."""
        running = self._streams.copy()
        for call in running:
            call.cancel()
        return bool(running)

    def describe(self) -> DeviceInfo:
        """Ask what the device is. Raises AgentTooOld for an agent of an older contract."""
        response = self._call(self._stub.Describe, codec.describe_request_to_pb(), "Describe")
        if response.contract_version < CONTRACT_VERSION:
            raise channels.too_old(
                self.address,
                f"it is version {response.agent_version or 'unknown'} and speaks contract version "
                f"{response.contract_version}",
            )
        return codec.device_info_from_pb(response)

    def push(
        self,
        path: Path,
        *,
        name: str | None = None,
        known: Artifact | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> PushReport:
        """Bring the agent to hold the file; bytes that it has already do not move. `on_progress(position,
        size)` in bytes.

        Transient errors are retried from where the agent's part ends. `name` is for people; the file's name
        by default. `known` is what `describe_file` said of the file, where it was asked before.
        """
        start = time.perf_counter_ns()
        artifact = known or upload.describe_file(path, name)
        sent = upload.push(
            artifact, path, query=self._query, send=self._send, retry=self._retry, on_progress=on_progress
        )
        return PushReport(artifact=artifact, bytes_sent=sent, seconds=(time.perf_counter_ns() - start) / 1e9)

    def list_artifacts(self) -> tuple[Artifact, ...]:
        """Return the artifacts that the agent holds complete."""
        response = self._call(self._stub.ListArtifacts, pb.ListArtifactsRequest(), "ListArtifacts")
        return codec.artifacts_from_pb(response)

    def delete_artifact(self, sha256: str) -> None:
        """Delete one artifact. Raises ArtifactNotFound."""
        self._call(self._stub.DeleteArtifact, codec.delete_request_to_pb(sha256, self._token), "DeleteArtifact")

    def measure(
        self, request: MeasureRequest, *, on_event: Callable[[MeasureEvent], None] | None = None
    ) -> Measurement:
        """Run a measurement to its end. `on_event` sees every event as it comes; its error, or Ctrl-C, cancels the job."""
        runs: list[Run] = []
        readings: list[Reading] = []
        result: MeasureResult | None = None
        message = codec.measure_request_to_pb(request, lease_token=self._token)
        for response in self._stream(self._stub.Measure, message, measure_deadline_s(request), "Measure"):
            event = codec.event_from_pb(response)
            if isinstance(event, RunBatch):
                runs.extend(event.runs)
            elif isinstance(event, ReadingBatch):
                readings.extend(event.readings)
            elif isinstance(event, MeasureResult):
                result = event
            if on_event is not None:
                on_event(event)
        if result is None:
            raise AgentInternalError(f"the agent at {self.address} ended a measurement without a result; see its log")
        return Measurement(request=request, result=result, runs=tuple(runs), readings=tuple(readings))

    def load(self, request: LoadRequest, *, on_event: Callable[[LoadEvent], None] | None = None) -> LoadMeasurement:
        """Put load on a model until the job ends. `on_event` sees every event; its error, or Ctrl-C, cancels the job."""
        served = ServedLog()
        readings: list[Reading] = []
        result: LoadResult | None = None
        message = codec.load_request_to_pb(request, lease_token=self._token)
        for response in self._stream(self._stub.Load, message, longest_s(request) + 30, "Load"):
            event = codec.load_event_from_pb(response)
            if isinstance(event, ServedBatch):
                served.extend(event.requests)
            elif isinstance(event, ReadingBatch):
                readings.extend(event.readings)
            elif isinstance(event, LoadResult):
                result = event
            if on_event is not None:
                on_event(event)
        if result is None:
            raise AgentInternalError(f"the agent at {self.address} ended a load job without a result; see its log")
        return LoadMeasurement(request=request, result=result, served=served, readings=tuple(readings))

    def read_sensors(self) -> tuple[Reading, ...]:
        """Return the newest reading of each channel of the device. DeviceBusy while a job runs there; AgentTooOld."""
        request = codec.read_sensors_request_to_pb(self._token)
        return codec.readings_from_pb(self._call(self._stub.ReadSensors, request, "ReadSensors")).readings

    def infer(
        self,
        sha256: str,
        settings: Settings,
        batches: Iterable[Mapping[str, np.ndarray]],
        *,
        deadline_s: float = 600.0,
        in_flight: int = 2,
    ) -> Iterator[dict[str, np.ndarray]]:
        """Run batches of named inputs on the device and yield the named outputs of each, in order.

        At most `in_flight` batches are on their way; `batches` is read no faster than the device answers.
        `deadline_s` bounds the whole stream. An error raised by `batches` ends the call and is raised here.
        """
        from host.fleet.inference import run_batches

        header = codec.infer_header_to_pb(
            InferHeader(sha256=sha256, settings=settings, deadline_s=deadline_s), self._token
        )

        def call(requests: Iterator[Any]) -> Iterator[Any]:
            # The agent's own deadline comes first, so that its message is the one that is seen.
            return self._stream(self._stub.Infer, requests, deadline_s + self.timeout_s, "Infer")

        return run_batches(header, batches, call, in_flight=in_flight)

    @contextmanager
    def lease(
        self,
        holder: str | None,
        reason: str,
        ttl_s: float = TTL_S,
        *,
        wait_s: float | None = None,
        on_wait: Callable[[Place], None] | None = None,
    ) -> Iterator[Lease]:
        """Hold the device alone for the duration. While held, every call of this client carries the token.

        `holder` is who holds it, for people; None is this user, machine and process. Where the device is not free, DeviceBusy
        names the present holder: at once, or, with `wait_s`, after so many seconds in the queue (math.inf: as long as it takes).
        `on_wait(place)` hears of the place in the queue when it changes, and every few seconds. Once the lease is lost (the agent
        restarted, or this host was cut off for longer than `ttl_s`), calls raise LeaseLost, and jobs that run end with it.
        """
        lease = self._lease(holder or default_holder(), reason, ttl_s, wait_s, on_wait)

        def renew() -> None:
            self._call(self._stub.RenewLease, codec.renew_request_to_pb(token=lease.token, ttl_s=ttl_s), "RenewLease")

        def release() -> None:
            self._call(self._stub.ReleaseLease, codec.release_request_to_pb(lease.token), "ReleaseLease")

        self._token = lease.token
        try:
            with keep_renewed(renew, release, ttl_s=ttl_s):
                yield lease
        finally:
            self._token = None

    def use(self) -> DeviceUse:
        """Ask who uses the device, for what, for how long, and who waits for it."""
        return codec.use_from_pb(self._call(self._stub.DescribeUse, pb.DescribeUseRequest(), "DescribeUse"))

    def end_use(self) -> DeviceUse:
        """End the lease and the jobs of whoever uses the device, and return what was ended. The queue stays."""
        return codec.use_from_pb(self._call(self._stub.EndUse, pb.EndUseRequest(), "EndUse"))

    def _lease(
        self, holder: str, reason: str, ttl_s: float, wait_s: float | None, on_wait: Callable[[Place], None] | None
    ) -> Lease:
        ticket = new_ticket()

        def leave() -> None:
            self._call(self._stub.LeaveQueue, codec.leave_request_to_pb(ticket), "LeaveQueue")

        def ask(hold_s: float) -> Lease | Place:
            request = codec.queue_request_to_pb(holder=holder, reason=reason, ttl_s=ttl_s, ticket=ticket, hold_s=hold_s)
            answer = self._call(self._stub.QueueLease, request, "QueueLease", hold_s + self.timeout_s)
            return codec.queue_response_from_pb(answer)

        if wait_s is not None:
            return wait_for_lease(ask, leave, wait_s=wait_s, on_wait=on_wait)
        request = codec.acquire_request_to_pb(holder=holder, reason=reason, ttl_s=ttl_s, ticket=ticket)
        try:
            return codec.lease_from_pb(self._call(self._stub.AcquireLease, request, "AcquireLease"))
        except DeviceBusy:
            raise
        except (TransientError, KeyboardInterrupt):
            # The lease may have been given although its answer never came.
            with suppress(BoardfitError):
                leave()
            raise

    def exchange_revocations(self, ours: SignedRevocations) -> SignedRevocations | None:
        """Tell the agent who was revoked; return its own list if that is newer. For an agent with TLS."""
        message = joining.revocations_to_pb(ours)
        return joining.newer_from_pb(self._call(self._trust.ExchangeRevocations, message, "ExchangeRevocations"))

    def request_certificate(self) -> str:
        """Let the agent make a new private key; return the request for its certificate, in PEM. For an agent with TLS."""
        response = self._call(self._trust.RequestCertificate, joining.renewal_to_pb(), "RequestCertificate", KEY_S)
        return joining.certificate_request_from_pb(response)

    def install_certificate(self, certificate_pem: str, expires_s: float) -> None:
        """Give the agent the certificate for the key that it made last. NotTrusted if it does not fit."""
        message = joining.install_to_pb(certificate_pem, expires_s)
        self._call(self._trust.InstallCertificate, message, "InstallCertificate", KEY_S)

    @property
    def _trust(self) -> Any:
        from device_agent.wire.v1 import join_pb2_grpc

        return join_pb2_grpc.TrustStub(self._channel)

    def _failure(self, error: grpc.RpcError, doing: str) -> BoardfitError:
        failure = channels.contract_error(error, self.address, reached=self._reached, doing=doing)
        if isinstance(failure, DeviceUnreachable) and not self._reached and error.code() is grpc.StatusCode.UNAVAILABLE:
            from host.fleet import diagnosis

            return diagnosis.explain(self.address, self.peer, self._name) or failure
        return failure

    def _query(self, sha256: str) -> HeldBytes:
        response = self._call(self._stub.QueryArtifact, codec.query_request_to_pb(sha256), "QueryArtifact")
        return codec.held_bytes_from_pb(response)

    def _send(self, artifact: Artifact, offset: int, parts: Iterator[bytes], deadline_s: float) -> None:
        def messages() -> Iterator[Any]:
            yield codec.upload_header_to_pb(UploadHeader(artifact=artifact, offset=offset), self._token)
            yield from map(codec.upload_chunk_to_pb, parts)

        self._call(self._stub.UploadArtifact, messages(), "UploadArtifact", deadline_s)

    def _call(self, method: Any, request: Any, name: str, timeout_s: float | None = None) -> Any:
        try:
            response = method(request, timeout=timeout_s or self.timeout_s)
        except grpc.RpcError as error:
            raise self._failure(error, name) from error
        self._reached = True
        return response

    def _stream(self, method: Any, request: Any, timeout_s: float, name: str) -> Iterator[Any]:
        call = method(request, timeout=timeout_s)
        self._streams.add(call)
        try:
            for response in call:
                self._reached = True
                yield response
        except grpc.RpcError as error:
            raise self._failure(error, name) from error
        finally:
            self._streams.discard(call)
            call.cancel()  # of no effect on a call that has ended


def measure_deadline_s(request: MeasureRequest) -> float:
    """Return the deadline of the whole call in seconds: the bound that the agent keeps, and a margin, so that the agent's
    message comes first."""
    return longest_measurement_s(request) + 30
