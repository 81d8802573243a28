"""Files that survive a crash or a power cut whole, or not at all."""

from __future__ import annotations

import fcntl
import os
import time
from io import TextIOWrapper
from pathlib import Path

from device_agent.contract.errors import DeviceBusy

#: The kernel kills the workers of a killed agent at once; they need a moment to be gone.
_ORPHANS_S = 10.0
_LOCKS: list[TextIOWrapper] = []


def write_atomically(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Replace `path` by `data`, synchronised to the disk together with its folder. OSError by the disk.

    `mode` is what others may do with the file, before the umask; 0o600 is for secrets.
    """
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.unlink(missing_ok=True)  # what a crash left may have another mode
    try:
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Make a folder that only this user can read, if it is not there. OSError by the disk."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def size_of(path: Path) -> int:
    """Return a file's size in bytes, 0 if there is none."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def lock_folder(folder: Path) -> TextIOWrapper:
    """Return an open lock file in `folder`; closing it, or the end of the process, frees it.

    Processes that inherit it (`inherited_locks`) hold it as well: where those of a process that was killed have yet to end, they
    are waited for. DeviceBusy if another process holds the lock.
    """
    file = (folder / "lock").open("a+", encoding="utf-8")
    end_s = time.monotonic() + _ORPHANS_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            if time.monotonic() < end_s and owner.isdigit() and not _lives(int(owner)):
                time.sleep(0.02)
                continue
            file.close()
            raise DeviceBusy(
                f"another agent (process {owner}) serves from {folder}; stop it, or choose another folder with --store"
            ) from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    _LOCKS[:] = [*(one for one in _LOCKS if not one.closed), file]
    return file


def inherited_locks() -> tuple[int, ...]:
    """Return the descriptors of the locks that a worker has to hold, too: no agent may start before it is gone."""
    return tuple(file.fileno() for file in _LOCKS if not file.closed)


def _lives(pid: int) -> bool:
    """Return whether a process runs: neither gone nor waiting for its parent to notice its end."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except OSError:
        return False


def megabytes(count: int) -> str:
    """Return a number of bytes for people, in units of 10**6."""
    return f"{count / 1e6:.1f} MB"
