"""The opening messages of calls that stream: an upload and an inference."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from device_agent.contract.artifact import Artifact, check_sha256
from device_agent.contract.errors import InvalidRequest
from device_agent.contract.settings import Settings

#: The most bytes that one chunk of an upload may carry.
MAX_CHUNK_BYTES = 2 * 1024 * 1024
#: The most bytes of one message in either direction: a batch of tensors.
MAX_MESSAGE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadHeader:
    """What is uploaded, and from which offset on: the bytes that the agent already holds of it."""

    artifact: Artifact
    offset: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.offset <= self.artifact.size_bytes:
            raise InvalidRequest(
                f"upload offset {self.offset} is not in 0..{self.artifact.size_bytes} (the artifact's size)"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldBytes:
    """How much of an artifact the agent has: all of it, or `offset` bytes of an unfinished upload."""

    complete: bool
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InferHeader:
    """Which artifact answers the batches that follow, and how. The limits are those of MeasureRequest."""

    sha256: str
    settings: Settings = field(default_factory=Settings)
    deadline_s: float | None = None
    memory_limit_bytes: int | None = None

    def __post_init__(self) -> None:
        check_sha256(self.sha256)
        if self.deadline_s is not None and not 0 < self.deadline_s < math.inf:
            raise InvalidRequest(f"deadline_s={self.deadline_s} is not a positive, finite time")
        if self.memory_limit_bytes is not None and self.memory_limit_bytes <= 0:
            raise InvalidRequest(f"memory_limit_bytes={self.memory_limit_bytes} is not positive")
