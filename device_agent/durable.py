"""Files that survive a crash or a power cut whole, or not at all."""

from __future__ import annotations

import fcntl
import os
from io import TextIOWrapper
from pathlib import Path

from device_agent.contract.errors import DeviceBusy


def write_atomically(path: Path, data: bytes) -> None:
    """Replace `path` by `data`, synchronised to the disk together with its folder. OSError by the disk."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
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

    DeviceBusy if another process holds the lock.
    """
    file = (folder / "lock").open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        owner = file.read().strip() or "unknown"
        file.close()
        raise DeviceBusy(
            f"another agent (process {owner}) serves from {folder}; stop it, or choose another folder with --store"
        ) from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def megabytes(count: int) -> str:
    """Return a number of bytes for people, in units of 10**6."""
    return f"{count / 1e6:.1f} MB"
