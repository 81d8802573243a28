"""Installs this host's agent on a board over ssh: the wheel travels, then the board runs `device-agent install` out of it.

The board needs an account that may use sudo, and Python 3.10; nothing of Boardfit has to be there.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from device_agent.contract.errors import DeviceUnreachable, InvalidRequest, StableError

#: With this status ssh itself fails; every other one is the command's.
_SSH_FAILED = 255
_FOLDER = re.compile(r"/[A-Za-z0-9/._-]+")
_SAID = 300


class InstallOverSshFailed(StableError):
    """The board could not be reached, or the installation there failed; the message says which."""


def install_over_ssh(
    target: str,
    wheel: Path,
    arguments: Sequence[str] = (),
    *,
    python: str = "python3",
    ssh: Sequence[str] = ("ssh",),
    terminal: bool = False,
    quiet: bool = False,
) -> None:
    """Copy the wheel to TARGET (USER@BOARD) and run `device-agent install ARGUMENTS` there, as root.

    `terminal` lets sudo ask for a password. `quiet` sends what the board says to stderr. Raises DeviceUnreachable if ssh fails,
    InstallOverSshFailed if a command on the board does.
    """
    if not target or target.startswith("-") or any(letter.isspace() for letter in target):
        raise InvalidRequest(f"{target!r} is not a target of ssh, such as pi@192.168.1.20")
    folder = _copy(target, wheel, ssh)
    path = shlex.quote(f"{folder}/{wheel.name}")
    # Python looks for modules in the folder where it is started, so that is the root.
    install = f"env PYTHONPATH={path} {shlex.quote(python)} -m device_agent install {shlex.join(arguments)}"
    root = f'if [ "$(id -u)" = 0 ]; then {install}; else sudo {install}; fi'
    script = f"cd /; {root}; status=$?; rm -rf {shlex.quote(folder)}; exit $status"
    command = [*ssh, *(["-t"] if terminal else []), target, script]
    status = subprocess.run(command, stdout=2 if quiet else None, check=False).returncode
    if status == _SSH_FAILED:
        raise DeviceUnreachable(f"the connection to {target} broke during the installation; run the command again")
    if status:
        raise InstallOverSshFailed(f"the installation on {target} ended with status {status}; its last lines say why")


def _copy(target: str, wheel: Path, ssh: Sequence[str]) -> str:
    """Put the wheel into a new folder on the board and return that."""
    name = shlex.quote(wheel.name)
    script = f'umask 022 && folder=$(mktemp -d) && chmod 755 "$folder" && cat > "$folder"/{name} && echo "$folder"'
    try:
        with wheel.open("rb") as file:
            done = subprocess.run([*ssh, target, script], stdin=file, capture_output=True, text=True, check=False)
    except OSError as error:
        raise InstallOverSshFailed(f"{ssh[0]} cannot be run: {error.strerror}") from error
    words = " ".join(done.stderr.split())[-_SAID:] or "no message"
    if done.returncode == _SSH_FAILED:
        raise DeviceUnreachable(f"ssh cannot reach {target}: {words}. Does `ssh {target}` work?")
    folder = done.stdout.strip().rpartition("\n")[2]  # a shell's greeting may come before
    if done.returncode or not _FOLDER.fullmatch(folder):
        raise InstallOverSshFailed(f"the wheel could not be copied to {target}: {words}")
    return folder
