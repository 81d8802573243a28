"""One upload on its way to the disk: hashed while it is written, stored only if the hash is the announced one."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from device_agent.contract.artifact import Artifact
from device_agent.contract.errors import ArtifactCorrupt, BoardfitError, InvalidRequest, StorageFull
from device_agent.digest import FileDigest

_FULL = {errno.ENOSPC, errno.EDQUOT}


class Upload:
    """The only writer of one partial file. Its methods block; call them from one thread at a time.

    `commit` makes the complete file an artifact, `release` lets others upload the same hash. An upload that is closed
    before it was finished leaves its partial file, to be resumed.
    """

    def __init__(
        self,
        artifact: Artifact,
        path: Path,
        *,
        offset: int,
        commit: Callable[[Artifact, Path], None],
        release: Callable[[Artifact], None],
    ) -> None:
        """Open the partial file, cut it to `offset` and begin to hash what it holds. OSError by the disk."""
        self.artifact = artifact
        self._path = path
        self._commit = commit
        self._release = release
        self._closed = False
        self._sound = True  # False once a write was cut short: what follows would stand in the wrong place
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(self._file, offset)
            self._written = os.lseek(self._file, 0, os.SEEK_END)
            self._digest = FileDigest(path)
        except BaseException:
            os.close(self._file)
            raise

    def write(self, chunks: Iterable[bytes]) -> None:
        """Append chunks. ArtifactCorrupt past the announced size, StorageFull; both discard the partial file."""
        self._sound = False
        for chunk in chunks:
            if self._written + len(chunk) > self.artifact.size_bytes:
                self._discard()
                raise ArtifactCorrupt(
                    f"upload of {self.artifact.name!r} has more than the {self.artifact.size_bytes} bytes announced;"
                    " nothing was stored; upload it again"
                )
            view = memoryview(chunk)
            while view:
                try:
                    count = os.write(self._file, view)
                except OSError as error:
                    raise self._full(error) from error
                view = view[count:]
            self._written += len(chunk)
        self._sound = True
        self._digest.grown()

    def keep(self, chunks: Iterable[bytes]) -> None:
        """Append the last chunks of a transfer that was cut, if nothing went wrong before; what fails is sent again later."""
        if self._sound and not self._closed:
            with contextlib.suppress(OSError, BoardfitError):
                self.write(chunks)

    def finish(self) -> Artifact:
        """Check size and hash, synchronise and store.

        Raises InvalidRequest if bytes are missing (what came is kept, to be resumed), ArtifactCorrupt if the hash is
        another one (the partial file is discarded), StorageFull.
        """
        if self._written < self.artifact.size_bytes:
            raise InvalidRequest(
                f"upload of {self.artifact.name!r} ended after {self._written} of {self.artifact.size_bytes} bytes;"
                " what came is kept: resume from there"
            )
        digest = self._digest.hexdigest()
        if digest != self.artifact.sha256:
            self._discard()
            raise ArtifactCorrupt(
                f"upload of {self.artifact.name!r} has sha256 {digest[:12]}..., announced was"
                f" {self.artifact.sha256[:12]}...; nothing was stored; upload it again"
            )
        try:
            os.fsync(self._file)
            self._commit(self.artifact, self._path)
        except OSError as error:
            raise self._full(error) from error
        self.close()
        return self.artifact

    def close(self) -> None:
        """Let the file go; what was written stays for a later upload. May be called twice."""
        if not self._closed:
            self._closed = True
            os.close(self._file)
            self._digest.close()
            self._release(self.artifact)

    def _discard(self) -> None:
        self._path.unlink(missing_ok=True)
        self.close()

    def _full(self, error: OSError) -> Exception:
        """Return the error to raise for a failed write; a full disk gets the partial file's blocks back at once."""
        if error.errno not in _FULL:
            return error
        written, name = self._written, self.artifact.name
        self._discard()
        return StorageFull(
            f"the agent's disk is full after {written} of {self.artifact.size_bytes} bytes of {name!r};"
            " nothing was stored; delete artifacts or free the disk, then upload again"
        )
