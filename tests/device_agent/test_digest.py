"""The hash of a growing file, in a real process."""

from __future__ import annotations

import hashlib
import os
import signal
from contextlib import closing
from pathlib import Path

import pytest

from device_agent.digest import FileDigest


def _children() -> set[str]:
    return {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


def test_it_hashes_what_was_there_and_what_is_added(tmp_path: Path) -> None:
    path = tmp_path / "file"
    parts = [os.urandom(size) for size in (3 << 20, 1, 0, 5 << 20)]
    path.write_bytes(parts[0])
    with closing(FileDigest(path)) as digest, path.open("ab", buffering=0) as file:
        for part in parts[1:]:
            file.write(part)
            digest.grown()
        assert digest.hexdigest() == hashlib.sha256(b"".join(parts)).hexdigest()


def test_it_reads_to_the_end_without_being_told(tmp_path: Path) -> None:
    path = tmp_path / "-c"  # a name like an option
    path.write_bytes(b"a")
    with closing(FileDigest(path)) as digest:
        assert digest.hexdigest() == hashlib.sha256(b"a").hexdigest()


def test_a_process_that_was_killed_gives_an_error_and_no_hash(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a")
    before = _children()
    with closing(FileDigest(path)) as digest:
        (pid,) = _children() - before
        os.kill(int(pid), signal.SIGKILL)
        with pytest.raises(OSError, match="ended with status -9; try again"):
            digest.hexdigest()


def test_closing_midway_leaves_no_process_and_no_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(64 << 20))
    before, opened = _children(), len(list(Path("/proc/self/fd").iterdir()))
    digest = FileDigest(path)
    digest.close()
    digest.close()
    assert (_children(), len(list(Path("/proc/self/fd").iterdir()))) == (before, opened)
