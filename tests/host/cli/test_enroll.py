"""`host enroll` and `device-agent join`, as the processes that they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from running_agent import StartAgent

from host.cli.errors import ExitCode
from host.fleet.inventory import Inventory

Host = Callable[..., Any]


@pytest.fixture
def enrolling() -> Iterator[Callable[..., tuple[subprocess.Popen[str], Any]]]:
    """Start `host enroll` and return (the process, what it says first)."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> tuple[subprocess.Popen[str], Any]:
        command = [sys.executable, "-m", "host", "enroll", *arguments, "--listen", "127.0.0.1:0", "--json"]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        out = started[-1].stdout
        assert out is not None
        return started[-1], json.loads(out.readline())

    yield start
    for process in started:
        process.kill()
        process.communicate()


def device_agent(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "device_agent", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_a_board_joins_a_second_host_joins_and_the_board_is_revoked(
    host: Host, start: StartAgent, enrolling: Any, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "board"
    waiting, said = enrolling("--name", "pi4-1")
    assert said["command"] == f"device-agent join {said['address']} {said['code']}"
    joined = device_agent("join", said["address"], *said["code"].lower().split("-"), "--store", str(store))
    assert joined.returncode == 0, joined.stderr
    assert "joined as pi4-1" in joined.stdout
    over, err = waiting.communicate(timeout=60)
    assert json.loads(over)["event"] == "joined", err
    assert waiting.returncode == 0
    assert said["code"] not in err + joined.stdout + joined.stderr

    agent = start(store=store)
    moved = host("devices", "add", "pi4-1", agent.address, "--force", "--json")
    assert moved.document["device"]["tls_name"] == json.loads(over)["tls_name"], moved.err
    assert host("devices", "list", "--check").code == 0

    # A second workstation, with folders of its own.
    waiting, said = enrolling("host", "ann")
    with monkeypatch.context() as elsewhere:
        for kind in ("CONFIG", "DATA"):
            elsewhere.setenv(f"XDG_{kind}_HOME", str(tmp_path / "ann" / kind.lower()))
        accepted = host("enroll", "accept", said["address"], said["code"], "--json")
        assert accepted.document == {"schema": 1, "known_as": "ann", "added": ["pi4-1"], "left_out": []}
        assert waiting.wait(60) == 0
        assert host("devices", "list", "--check").code == 0
        refused = host("enroll", "--listen", "127.0.0.1:0")
        assert refused.code == ExitCode.FAILED
        assert "another host's authority" in refused.err
    members = host("enroll", "list", "--json").document["members"]
    assert [member["known_as"] for member in members[1:]] == ["pi4-1", "ann"]
    assert host("enroll", "renew", "--json").document == {"schema": 1, "renewed": ["pi4-1"], "failed": {}}
    told = host("enroll", "revoke", "ann", "--json").document
    assert (told["told"], told["not_told"]) == (["pi4-1"], {})
    with monkeypatch.context() as elsewhere:
        for kind in ("CONFIG", "DATA"):
            elsewhere.setenv(f"XDG_{kind}_HOME", str(tmp_path / "ann" / kind.lower()))
        listed = host("devices", "list", "--check", "--json")
        assert listed.code == ExitCode.NO_DEVICE
        assert "was revoked" in listed.document["devices"][0]["check"]["error"]

    revoked = host("enroll", "revoke", "pi4-1")
    assert "told 0 of 0 boards" in revoked.out
    refused = host("devices", "info", "pi4-1")
    assert refused.code == ExitCode.FAILED
    assert "was revoked" in refused.err
    (tmp_path / "night.toml").write_text('artifacts = ["tiny.onnx"]\ndevices = ["pi4-1"]\n')
    planned = host("sweep", str(tmp_path / "night.toml"), "--dry-run")
    assert "note: pi4-1 cannot be used now: device 'pi4-1' was revoked" in planned.out
    assert "does not answer" not in planned.out


def test_a_wrong_code_is_a_typing_error_or_a_wrong_host(tmp_path: Path) -> None:
    done = device_agent("join", "127.0.0.1:1", "ABCDE", "--store", str(tmp_path / "store"))
    assert done.returncode == 2
    assert "5 characters instead of 35" in done.stderr


def test_a_port_in_use_is_said_once_and_a_name_in_use_at_once(host: Host, enrolling: Any) -> None:
    assert host("devices", "add", "pi4-1", "127.0.0.1:1", "--force").code == 0
    inventory = Inventory()
    waiting, said = enrolling("--name", "pi4-1")
    inventory.add(replace(inventory.get("pi4-1"), device_id="f" * 32), replace=True)
    command = [sys.executable, "-m", "host", "enroll", "--name", "pi4-1", "--listen", said["address"]]
    second = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert second.returncode == ExitCode.USAGE
    note, error = second.stderr.splitlines()
    assert note.startswith("note: pi4-1 is registered at 127.0.0.1:1; only that board may join")
    assert f"cannot listen on {said['address']}" in error
    waiting.kill()
    assert "note:" not in waiting.communicate()[1], "the board was not known then"


def test_what_cannot_be_is_refused_before_anybody_waits(host: Host) -> None:
    assert host("enroll", "--valid", "never").code == ExitCode.USAGE
    assert host("enroll", "--name", "local", "--listen", "127.0.0.1:0").code == ExitCode.USAGE
    assert host("enroll", "list").code == ExitCode.FAILED
    assert host("enroll", "revoke", "x").code == ExitCode.FAILED


def test_nobody_came(host: Host) -> None:
    done = host("enroll", "--listen", "127.0.0.1:0", "--valid", "1s", "--json")
    assert done.code == ExitCode.FAILED
    assert [json.loads(line)["event"] for line in done.out.splitlines()] == ["waiting", "expired"]


def test_the_help_needs_no_cryptography() -> None:
    code = (
        "import sys; from host.cli.entry import run; run(['enroll', '--help']); "
        "print({*sys.modules} & {'grpc', 'cryptography'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ}, timeout=60)
    assert done.stdout.endswith("set()\n"), done.stdout + done.stderr
