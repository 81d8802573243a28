"""What the host writes: files that appear whole or not at all, and folders that one command has for itself."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from device_agent.contract.errors import StableError


class CannotWrite(StableError):
    """The system refuses to write a file: no space, no permission, or a file where a folder should be."""


class FolderInUse(StableError):
    """Another process writes to the folder."""


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
#: What a user's choice of a place leads to; any other error of the system is a defect.
_REFUSED = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ENOENT, errno.ENAMETOOLONG}
)


def cannot_write(path: Path, error: OSError) -> CannotWrite:
    """Return what to tell a user of an `error` from writing `path`."""
    advice = "free some space there, then repeat the command" if error.errno in _FULL else "name another place"
    return CannotWrite(f"cannot write {path}: {error.strerror or error}; {advice}")


def refusal(error: OSError) -> str | None:
    """Return what to tell a user of an error of the system that his disk or rights explain; None for any other."""
    place = "" if error.filename is None else f" ({error.filename})"
    if error.errno in _FULL:
        return f"{error.strerror}{place}; free some space there, then repeat the command"
    if error.errno in _REFUSED:
        return f"{error.strerror}{place}; check the path and your rights there, or name another place"
    return None


def write_whole(path: Path, data: bytes) -> None:
    """Put `data` in the place of `path`; a kill or a full disk leaves the old file or the new one. Raises CannotWrite."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            # mkstemp makes the file private to its owner; give it the rights of any new file.
            umask = os.umask(0)
            os.umask(umask)
            Path(name).chmod(0o666 & ~umask)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise cannot_write(path, error) from error


@contextmanager
def sole_use(folder: Path) -> Iterator[None]:
    """Make `folder` and keep other processes out until the block ends; a kill frees it. Raises FolderInUse, CannotWrite."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise cannot_write(folder, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderInUse(
                f"another command writes to {folder}; wait until it has ended, or name another folder with --out"
            ) from None
        yield
