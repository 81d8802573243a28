"""Upgrades of a real agent on loopback: kept, refused, and undone by the board itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from installed_agent import Service, install, wheel_of

from device_agent.codec import upgrading
from device_agent.contract.errors import AgentTooOld, InvalidRequest, TransientError, UpgradeFailed
from device_agent.environments import name_of
from device_agent.switching import Installation
from host.fleet.inventory import RegisteredDevice
from host.fleet.upgrade import Outcome, UpgradeClient, upgrade_device

#: The command of a version that ends at once, but describes the device when it is asked to.
CRASHES = """
import sys
from device_agent.real_cli import main as real
def main():
    return 3 if 'serve' in sys.argv else real()
"""


@dataclass
class Board:
    installation: Installation
    service: Service
    first: Path

    @property
    def device(self) -> RegisteredDevice:
        return RegisteredDevice(name="board", address=self.service.address)

    def version(self) -> str:
        """Return the version that answers, when one does."""
        for _ in range(600):
            with UpgradeClient(self.service.address) as client:
                assert isinstance(client, UpgradeClient)
                try:
                    return client.version()[0]
                except TransientError:
                    time.sleep(0.1)
        raise AssertionError(self.service.log.read_text())


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    first = wheel_of(tmp_path / "first", "1.0.0")
    service = None
    try:
        installation = install(tmp_path / "opt", first)
        service = Service(tmp_path / "opt")
        yield Board(installation, service, first)
    finally:
        if service is not None:
            service.stop()


def broken(folder: Path, version: str, text: str) -> Path:
    real = (Path(__file__).parents[3] / "device_agent" / "cli.py").read_text()
    return wheel_of(folder, version, replaced={"device_agent/cli.py": text, "device_agent/real_cli.py": real})


def test_a_good_version_stays_and_bad_ones_go(board: Board, tmp_path: Path) -> None:
    assert board.version() == "1.0.0"
    first = board.installation.current()

    crashing = broken(tmp_path / "b", "3.0.0", CRASHES)
    report = upgrade_device(board.device, crashing)
    assert (report.before, report.after, report.outcome) == ("1.0.0", "1.0.0", Outcome.FAILED)
    assert isinstance(report.error, UpgradeFailed)
    assert "ended, or the board did, before it was confirmed" in str(report.error)
    assert board.version() == "1.0.0"

    good = wheel_of(tmp_path / "d", "4.0.0")
    report = upgrade_device(board.device, good)
    assert (report.before, report.after, report.outcome) == ("1.0.0", "4.0.0", Outcome.UPGRADED), report.error
    assert board.installation.current() == name_of(good)
    assert board.installation.previous() == first
    assert board.installation.trial() is None
    with UpgradeClient(board.service.address) as client:
        assert isinstance(client, UpgradeClient)
        client.confirm(name_of(good))  # an answer may have been lost with the link
        with pytest.raises(UpgradeFailed, match=r"3\.0\.0.* does not run here.*: it was not tried"):
            client.confirm(name_of(crashing))
        with pytest.raises(InvalidRequest, match="not a wheel of Boardfit"):
            client.install(upgrading.InstallOrder(file_name="../boardfit.whl", wheel=b"x", confirm_within_s=2.0))
    starts = board.service.starts
    again = upgrade_device(board.device, good)
    assert (again.outcome, again.after) == (Outcome.CURRENT, "4.0.0")
    assert board.service.starts == starts


def test_an_agent_that_was_not_installed_says_so(agent, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    report = upgrade_device(RegisteredDevice(name="board", address=agent.address), wheel_of(tmp_path, "2.0.0"))
    assert isinstance(report.error, AgentTooOld)
    assert "host devices install USER@BOARD" in str(report.error)


def test_an_agent_that_is_gone(tmp_path: Path) -> None:
    report = upgrade_device(RegisteredDevice(name="gone", address="127.0.0.1:1"), wheel_of(tmp_path, "2.0.0"))
    assert (report.outcome, report.before) == (Outcome.FAILED, None)
    assert "127.0.0.1:1" in str(report.error)
