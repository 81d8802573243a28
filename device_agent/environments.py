"""Makes the virtual environment of a version of the agent: from a package index, or from the environment that runs now.

A version is made beside the others and is complete, or not there: what fails leaves nothing behind.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from device_agent.contract.errors import BoardfitError, InvalidRequest, StableError
from device_agent.switching import Installation
from device_agent.wheels import PACKAGES, Platform

#: Runs a command; raises CommandFailed.
Run = Callable[[Sequence[str]], None]

WHEEL_NAME = re.compile(r"boardfit-(?P<version>[A-Za-z0-9.+!]+)(-[0-9][^-]*)?-py3-none-any\.whl")
#: Nothing is compiled on a board: that takes an hour where it works at all. Boardfit itself has nothing to compile.
_ONLY_BINARY = (
    "grpcio",
    "protobuf",
    "numpy",
    "psutil",
    "cryptography",
    "zeroconf",
    *(need.partition(">=")[0] for need in PACKAGES.values()),
)
_LAST_LINES = 4
#: What a wheel of Boardfit puts among the packages.
_OWN = ("device_agent", "profiles", "host", "boardfit-*.dist-info")


class CommandFailed(StableError):
    """A command of the installation failed; the message has its last words."""


def run(command: Sequence[str]) -> None:
    """Run a command quietly; its paths must be absolute. Raises CommandFailed."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", env=_environment(), check=False
        )
    except OSError as error:
        raise CommandFailed(f"{command[0]} cannot be run: {error.strerror}") from error
    if done.returncode:
        words = " / ".join((done.stderr or done.stdout).strip().splitlines()[-_LAST_LINES:])
        raise CommandFailed(f"`{' '.join(command)}` ended with status {done.returncode}: {words or 'without a word'}")


def _environment() -> dict[str, str]:
    """Return the environment without what would lead a version's Python to the packages of another."""
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    return {**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONNOUSERSITE": "1"}


def version_of(wheel: Path) -> str:
    """Return the version in a wheel's name. InvalidRequest if it is no wheel of Boardfit."""
    match = WHEEL_NAME.fullmatch(wheel.name)
    if match is None:
        raise InvalidRequest(f"{wheel.name!r} is not a wheel of Boardfit, such as boardfit-0.1.0-py3-none-any.whl")
    return match["version"]


def name_of(wheel: Path) -> str:
    """Return the name of the environment for a wheel: its version and the beginning of its hash."""
    return f"{version_of(wheel)}-{hashlib.sha256(wheel.read_bytes()).hexdigest()[:8]}"


def is_complete(installation: Installation, name: str) -> bool:
    """Say whether the environment was made to its end."""
    return _mark(installation, name).exists()


def make_commands(installation: Installation, name: str, source: str, here: Platform, python: str) -> list[list[str]]:
    """Return the commands that make an environment from a package index; `source` is pip's requirement."""
    folder = str(installation.path(name))
    # On 32-bit Arm numpy and psutil come from the distribution.
    shared = ["--system-site-packages"] if here.is_32_bit_arm else []
    inside = str(installation.python(name))
    only = ",".join(_ONLY_BINARY)
    return [
        [python, "-m", "venv", *shared, folder],
        [inside, "-m", "pip", "install", "--quiet", f"--only-binary={only}", source],
    ]


def make(installation: Installation, name: str, commands: Sequence[Sequence[str]], run: Run = run) -> None:
    """Run the commands that make an environment, prove it, and mark it complete. CommandFailed leaves nothing of it."""
    _clear(installation, name)
    try:
        for command in commands:
            run(command)
        prove(installation, name, run)
        _mark(installation, name).touch()
    except BaseException:
        _clear(installation, name)
        raise


def clone(installation: Installation, name: str, wheel: Path, run: Run = run) -> None:
    """Make the environment of a wheel from the current one: its packages, linked, with this Boardfit in place of its own.

    Nothing is downloaded unless the new version needs what the current one lacks. Raises CommandFailed.
    """
    current = installation.current()
    if current is None:
        raise InvalidRequest(f"no version is current in {installation.folder}; install one first")
    _clear(installation, name)
    try:
        inside = str(installation.python(name))
        shared = "true" in _setting(installation.path(current) / "pyvenv.cfg", "include-system-site-packages")
        base = [str(installation.python(current)), "-m", "venv", "--without-pip"]
        run([*base, *(["--system-site-packages"] if shared else []), str(installation.path(name))])
        _link_packages(installation.path(current), installation.path(name))
        try:
            run([inside, "-m", "pip", "install", "--quiet", "--no-index", str(wheel)])
        except CommandFailed:
            # It needs a package that is not here, or a newer one.
            run([inside, "-m", "pip", "install", "--quiet", f"--only-binary={','.join(_ONLY_BINARY)}", str(wheel)])
        prove(installation, name, run)
        _mark(installation, name).touch()
    except BaseException:
        _clear(installation, name)
        raise


def prove(installation: Installation, name: str, run: Run = run) -> None:
    """Let an environment describe the device: its packages load, and its worker starts. Raises CommandFailed."""
    with tempfile.TemporaryDirectory(prefix="boardfit-prove-") as folder:
        run([str(installation.python(name)), "-m", "device_agent", "info", "--json", "--store", folder])


def remove_others(installation: Installation, keep: Collection[str | None]) -> tuple[str, ...]:
    """Remove all versions but these; return their names."""
    gone = tuple(name for name in installation.names() if name not in keep)
    for name in gone:
        _clear(installation, name)
    return gone


def base_python() -> str:
    """Return the system's interpreter, also from within a virtual environment."""
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def _link_packages(source: Path, target: Path) -> None:
    """Fill an environment with another's packages but Boardfit, as hard links: pip replaces files and never writes into one."""
    for packages in sorted(source.glob("lib/python3.*/site-packages")):
        into = target / packages.relative_to(source)

        def link(one: str, other: str) -> str:
            os.link(one, other)
            return other

        ignore = shutil.ignore_patterns("__pycache__", *_OWN)
        shutil.copytree(packages, into, copy_function=link, dirs_exist_ok=True, symlinks=True, ignore=ignore)


def _setting(file: Path, key: str) -> str:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise BoardfitError(f"{file} cannot be read: {error.strerror}; install this agent again") from error
    return next(
        (value.strip() for name, _, value in (line.partition("=") for line in lines) if name.strip() == key), ""
    )


def _mark(installation: Installation, name: str) -> Path:
    return installation.path(name) / "complete"


def _clear(installation: Installation, name: str) -> None:
    path = installation.path(name)
    (path / "complete").unlink(missing_ok=True)
    shutil.rmtree(path, ignore_errors=True)
