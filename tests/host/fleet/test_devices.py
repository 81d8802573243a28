"""From `--device NAME` to a connected device, and the agent on loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from device_agent.contract.errors import DeviceUnreachable
from host.fleet import local
from host.fleet.client import AgentClient
from host.fleet.devices import DeviceReplaced, open_device
from host.fleet.inventory import Inventory, RegisteredDevice, UnknownDevice


@pytest.fixture
def inventory(tmp_path: Path) -> Inventory:
    return Inventory(tmp_path / "devices.json")


def test_a_registered_name_and_a_profile(agent: Any, inventory: Inventory) -> None:
    with AgentClient(agent.address) as client:
        device_id = client.describe().device_id
    inventory.add(RegisteredDevice(name="bench", address=agent.address, device_id=device_id, profile="some-board"))
    for name in ("bench", "some-board"):
        with open_device(name, inventory=inventory) as device:
            assert device.name == "bench"
            assert device.info.device_id == device_id
            assert device.client.list_artifacts() == ()


def test_an_unknown_name_and_a_silent_address(inventory: Inventory) -> None:
    with pytest.raises(UnknownDevice, match="host devices add"), open_device("nope", inventory=inventory):
        pass
    inventory.add(RegisteredDevice(name="gone", address="127.0.0.1:1"))
    with pytest.raises(DeviceUnreachable, match=r"127\.0\.0\.1:1"), open_device("gone", inventory=inventory):
        pass


def test_another_board_at_the_address_is_noticed(agent: Any, inventory: Inventory) -> None:
    inventory.add(RegisteredDevice(name="bench", address=agent.address, device_id="of the board before"))
    replaced = pytest.raises(DeviceReplaced, match=r"not the device registered as 'bench'.*--force")
    with replaced, open_device("bench", inventory=inventory):
        pass


def agents_below(root: Path) -> list[psutil.Process]:
    return [process for process in psutil.process_iter() if _mentions(process, str(root))]


def _mentions(process: psutil.Process, text: str) -> bool:
    try:
        return any(text in word for word in process.cmdline()) and process.pid != os.getpid()
    except psutil.Error:
        return False


def test_the_local_agent_lives_as_long_as_its_block(tmp_path: Path) -> None:
    with local.local_agent(tmp_path) as address, AgentClient(address) as client:
        first = client.describe()
        assert len(agents_below(tmp_path)) == 1
    assert agents_below(tmp_path) == []
    with local.local_agent(tmp_path) as address, AgentClient(address) as client:
        assert client.describe().device_id == first.device_id


def test_two_local_agents_at_once_have_stores_of_their_own(tmp_path: Path) -> None:
    with local.local_agent(tmp_path) as one, local.local_agent(tmp_path) as two:
        assert one != two
        with AgentClient(one) as first, AgentClient(two) as second:
            assert first.describe().device_id != second.describe().device_id
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "2"]


def test_an_error_in_the_block_stops_the_agent(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), local.local_agent(tmp_path):
        raise KeyboardInterrupt
    assert agents_below(tmp_path) == []


def test_no_agent_outlives_a_host_that_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from host.fleet.local import local_agent\n"
        "with local_agent(Path(sys.argv[1])) as address:\n"
        "    print(address, flush=True)\n"
        "    time.sleep(300)\n"
    )
    host = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert host.stdout is not None
    assert host.stdout.readline().startswith("127.0.0.1:")
    assert len(agents_below(tmp_path)) == 2  # the host and its agent
    host.send_signal(signal.SIGKILL)
    host.wait()
    for _ in range(200):
        if not agents_below(tmp_path):
            break
        time.sleep(0.1)
    assert agents_below(tmp_path) == []
    with local.local_agent(tmp_path):
        assert sorted(path.name for path in tmp_path.iterdir()) == ["1"]


def test_an_agent_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "store").write_text("a file where the store's folder should be")
    said = r"status \d+ before it listened: .*store.*agent\.log"
    with pytest.raises(local.LocalAgentFailed, match=said), local.local_agent(tmp_path):
        pass
