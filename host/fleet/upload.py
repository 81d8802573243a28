"""Moving an artifact to an agent: hash once, ask what is there already, send the rest, resume after a cut."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from device_agent.contract.artifact import Artifact, ArtifactFormat
from device_agent.contract.errors import (
    AgentStopping,
    ArtifactCorrupt,
    BoardfitError,
    DeadlineExceeded,
    DeviceUnreachable,
    InvalidRequest,
    UploadConflict,
)
from device_agent.contract.transfer import HeldBytes

#: One mebibyte moves fastest (500 MB/s raw on loopback; 64 KiB chunks reach 200); the contract allows two.
CHUNK_BYTES = 2**20
#: The agent gets a chunk whole or not at all, so what a slow link brings of it before a cut is lost. A chunk is to take no longer
#: than this to send, unless it is one of the smallest.
CHUNK_S = 0.025
SMALL_CHUNK_BYTES = 2**15
#: The slowest link that an upload's deadline allows for, in bytes per second.
SLOWEST_LINK = 100_000
#: Errors after which the same bytes may get through.
RETRIED = (DeviceUnreachable, AgentStopping, UploadConflict, DeadlineExceeded)


@dataclass(frozen=True, slots=True, kw_only=True)
class PushReport:
    """What a push did. `bytes_sent` counts what went out, resent bytes included; 0 where the agent had the
    artifact already.

    `seconds` is the wall time of the whole push, hashing included.
    """

    artifact: Artifact
    bytes_sent: int
    seconds: float


@dataclass(slots=True, kw_only=True)
class Retry:
    """How often and after how long an upload is tried again. Progress resets the count. Delays double and are jittered.

    By default a cut link is waited out for about a minute: somebody has to find the cable.
    """

    attempts: int = 16
    first_delay_s: float = 0.2
    longest_delay_s: float = 5.0
    sleep: Callable[[float], None] = time.sleep
    random: random.Random = field(default_factory=random.Random)

    def wait(self, failures: int) -> None:
        """Sleep before the next try; `failures` counts the tries that failed in a row, from 1."""
        delay = min(self.first_delay_s * 2 ** (failures - 1), self.longest_delay_s)
        self.sleep(delay * self.random.uniform(0.5, 1.5))


def describe_file(path: Path, name: str | None = None) -> Artifact:
    """Hash `path` and return its artifact. Raises InvalidRequest for a missing or empty file or an unknown type."""
    format_ = ArtifactFormat.of_suffix(path.suffix)
    digest = hashlib.sha256()
    size = 0
    try:
        with path.open("rb", buffering=0) as file:
            buffer = memoryview(bytearray(CHUNK_BYTES))
            while count := file.readinto(buffer):
                digest.update(buffer[:count])
                size += count
    except OSError as error:
        raise InvalidRequest(f"cannot read the file {path}: {error.strerror}") from error
    if size == 0:
        raise InvalidRequest(f"the file {path} is empty")
    return Artifact(sha256=digest.hexdigest(), format=format_, size_bytes=size, name=name or path.name)


class ChunkSizes:
    """How large a chunk may be on this link. It begins small, since buffers take the first ones at any speed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._taken_at: float | None = None
        self._rate: float | None = None
        self.size = SMALL_CHUNK_BYTES

    def taken(self, count: int) -> None:
        """Note that `count` bytes have been taken since the last call. The first call begins the measuring."""
        now = self._clock()
        if self._taken_at is not None:
            rate = count / max(now - self._taken_at, 1e-6)
            # Slower is believed at once, faster by and by: a full buffer tells the truth, an emptied one does not.
            self._rate = rate if self._rate is None else min(rate, 0.75 * self._rate + 0.25 * rate)
            wanted = int(self._rate * CHUNK_S)
            self.size = min(max(wanted, SMALL_CHUNK_BYTES), 2 * self.size, CHUNK_BYTES)
        self._taken_at = now


def chunks(
    file: BinaryIO, offset: int, size: int, count: Callable[[int], None], sizes: ChunkSizes | None = None
) -> Iterator[bytes]:
    """Yield the bytes of `file` from `offset` up to `size`, and tell `count` the position after each chunk."""
    sizes = sizes or ChunkSizes()
    sizes.taken(0)
    file.seek(offset)
    while offset < size:
        chunk = file.read(min(sizes.size, size - offset))
        if not chunk:
            return  # the file has shrunk since it was hashed; the agent will say so
        offset += len(chunk)
        yield chunk
        sizes.taken(len(chunk))
        count(offset)


def push(
    artifact: Artifact,
    path: Path,
    *,
    query: Callable[[str], HeldBytes],
    send: Callable[[Artifact, int, Iterator[bytes], float], None],
    retry: Retry,
    on_progress: Callable[[int, int], None] | None = None,
) -> int:
    """Bring the agent to hold `artifact` and return the bytes sent.

    `query(sha256)` says what the agent has; `send(artifact, offset, chunks, deadline_s)` uploads from there
    on. Both raise the contract's errors. Transient ones are tried again from the offset that the agent then
    names.
    """
    sent = failures = last = 0
    reached = -1

    def count(position: int) -> None:
        nonlocal sent, last
        sent += position - last
        last = position
        if on_progress is not None:
            on_progress(position, artifact.size_bytes)

    while True:
        try:
            held = query(artifact.sha256)
            if held.complete:
                if on_progress is not None:
                    on_progress(artifact.size_bytes, artifact.size_bytes)
                return sent
            offset = held.offset
            if offset > reached:
                reached, failures = offset, 0
            last = offset
            deadline_s = 60 + (artifact.size_bytes - offset) / SLOWEST_LINK
            with path.open("rb", buffering=0) as file:
                send(artifact, offset, chunks(file, offset, artifact.size_bytes, count), deadline_s)
            return sent
        except RETRIED as error:
            failures += 1
            # An agent that has not answered once in this push is not worth the waiting.
            if reached < 0 or failures >= retry.attempts:
                raise type(error)(f"sending {artifact.name}: {error}") from error
            retry.wait(failures)
        except ArtifactCorrupt as error:
            raise ArtifactCorrupt(
                f"sending {path}: {error}. If the file was changed meanwhile, repeat the command once it is complete."
            ) from error
        except OSError as error:
            raise BoardfitError(f"cannot read the file {path}: {error.strerror}") from error
