"""`host devices install|upgrade|wheel`: a board that is this machine behind a made-up ssh, and agents that cannot be upgraded."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

#: ssh that runs the command here; -t and the target are dropped, and `sudo` is whatever lies on the PATH of the test.
SSH = """#!/bin/sh
echo "ssh $*" >> {log}
[ "$1" = -t ] && shift
[ "$1" = nobody@nowhere ] && { echo "ssh: connect to host nowhere port 22: Connection refused" >&2; exit 255; }
echo "Welcome to the board"
exec sh -c "$2"
"""
PYTHON = """#!/bin/sh
echo "python $PYTHONPATH $*" >> {log}
unzip -l "$PYTHONPATH" > /dev/null 2>&1 || ls "$PYTHONPATH" > /dev/null || exit 9
echo "- a step"
case "$*" in *--quota*) echo "no such option" >&2; exit 2;; esac
"""


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of made-up commands, first on PATH; the log of what was called is in it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    sudo = '#!/bin/sh\necho "sudo $1" >> {log}\nexec "$@"\n'
    for name, text in (("ssh", SSH), ("sudo", sudo), ("board-python", PYTHON)):
        (folder / name).write_text(text.replace("{log}", str(folder / "log")))
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return folder


def test_install_over_ssh(host: Callable[..., Any], board: Path) -> None:
    ran = host(
        "devices", "install", "pi@board", "--python", "board-python", "--listen", "0.0.0.0:7", "--", "--insecure"
    )
    assert ran.code == 0, ran.err
    assert "next: host devices add NAME board:7" in ran.out
    calls = (board / "log").read_text().splitlines()
    (python,) = [line for line in calls if line.startswith("python ")]
    assert python.endswith("-m device_agent install --listen 0.0.0.0:7 -- --insecure")
    wheel = Path(python.split()[1])
    assert wheel.name.startswith("boardfit-")
    assert not wheel.parent.exists(), "nothing is left on the board"
    assert ("sudo env" in calls) == (os.geteuid() != 0)


def test_json_and_dry_run(host: Callable[..., Any], board: Path) -> None:
    ran = host("devices", "install", "pi@board", "--python", "board-python", "--dry-run", "--json")
    assert ran.code == 0
    assert ran.document["outcome"] == "dry-run"
    assert "--dry-run" in (board / "log").read_text()


def test_what_fails_on_the_way(host: Callable[..., Any], board: Path) -> None:
    gone = host("devices", "install", "nobody@nowhere")
    assert gone.code == 4
    assert "Connection refused" in gone.err
    refused = host("devices", "install", "pi@board", "--python", "board-python", "--", "--quota", "x")
    assert refused.code == 1
    assert "installation on pi@board ended with status 2" in refused.err
    assert host("devices", "install", "-oProxyCommand=x").code == 2
    assert host("devices", "install", "").code == 2
    missing = host("devices", "install", "pi@board", "--ssh", "no-such-ssh")
    assert missing.code == 1
    assert "no-such-ssh cannot be run" in missing.err


def test_the_wheel_for_a_board(host: Callable[..., Any], tmp_path: Path) -> None:
    written = host("devices", "wheel", str(tmp_path / "out"), "--json").document
    assert Path(written["wheel"]).stat().st_size > 100_000
    assert "python3 -m device_agent install" in host("devices", "wheel", str(tmp_path / "out")).out


def test_upgrade_stops_at_the_first_failure(host: Callable[..., Any], agent: Any) -> None:
    for name, address in (("a", agent.address), ("b", "127.0.0.1:1")):
        assert host("devices", "add", name, address, "--force").code == 0
    stopped = host("devices", "upgrade", "all", "--json")
    assert stopped.code == 1
    (entry,) = stopped.document["devices"]
    assert (entry["outcome"], stopped.document["not_tried"]) == ("failed", ["b"])
    assert "takes no upgrades" in entry["error"]
    both = host("devices", "upgrade", "all", "--keep-going")
    assert both.code == 1
    assert "127.0.0.1:1" in both.out.replace("\n", "")
    assert host("devices", "upgrade", "b").code == 4
    assert host("devices", "upgrade", "tag:none").code == 2
