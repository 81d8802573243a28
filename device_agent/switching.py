"""Versions of an installed agent side by side, the link that says which one runs, and the way back. Standard library only.

    PREFIX/launch.py               a copy of this file: what the service starts
    PREFIX/versions/NAME           a virtual environment each, never moved
    PREFIX/versions/current        -> NAME, the one that runs; replaced atomically
    PREFIX/versions/previous       -> NAME, the one before
    PREFIX/versions/trial.json     while a new version runs and no host has confirmed it yet
    PREFIX/versions/outcome.json   how the last trial ended

The launcher is a copy so that no version, however broken, can break the way back. It starts a new version once: if that ends, or
is not confirmed in time, or the board loses power, the version before runs again. The decision falls on the board: it holds
when the host, or the network, is gone.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

#: Tells the agent where it is installed; set by the launcher.
VARIABLE = "BOARDFIT_INSTALLATION"
#: With this code an agent asks to be started again, in another version (EX_TEMPFAIL: a failure, so that the service restarts it).
EXIT_FOR_SWITCH = 75
_LOOK_S = 0.2


class Installation:
    """The versions in one folder. OSError by the disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> tuple[str, ...]:
        """Return the names of all versions, whole or not."""
        return tuple(sorted(path.name for path in self.folder.iterdir() if path.is_dir() and not path.is_symlink()))

    def path(self, name: str) -> Path:
        """Return the environment of a version."""
        return self.folder / name

    def python(self, name: str) -> Path:
        """Return the interpreter of a version."""
        return self.path(name) / "bin" / "python"

    def current(self) -> str | None:
        """Return the name of the version that runs, None before the first."""
        return self._target("current")

    def previous(self) -> str | None:
        """Return the name of the version before, None if there was none."""
        return self._target("previous")

    def switch(self, name: str) -> None:
        """Make a version the current one, for the next start."""
        before = self.current()
        if before is not None and before != name:
            self._point("previous", before)
        self._point("current", name)

    def begin_trial(self, name: str, within_s: float) -> None:
        """Make a version the current one on trial: it has to be confirmed within so many seconds of its start."""
        trial = {"from": self.current(), "to": name, "within_s": within_s, "started": False}
        self._write("trial.json", trial)
        self.switch(name)

    def trial(self) -> dict[str, Any] | None:
        """Return the trial under way, None if there is none."""
        return self._read("trial.json")

    def outcome(self) -> dict[str, Any] | None:
        """Return how the last trial ended: `to`, `kept`, `reason`; None if there was none."""
        return self._read("outcome.json")

    def confirm(self, name: str) -> bool:
        """Keep the version on trial; return whether this one was."""
        trial = self.trial()
        if trial is None or trial["to"] != name:
            return False
        self._end(trial, kept=True, reason="confirmed")
        return True

    def go_back(self, trial: dict[str, Any], reason: str) -> None:
        """Make the version before the trial the current one again. May be called anew after a power cut in between."""
        if trial["from"] is not None:
            self.switch(trial["from"])
        self._end(trial, kept=False, reason=reason)

    def mark_started(self, trial: dict[str, Any]) -> None:
        """Note that the version on trial was started: it is not started twice."""
        self._write("trial.json", {**trial, "started": True})

    def _end(self, trial: dict[str, Any], *, kept: bool, reason: str) -> None:
        self._write("outcome.json", {"to": trial["to"], "from": trial["from"], "kept": kept, "reason": reason})
        (self.folder / "trial.json").unlink(missing_ok=True)
        self._sync()

    def _target(self, link: str) -> str | None:
        try:
            return (self.folder / link).readlink().name
        except OSError:
            return None

    def _point(self, link: str, name: str) -> None:
        temporary = self.folder / f".{link}.tmp"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(name)
        temporary.replace(self.folder / link)
        self._sync()

    def _read(self, name: str) -> dict[str, Any] | None:
        try:
            found = json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def _write(self, name: str, document: dict[str, Any]) -> None:
        temporary = self.folder / f".{name}.tmp"
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(document, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.folder / name)
        self._sync()

    def _sync(self) -> None:
        descriptor = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def launch(folder: Path, arguments: Sequence[str]) -> None:
    """Become the current version's `device-agent ARGUMENTS`, after going back from a trial that failed. Does not return.

    SystemExit if there is no version to start.
    """
    installation = Installation(folder)
    trial = installation.trial()
    if trial is not None:
        if installation.current() != trial["to"]:
            installation.go_back(trial, "the board stopped before it was switched to")
        elif trial["started"]:
            installation.go_back(trial, "it ended, or the board did, before it was confirmed")
        else:
            installation.mark_started(trial)
            _watch(installation, trial)
    os.environ[VARIABLE] = str(folder)
    try:
        _become(installation, arguments)
    except OSError as error:
        if trial is None or installation.trial() is None:
            sys.exit(f"boardfit: cannot start the agent in {folder}/current: {error}; install it again")
        installation.go_back(trial, f"it cannot be started: {error}")
        _become(installation, arguments)


def _become(installation: Installation, arguments: Sequence[str]) -> None:
    python = str(installation.python(installation.current() or "none"))
    # Isolated: no folder or variable of whoever starts it may put another Boardfit before the version's own.
    os.execv(python, [python, "-I", "-m", "device_agent", *arguments])


def _watch(installation: Installation, trial: dict[str, Any]) -> None:
    """Leave a process behind that goes back, and ends this one, if the trial is not confirmed in time.

    It is a child of a child, so that the agent, which this process becomes, has no child that it does not know of.
    """
    agent = os.getpid()
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    if os.fork():
        os._exit(0)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    until_s = time.monotonic() + float(trial["within_s"])
    while time.monotonic() < until_s:
        time.sleep(_LOOK_S)
        if installation.trial() is None or not _lives(agent):
            os._exit(0)
    reason = f"no host confirmed it within {trial['within_s']:g} s"
    installation.go_back(trial, reason)
    sys.stderr.write(f"boardfit: going back to {trial['from']} from {trial['to']}: {reason}\n")
    sys.stderr.flush()
    # The service starts again what ends by SIGKILL; what ends by SIGTERM was stopped on purpose.
    os.kill(agent, signal.SIGKILL)
    os._exit(0)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


if __name__ == "__main__":
    launch(Path(__file__).resolve().parent / "versions", sys.argv[1:])
