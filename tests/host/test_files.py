"""Files that appear whole or not at all, and folders for one command."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from host.cli.errors import message_of
from host.files import CannotWrite, FolderInUse, refusal, sole_use, write_whole


def test_a_file_is_replaced_and_has_the_rights_of_a_new_one(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    write_whole(path, b"one")
    write_whole(path, b"two")
    (tmp_path / "plain").write_bytes(b"")
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert [each.name for each in path.parent.iterdir()] == ["file"]


def test_a_file_where_a_folder_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CannotWrite, match="name another place"):
        write_whole(tmp_path / "file" / "model.onnx", b"x")
    with pytest.raises(CannotWrite, match="name another place"), sole_use(tmp_path / "file"):
        pass


LIMITED = """
import resource, signal, sys
from pathlib import Path
import torch
from host.files import CannotWrite
from host.zoo.checkpoint import Checkpoint, save_checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    save_checkpoint(Path(sys.argv[1]), Checkpoint(state={"a": torch.zeros(100_000)}))
except CannotWrite as error:
    print(error)
"""


def test_a_write_that_is_cut_off_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, check=True)
    assert f"cannot write {path}: File too large" in done.stdout
    assert path.read_bytes() == b"old"
    assert [each.name for each in tmp_path.iterdir()] == ["model.pt"]


def test_a_folder_has_one_user_at_a_time(tmp_path: Path) -> None:
    with sole_use(tmp_path / "run"):
        with pytest.raises(FolderInUse, match="--out"), sole_use(tmp_path / "run"):
            pass
        with sole_use(tmp_path / "other"):
            pass
    with sole_use(tmp_path / "run"):
        pass


def test_a_full_disk_is_told_apart_from_a_defect() -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/data/x")
    assert "free some space" in message_of(full)
    assert "/data/x" in message_of(full)
    assert "should not happen" not in message_of(PermissionError(errno.EACCES, "Permission denied", "/etc/x"))
    assert refusal(OSError(errno.EBADF, "Bad file descriptor")) is None
    assert "should not happen" in message_of(OSError(errno.EBADF, "Bad file descriptor"))
