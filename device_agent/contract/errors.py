"""One error tree for agent and host, and the one table that maps it to gRPC status codes in both directions.

Transient errors may pass when tried again; stable ones will not. A message says what is wrong, where, and what to do.
"""

from __future__ import annotations


class BoardfitError(Exception):
    """Base of every error that Boardfit raises on purpose. `str(error)` is fit to be shown to a user."""


class TransientError(BoardfitError):
    """Trying again may help."""


class StableError(BoardfitError):
    """Trying again will not help; something has to be changed first."""


class DeviceUnreachable(TransientError):
    """No agent answers at the address, or the connection broke."""


class DeviceBusy(TransientError):
    """Somebody else holds the device, or a job of somebody else is running on it."""


class DeadlineExceeded(TransientError):
    """The call took longer than its deadline."""


class StorageFull(TransientError):
    """The agent's disk or quota has no room for the artifact, even after evicting what may be evicted."""


class AgentStopping(TransientError):
    """The agent is shutting down and takes no new work."""


class JobAborted(TransientError):
    """The job was ended by the agent's shutdown or by its caller before it was complete."""


class InvalidRequest(StableError):
    """A field of the request is missing, malformed or out of range."""


class ArtifactNotFound(StableError):
    """The agent has no artifact with this hash."""


class ArtifactCorrupt(StableError):
    """The bytes that arrived do not have the announced size or hash; nothing was stored."""


class UploadConflict(TransientError):
    """The upload offset is not where the agent's partial file ends; ask for the offset and resume there."""


class ModelRejected(StableError):
    """The runtime cannot load or run this model: corrupt file, unsupported operator, wrong inputs."""


class RuntimeUnavailable(StableError):
    """The runtime or execution provider asked for is not installed on this device, or fails to import."""


class WorkerCrashed(StableError):
    """The worker process died of a signal or an unexpected exit while it held the model."""


class WorkerOutOfMemory(StableError):
    """The worker exceeded its memory limit, or the kernel killed it for memory."""


class WorkerTimedOut(StableError):
    """The worker did not finish before the job's deadline and was killed."""


class LeaseLost(StableError):
    """The lease token is unknown, expired or was released: the device may be somebody else's now."""


class NotTrusted(StableError):
    """The two sides do not trust each other: a certificate is missing, revoked, out of date, or of another authority or role."""


class UpgradeFailed(StableError):
    """Another version of the agent could not be installed, or did not prove itself; the one before goes on."""


class AgentTooOld(StableError):
    """The agent speaks an older version of the contract and lacks this call or field."""


class AgentInternalError(StableError):
    """The agent failed in a way it did not expect; its log has the traceback."""


#: (error class, gRPC status name, stable code on the wire). The first row of a status is the fallback when an
#: agent sends a code that this side does not know.
ERROR_TABLE: tuple[tuple[type[BoardfitError], str, str], ...] = (
    (DeviceUnreachable, "UNAVAILABLE", "device-unreachable"),
    (AgentStopping, "UNAVAILABLE", "agent-stopping"),
    (JobAborted, "ABORTED", "job-aborted"),
    (UploadConflict, "ABORTED", "upload-conflict"),
    (DeviceBusy, "RESOURCE_EXHAUSTED", "device-busy"),
    (StorageFull, "RESOURCE_EXHAUSTED", "storage-full"),
    (WorkerOutOfMemory, "RESOURCE_EXHAUSTED", "worker-out-of-memory"),
    (DeadlineExceeded, "DEADLINE_EXCEEDED", "deadline-exceeded"),
    (WorkerTimedOut, "DEADLINE_EXCEEDED", "worker-timed-out"),
    (InvalidRequest, "INVALID_ARGUMENT", "invalid-request"),
    (ArtifactNotFound, "NOT_FOUND", "artifact-not-found"),
    (ArtifactCorrupt, "DATA_LOSS", "artifact-corrupt"),
    (ModelRejected, "FAILED_PRECONDITION", "model-rejected"),
    (RuntimeUnavailable, "FAILED_PRECONDITION", "runtime-unavailable"),
    (UpgradeFailed, "FAILED_PRECONDITION", "upgrade-failed"),
    (LeaseLost, "PERMISSION_DENIED", "lease-lost"),
    (NotTrusted, "UNAUTHENTICATED", "not-trusted"),
    (AgentTooOld, "UNIMPLEMENTED", "agent-too-old"),
    (AgentInternalError, "INTERNAL", "agent-internal-error"),
    (WorkerCrashed, "INTERNAL", "worker-crashed"),
)


def status_of(error: BoardfitError) -> tuple[str, str]:
    """Return (gRPC status name, wire code) of `error`, by its nearest class in the table."""
    for kind in type(error).__mro__:
        for row, status, code in ERROR_TABLE:
            if row is kind:
                return status, code
    return "INTERNAL", "agent-internal-error"


def error_from(status: str, code: str | None, message: str) -> BoardfitError:
    """Return the error for a gRPC status name and, where the agent sent one, a wire code."""
    for row, _, row_code in ERROR_TABLE:
        if code is not None and row_code == code:
            return row(message)
    for row, row_status, _ in ERROR_TABLE:
        if row_status == status:
            return row(message)
    return AgentInternalError(f"{status}: {message}")
