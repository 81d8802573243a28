"""Artifacts on disk, addressed by the sha256 of their content.

    DIR/device-id             random identity of this agent
    DIR/lock                  held by the one agent that serves from DIR
    DIR/artifacts/SHA256      the file as it was uploaded
    DIR/artifacts/SHA256.json what people call it, and its format
    DIR/partial/SHA256        an unfinished upload; one older than a day goes at the next start

Names are metadata and never part of a path. Methods may be called from any thread; those that touch the disk block.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from device_agent.contract.artifact import Artifact, ArtifactFormat, check_sha256
from device_agent.contract.errors import (
    ArtifactNotFound,
    BoardfitError,
    DeviceBusy,
    InvalidRequest,
    StorageFull,
    UploadConflict,
)
from device_agent.contract.transfer import HeldBytes, UploadHeader
from device_agent.digest import FileDigest
from device_agent.durable import lock_folder, make_folder, megabytes, size_of, sync_folder, write_atomically
from device_agent.upload import Upload

MAX_NAME = 200
STALE_PARTIAL_S = 24 * 3600
#: Room left on the disk beside an artifact, for its sidecar and the file system's own blocks.
MARGIN_BYTES = 256 * 1024

_log = logging.getLogger(__name__)


class ArtifactStore:
    """The artifacts of one agent. Least recently used ones make room for new ones within the quota."""

    def __init__(
        self,
        root: Path,
        *,
        quota_bytes: int,
        wall_clock: Callable[[], float] = time.time,
        free_bytes: Callable[[Path], int] = lambda path: shutil.disk_usage(path).free,
    ) -> None:
        """Open or create the store under `root`. DeviceBusy if another agent serves from it, OSError by the disk."""
        self._artifacts = root / "artifacts"
        self._partial = root / "partial"
        for folder in (root, self._artifacts, self._partial):
            make_folder(folder)
        self._lock_file = lock_folder(root)
        self.root = root
        self.quota_bytes = quota_bytes
        self._wall_clock = wall_clock
        self._free_bytes = free_bytes
        self._mutex = threading.RLock()
        self._uses: Counter[str] = Counter()
        self._writers: dict[str, int] = {}  # hash -> announced size
        self._known: dict[str, Artifact] = {}  # least recently used first
        self._recover()

    def close(self) -> None:
        """Let another agent serve from this store."""
        self._lock_file.close()

    def list(self) -> tuple[Artifact, ...]:
        """Return all artifacts, least recently used first."""
        with self._mutex:
            return tuple(self._known.values())

    def get(self, sha256: str) -> Artifact:
        """Return one artifact; raise ArtifactNotFound."""
        with self._mutex:
            return self._find(sha256)

    def held(self, sha256: str) -> HeldBytes:
        """Say how much of an artifact is here already."""
        check_sha256(sha256)
        with self._mutex:
            with suppress(ArtifactNotFound):
                return HeldBytes(complete=True, offset=self._find(sha256).size_bytes)
            return HeldBytes(complete=False, offset=size_of(self._partial / sha256))

    @contextmanager
    def use(self, hashes: Sequence[str]) -> Iterator[tuple[tuple[Path, Artifact], ...]]:
        """Yield (path, artifact) of each hash and keep them from eviction meanwhile. ArtifactNotFound."""
        with self._mutex:
            for sha256 in hashes:
                self._find(sha256)
            for sha256 in hashes:
                self._touch(sha256)
                self._uses[sha256] += 1
            found = tuple((self._artifacts / sha256, self._known[sha256]) for sha256 in hashes)
        try:
            yield found
        finally:
            with self._mutex:
                self._uses.subtract(hashes)

    def delete(self, sha256: str) -> None:
        """Remove an artifact. ArtifactNotFound, or DeviceBusy while a job uses it."""
        with self._mutex:
            artifact = self._find(sha256)
            if self._uses[sha256] > 0:
                raise DeviceBusy(f"artifact {artifact.name!r} ({sha256[:12]}) is in use by a running job")
            self._remove(sha256)

    def begin(self, header: UploadHeader) -> Upload | None:
        """Return an open upload, or None if the artifact is here already.

        Raises UploadConflict if the offset is neither 0 (start over) nor the end of the partial file, or if somebody
        else uploads the same artifact now; StorageFull; InvalidRequest for a bad name.
        """
        artifact = header.artifact
        if not 1 <= len(artifact.name) <= MAX_NAME or not artifact.name.isprintable():
            raise InvalidRequest(f"an artifact's name must be 1 to {MAX_NAME} printable characters")
        path = self._partial / artifact.sha256
        with self._mutex:
            with suppress(ArtifactNotFound):
                self._find(artifact.sha256)
                self._touch(artifact.sha256)
                return None
            if artifact.sha256 in self._writers:
                raise UploadConflict(f"another upload of {artifact.name!r} is under way; try again when it ends")
            held = size_of(path)
            if header.offset not in (0, held):
                raise UploadConflict(
                    f"upload of {artifact.name!r} starts at byte {header.offset}, but the agent holds {held} bytes;"
                    f" ask for the offset and resume there"
                )
            self._make_room(artifact, held)
            self._writers[artifact.sha256] = artifact.size_bytes
        try:
            return Upload(artifact, path, offset=header.offset, commit=self._commit, release=self._release)
        except BaseException:
            self._release(artifact)
            raise

    def device_id(self) -> str:
        """Return this store's random identity, made at the first call."""
        return device_id(self.root)

    def _find(self, sha256: str) -> Artifact:
        check_sha256(sha256)
        if sha256 in self._known and not (self._artifacts / sha256).exists():
            _log.warning("artifact %s is gone from the disk; somebody else removed it", sha256[:12])
            self._remove(sha256)
        if sha256 not in self._known:
            raise ArtifactNotFound(f"no artifact {sha256[:12]} on this device; upload it first")
        return self._known[sha256]

    def _touch(self, sha256: str) -> None:
        self._known[sha256] = self._known.pop(sha256)
        now = self._wall_clock()
        try:
            os.utime(self._sidecar(sha256), (now, now))
        except FileNotFoundError:
            self._write_sidecar(self._known[sha256])

    def _sidecar(self, sha256: str) -> Path:
        return self._artifacts / f"{sha256}.json"

    def _release(self, artifact: Artifact) -> None:
        with self._mutex:
            self._writers.pop(artifact.sha256, None)

    def _commit(self, artifact: Artifact, partial: Path) -> None:
        """Make a complete, synchronised file an artifact. The sidecar goes first: a lone sidecar is swept."""
        self._write_sidecar(artifact)
        partial.replace(self._artifacts / artifact.sha256)
        sync_folder(self._artifacts)
        sync_folder(self._partial)
        with self._mutex:
            self._known[artifact.sha256] = artifact

    def _write_sidecar(self, artifact: Artifact) -> None:
        record = {
            "schema": 1,
            "name": artifact.name,
            "format": artifact.format.value,
            "size_bytes": artifact.size_bytes,
        }
        write_atomically(self._sidecar(artifact.sha256), json.dumps(record).encode())

    def _make_room(self, artifact: Artifact, held: int) -> None:
        """Evict unfinished uploads, then the least recently used artifacts, until quota and disk have room.

        `held` bytes of it are on the disk already, to be continued or cut off.
        Raises StorageFull before anything is evicted if even all of it would not make enough room.
        """
        busy = {artifact.sha256, *self._writers}
        paths = sorted(
            (path for path in self._partial.iterdir() if path.name not in busy),
            key=lambda path: path.stat().st_mtime,
        )
        paths += [self._artifacts / sha256 for sha256 in self._known if self._uses[sha256] <= 0]
        evictable = [(path, size_of(path)) for path in paths]
        fixed = sum(known.size_bytes for sha256, known in self._known.items() if self._uses[sha256] > 0)
        fixed += sum(self._writers.values())
        promised = sum(size - size_of(self._partial / sha256) for sha256, size in self._writers.items())
        free = self._free_bytes(self.root) - promised
        missing = artifact.size_bytes - held + MARGIN_BYTES
        idle = sum(size for _, size in evictable)
        if fixed + artifact.size_bytes > self.quota_bytes or missing > free + idle:
            raise StorageFull(
                f"no room on the device for {artifact.name!r} ({megabytes(artifact.size_bytes)}): the quota is"
                f" {megabytes(self.quota_bytes)}, {megabytes(fixed)} of it in use by running jobs and uploads, and the"
                f" disk has {megabytes(free)} free and {megabytes(idle)} to evict; free the disk, or restart the agent"
                f" with another --store or a larger --quota"
            )
        for path, size in evictable:
            if fixed + idle + artifact.size_bytes <= self.quota_bytes and missing <= free:
                return
            _log.info("evicting %s to make room for %r", path.name[:12], artifact.name)
            if path.parent == self._partial:
                path.unlink(missing_ok=True)
            else:
                self._remove(path.name)
            idle -= size
            free += size

    def _remove(self, sha256: str) -> None:
        (self._artifacts / sha256).unlink(missing_ok=True)
        self._sidecar(sha256).unlink(missing_ok=True)
        self._known.pop(sha256, None)

    def _recover(self) -> None:
        """Sweep what a crash left behind, and learn which artifacts are here."""
        for path in self._partial.iterdir():
            if self._wall_clock() - path.stat().st_mtime > STALE_PARTIAL_S:
                path.unlink()
        for path in list(self._artifacts.iterdir()):
            if path.suffix == ".tmp" or (path.suffix == ".json" and not path.with_suffix("").exists()):
                path.unlink()
        found: list[tuple[float, Artifact]] = []
        for path in self._artifacts.iterdir():
            if path.suffix == ".json":
                continue
            artifact = self._read_sidecar(path) or self._repair(path)
            if artifact is None:
                _log.warning("removing %s: its content does not match its hash", path)
                path.unlink()
                self._sidecar(path.name).unlink(missing_ok=True)
            else:
                found.append((self._sidecar(path.name).stat().st_mtime, artifact))
        found.sort(key=lambda item: item[0])
        self._known = {artifact.sha256: artifact for _, artifact in found}

    def _read_sidecar(self, path: Path) -> Artifact | None:
        try:
            record = json.loads(self._sidecar(path.name).read_bytes())
            artifact = Artifact(
                sha256=path.name,
                format=ArtifactFormat(record["format"]),
                size_bytes=record["size_bytes"],
                name=record["name"],
            )
        except (OSError, ValueError, KeyError, TypeError, BoardfitError):
            return None
        return artifact if artifact.size_bytes == size_of(path) else None

    def _repair(self, path: Path) -> Artifact | None:
        """Return the artifact of a file that lost its sidecar, with a new one; None if its content is not its hash."""
        with closing(FileDigest(path)) as digest:
            if digest.hexdigest() != path.name:
                return None
        with path.open("rb") as file:
            start = file.read(8)
        # TFLite is a FlatBuffer with the file identifier TFL3 after the root offset, .npz is a zip; ONNX has no magic number.
        kind = ArtifactFormat.TFLITE if start[4:8] == b"TFL3" else ArtifactFormat.ONNX
        if start[:4] == b"PK\x03\x04":
            kind = ArtifactFormat.NPZ
        artifact = Artifact(
            sha256=path.name, format=kind, size_bytes=size_of(path), name=f"{path.name[:12]}.{kind.value}"
        )
        self._write_sidecar(artifact)
        return artifact


def device_id(root: Path) -> str:
    """Return the identity kept in the store under `root`, made at the first call. OSError by the disk."""
    path = root / "device-id"
    if not path.exists():
        write_atomically(path, os.urandom(16).hex().encode())
    return path.read_text().strip()
