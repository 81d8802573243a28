"""Which version runs, and the way back: the launcher with made-up versions, started again as a service does."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from device_agent import switching
from device_agent.switching import Installation

RUNS = "echo $$ > {folder}/running-{name}; exec sleep 300"
CRASHES = "touch {folder}/crashed; exit 3"


class Versions:
    """An installation whose interpreters are shell scripts."""

    def __init__(self, prefix: Path) -> None:
        self.folder = prefix / "versions"
        self.folder.mkdir()
        self.launcher = prefix / "launch.py"
        self.launcher.write_bytes(Path(switching.__file__).read_bytes())
        self.installation = Installation(self.folder)
        self.processes: list[subprocess.Popen[bytes]] = []

    def add(self, name: str, script: str) -> None:
        python = self.installation.python(name)
        python.parent.mkdir(parents=True)
        python.write_text(f"#!/bin/sh\n{script.format(folder=self.folder, name=name)}\n")
        python.chmod(0o755)

    def start(self) -> subprocess.Popen[bytes]:
        self.processes.append(subprocess.Popen([sys.executable, "-I", "-S", str(self.launcher), "serve"]))
        return self.processes[-1]

    def runs(self, name: str) -> None:
        """Wait until a version runs in the process that was started last, and forget that it did."""
        file = self.folder / f"running-{name}"
        until(lambda: file.exists() and file.read_text().strip() == str(self.processes[-1].pid))
        file.unlink()

    @property
    def state(self) -> tuple[str | None, Any, Any]:
        outcome = self.installation.outcome()
        return self.installation.current(), self.installation.trial(), outcome and (outcome["kept"], outcome["reason"])


def until(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come about")


@pytest.fixture
def versions(tmp_path: Path) -> Any:
    made = Versions(tmp_path)
    made.add("old", RUNS)
    made.installation.switch("old")
    yield made
    for process in made.processes:
        process.kill()
        process.wait()


def test_the_launcher_becomes_the_version(versions: Versions) -> None:
    versions.start()
    versions.runs("old")
    assert versions.state == ("old", None, None)


def test_a_confirmed_version_stays(versions: Versions) -> None:
    versions.add("new", RUNS)
    versions.installation.begin_trial("new", 300)
    process = versions.start()
    versions.runs("new")
    assert not versions.installation.confirm("other")
    assert versions.installation.confirm("new")
    assert versions.state == ("new", None, (True, "confirmed"))
    assert versions.installation.previous() == "old"
    process.kill()
    process.wait()
    versions.start()
    versions.runs("new")


def test_a_version_that_nobody_confirms_is_left(versions: Versions) -> None:
    """The host may have vanished: the board goes back on its own."""
    versions.add("new", RUNS)
    versions.installation.begin_trial("new", 0.5)
    process = versions.start()
    assert process.wait(30) == -signal.SIGKILL, "a service starts again what ends by SIGKILL"
    assert versions.state == ("old", None, (False, "no host confirmed it within 0.5 s"))
    versions.start()
    versions.runs("old")


def test_a_version_that_ends_is_not_started_twice(versions: Versions) -> None:
    versions.add("new", CRASHES)
    versions.installation.begin_trial("new", 300)
    assert versions.start().wait(30) == 3
    assert (versions.folder / "crashed").exists()
    (versions.folder / "crashed").unlink()
    versions.start()
    versions.runs("old")
    assert versions.state == ("old", None, (False, "it ended, or the board did, before it was confirmed"))
    assert not (versions.folder / "crashed").exists()


def test_a_version_that_cannot_be_started(versions: Versions) -> None:
    versions.installation.begin_trial("nothing-there", 300)
    versions.start()
    versions.runs("old")
    current, trial, outcome = versions.state
    assert (current, trial) == ("old", None)
    assert "cannot be started" in outcome[1]


def test_no_version_at_all(versions: Versions, capfd: pytest.CaptureFixture[str]) -> None:
    versions.installation.switch("gone")
    assert versions.start().wait(30) == 1
    assert "install it again" in capfd.readouterr().err


def test_a_power_cut_before_the_switch(versions: Versions, monkeypatch: pytest.MonkeyPatch) -> None:
    versions.add("new", RUNS)
    with monkeypatch.context() as patch:
        patch.setattr(versions.installation, "switch", lambda _: None)
        versions.installation.begin_trial("new", 300)
    versions.start()
    versions.runs("old")
    assert versions.state == ("old", None, (False, "the board stopped before it was switched to"))


def test_a_power_cut_on_the_way_back(versions: Versions, monkeypatch: pytest.MonkeyPatch) -> None:
    versions.add("new", RUNS)
    versions.installation.begin_trial("new", 300)
    trial = versions.installation.trial()
    assert trial is not None
    versions.installation.mark_started(trial)
    with monkeypatch.context() as patch:
        patch.setattr(versions.installation, "_end", lambda *_, **__: None)
        versions.installation.go_back(trial, "a reason")
    versions.start()
    versions.runs("old")
    assert (versions.installation.current(), versions.installation.trial()) == ("old", None)


def test_a_torn_trial_is_none(versions: Versions) -> None:
    (versions.folder / "trial.json").write_text(json.dumps({"from": "old"})[:8])
    assert versions.installation.trial() is None
    (versions.folder / ".current.tmp").symlink_to("new")
    versions.installation.switch("old")
    assert versions.installation.names() == ("old",)
