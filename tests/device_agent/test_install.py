"""`device-agent install`: its steps on made-up systems, the unit, and what is left when a step fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from device_agent import environments
from device_agent.contract.errors import InvalidRequest
from device_agent.environments import CommandFailed
from device_agent.install import Installer, InstallFailed, InstallOptions, as_user
from device_agent.install_unit import Unit
from device_agent.packing import pack_agent
from device_agent.switching import Installation
from device_agent.wheels import Platform

PI_OS_12 = Platform(python=(3, 11), machine="aarch64", glibc=36, kernel_machine="aarch64")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pack_agent(tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A Pi with systemd."""
    files = {
        "etc/passwd": "root:x:0:0::/root:/bin/bash\n",
        "etc/group": "root:x:0:\nvideo:x:44:\ndialout:x:20:\n",
        "proc/meminfo": "MemTotal:        3884380 kB\n",
        "proc/device-tree/compatible": "raspberrypi,4-model-b\0brcm,bcm2711\0",
        "etc/systemd/system/other.service": "",
        "run/systemd/system/x": "",
    }
    for name, text in files.items():
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(text)
    return tmp_path / "root"


class Board:
    """An installer's commands and words; `fails` is the part of a command that makes it fail."""

    def __init__(self, root: Path, prefix: Path, wheel: Path | None) -> None:
        self.options = InstallOptions(prefix=prefix, root=root, source=wheel, serve=("--quota", "1Gi"))
        self.commands: list[str] = []
        self.said: list[str] = []
        self.fails: str | None = None
        self.answers = True

    def run(self, command: Sequence[str]) -> None:
        line = " ".join(command)
        self.commands.append(line)
        if self.fails is not None and self.fails in line:
            raise CommandFailed(f"`{line}` ended with status 1: no such wheel")
        if "-m venv" in line:
            (Path(command[-1]) / "bin").mkdir(parents=True)

    def installer(self, **changes: object) -> Installer:
        options = replace(self.options, **changes)  # type: ignore[arg-type]
        return Installer(
            options,
            say=self.said.append,
            run=self.run,
            here=PI_OS_12,
            user_id=lambda: 1000,
            answers=lambda *_: self.answers,
        )

    @property
    def installation(self) -> Installation:
        return Installation(self.options.prefix / "versions")


class RootBoard(Board):
    """The same with root's rights; what is done as the agent's user is done as ourselves."""

    def installer(self, **changes: object) -> Installer:
        made = super().installer(**changes)
        made._user_id = lambda: 0
        made._as_user = lambda action: action()  # type: ignore[method-assign, assignment, return-value]
        return made


@pytest.fixture
def board(root: Path, tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> RootBoard:
    monkeypatch.setattr(shutil, "chown", lambda *_: None)  # the user was made by a command that was not run
    return RootBoard(root, tmp_path / "opt", wheel)


def test_a_service(board: RootBoard, root: Path) -> None:
    board.installer().install()
    name = board.installation.current()
    assert name is not None
    assert name.startswith("0.")
    words = [command.split()[0].rpartition("/")[2] for command in board.commands]
    assert words[0] == "useradd"
    assert [command for command in board.commands if command.startswith("systemctl")] == [
        "systemctl daemon-reload",
        "systemctl enable boardfit-agent.service",
        "systemctl restart boardfit-agent.service",
    ]
    (install,) = [command for command in board.commands if " pip install " in command]
    assert "boardfit[onnxruntime,litert] @ file://" in install
    assert "ai-edge-litert" in install, "nothing is compiled on a board"
    unit = (root / "etc/systemd/system/boardfit-agent.service").read_text()
    assert (
        f"{board.options.prefix}/launch.py serve --listen 127.0.0.1:50051 --store /var/lib/boardfit --quota 1Gi" in unit
    )
    assert "SupplementaryGroups=video dialout\n" in unit
    assert "MemoryMax=3224M\n" in unit
    assert "class Installation" in (board.options.prefix / "launch.py").read_text()
    assert any("doctor" in line for line in board.said)


def test_again_is_an_upgrade_in_place(board: RootBoard, tmp_path: Path, wheel: Path) -> None:
    board.installer().install()
    first = board.installation.current()
    board.commands.clear()
    board.installer().install()
    assert not [command for command in board.commands if "venv" in command]
    assert board.installation.current() == first
    newer = shutil.copy(wheel, tmp_path / "boardfit-9.9.0-py3-none-any.whl")
    newest = shutil.copy(wheel, tmp_path / "boardfit-9.9.1-py3-none-any.whl")
    board.installer(source=newer).install()
    assert (board.installation.current() or "").startswith("9.9.0-")
    assert board.installation.previous() == first
    board.installer(source=newest).install()
    assert len(board.installation.names()) == 2, "the one before is kept, older ones are not"


@pytest.mark.parametrize("part", ["-m venv", "pip install", "device_agent info"])
def test_a_step_that_fails_leaves_the_version_before(board: RootBoard, tmp_path: Path, wheel: Path, part: str) -> None:
    board.installer().install()
    first = board.installation.current()
    board.fails = part
    newer = shutil.copy(wheel, tmp_path / "boardfit-9.9.0-py3-none-any.whl")
    with pytest.raises(
        InstallFailed, match=r"could not make the environment 9\.9\.0.*no such wheel.*package index"
    ) as raised:
        board.installer(source=newer).install()
    assert f"{first} still runs" in str(raised.value)
    assert board.installation.current() == first
    assert board.installation.names() == (first,)


def test_a_version_that_does_not_answer_is_followed_by_the_one_before(
    board: RootBoard, tmp_path: Path, wheel: Path
) -> None:
    board.installer().install()
    first = board.installation.current()
    board.answers = False
    newer = shutil.copy(wheel, tmp_path / "boardfit-9.9.0-py3-none-any.whl")
    with pytest.raises(
        InstallFailed, match=rf"did not answer at 127\.0\.0\.1:50051, so {first} runs again\. journalctl"
    ):
        board.installer(source=newer).install()
    assert board.installation.current() == first
    assert board.commands[-1] == "systemctl restart boardfit-agent.service"


def test_a_dry_run_does_nothing(root: Path, tmp_path: Path, wheel: Path) -> None:
    board = Board(root, tmp_path / "opt", wheel)
    board.installer(dry_run=True).install()
    assert board.commands == []
    assert not board.options.prefix.exists()
    assert not (root / "etc/systemd/system/boardfit-agent.service").exists()
    said = "\n".join(board.said)
    for part in ("useradd", "-m venv", "pip install", "systemctl restart", "nothing was done"):
        assert part in said


def test_uninstall(board: RootBoard, root: Path) -> None:
    store = root / "var/lib/boardfit"
    store.mkdir(parents=True)
    board.installer().install()
    board.installer().uninstall(purge=False)
    assert not board.options.prefix.exists()
    assert not (root / "etc/systemd/system/boardfit-agent.service").exists()
    assert store.exists()
    assert "systemctl disable --now boardfit-agent.service" in board.commands
    board.installer().uninstall(purge=True)
    assert not store.exists()
    assert board.commands[-1] == "userdel boardfit"


def test_what_is_wanting_is_said_before_anything_is_done(root: Path, tmp_path: Path, wheel: Path) -> None:
    board = Board(root, tmp_path / "opt", wheel)
    shutil.rmtree(root / "run")
    with pytest.raises(InvalidRequest, match=r"needs root.*does not run systemd.*--no-service"):
        board.installer().install()
    old = Installer(board.options, say=board.said.append, run=board.run, here=replace(PI_OS_12, machine="armv6l"))
    with pytest.raises(InvalidRequest, match=r"no runtime has a wheel.*armv6l"):
        old.install()
    (tmp_path / "thing.whl").touch()
    with pytest.raises(InvalidRequest, match=r"'thing\.whl' is not a wheel of Boardfit"):
        board.installer(source=tmp_path / "thing.whl", service=False).install()
    assert board.commands == []
    assert not board.options.prefix.exists()


def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    unit = Unit(
        prefix=tmp_path,
        python=sys.executable,
        serve=("--listen", "127.0.0.1:1"),
        memory_bytes=2**30,
        groups=(),
        has_rapl=True,
    )
    assert unit.memory_max_bytes == int(2**30 * 0.85)
    assert "ExecStartPre=+-/bin/sh" in unit.text()
    assert "DeviceAllow=/dev/vcio rw" in unit.text()
    assert "DevicePolicy" not in replace(unit, is_jetson=True).text()
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    (tmp_path / "launch.py").touch()
    path = tmp_path / "boardfit-agent.service"
    path.write_text(unit.text().replace("User=boardfit", "User=root").replace("Group=boardfit", "Group=root"))
    done = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_wheel_installs_itself_with_nothing_else(wheel: Path, tmp_path: Path) -> None:
    """What the documented line does: a bare Python, the wheel on its path, no package of an index."""
    command = [
        sys.executable,
        "-S",
        "-m",
        "device_agent",
        "install",
        "--dry-run",
        "--no-service",
        "--prefix",
        str(tmp_path / "opt"),
    ]
    done = subprocess.run(
        command,
        env={"PYTHONPATH": str(wheel), "PATH": os.environ["PATH"]},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "make the environment" in done.stdout
    assert "nothing was done" in done.stdout


def test_the_same_sources_give_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    assert pack_agent(tmp_path).read_bytes() == wheel.read_bytes()
    names = zipfile.ZipFile(wheel).namelist()
    assert "profiles/pi4.toml" in names
    assert not [name for name in names if name.startswith("host/")]
    metadata = zipfile.ZipFile(wheel).read(next(name for name in names if name.endswith("/METADATA"))).decode()
    assert 'Requires-Dist: onnxruntime>=1.17; extra == "onnxruntime"' in metadata
    assert environments.version_of(wheel) == zipfile.ZipFile(wheel).namelist()[-1].split("-")[1].removesuffix(".dist")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_as_another_user(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="denied"):
        as_user("nobody", tmp_path, lambda: Path("/etc/shadow").read_text())
    as_user("nobody", tmp_path, lambda: None)
