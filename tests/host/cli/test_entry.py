"""The group of commands: what it imports, and how it ends."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from device_agent.contract import errors
from host.cli.entry import COMMANDS
from host.cli.errors import ExitCode, exit_code_of, message_of
from host.fleet.inventory import UnknownDevice

HEAVY = {"torch", "grpc", "google.protobuf", "sqlalchemy", "alembic", "numpy", "rich", "onnx", "scipy"}


def modules_after(*arguments: str) -> set[str]:
    script = (
        "import json, sys; from host.cli.entry import run; code = run(sys.argv[1:]); "
        "print('MODULES' + json.dumps([code, *sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
    code, *modules = json.loads(done.stdout.rpartition("MODULES")[2])
    assert code == 0, done.stderr
    return set(modules)


@pytest.mark.parametrize("arguments", [("--help",), ("devices", "list"), ("devices", "--help"), ("--version",)])
def test_light_commands_import_nothing_heavy(arguments: tuple[str, ...]) -> None:
    assert modules_after(*arguments) & HEAVY == set()


@pytest.mark.parametrize("command", ["bench", "train", "compress"])
def test_help_of_a_command_needs_no_torch(command: str) -> None:
    assert modules_after(command, "--help") & {"torch", "sqlalchemy", "onnx", "scipy"} == set()


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_what_the_help_says(name: str) -> None:
    module, line = COMMANDS[name]
    command = importlib.import_module(module).command
    assert isinstance(command, click.Command)
    assert command.name == name
    assert command.get_short_help_str(200) == line


def test_exit_codes() -> None:
    assert exit_code_of(errors.DeviceUnreachable("x")) == 4
    assert exit_code_of(UnknownDevice("x")) == 2
    assert exit_code_of(errors.InvalidRequest("x")) == 2
    assert exit_code_of(errors.ModelRejected("x")) == 1
    assert exit_code_of(errors.DeviceBusy("x")) == 1
    assert exit_code_of(KeyboardInterrupt()) == 130
    assert exit_code_of(ZeroDivisionError("x")) == 1
    assert ExitCode.CONSTRAINT_NOT_MET == 3


def test_a_defect_says_where_it_is() -> None:
    try:
        raise ZeroDivisionError("by zero")
    except ZeroDivisionError as error:
        message = message_of(error)
    assert "ZeroDivisionError: by zero" in message
    assert __file__ in message
    assert "host --debug" in message


def test_ctrl_c_stops_the_agent_too(model: Path, tmp_path: Path) -> None:
    store = tmp_path / "xdg" / "cache"
    command = [sys.executable, "-m", "host", "bench", str(model), "--device", "local", "--min-time", "300"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    log = store / "boardfit" / "local-agent" / "1" / "store" / "artifacts"
    while process.poll() is None and not (log.is_dir() and any(log.iterdir())):
        pass
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert out == ""
    assert "interrupted" in err
    assert "Traceback" not in err
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(store) not in listed


def test_a_reader_that_goes_away_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "host", "devices", "list"], stdout=write, stderr=subprocess.PIPE, text=True
    )
    os.close(write)
    assert "Traceback" not in done.stderr
