"""Many devices at once: asked in parallel, registered in one write, from a list in a file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.fake_agents import FakeAgents
from device_agent.contract.errors import DeviceUnreachable, InvalidRequest
from host.cli.entry import run
from host.fleet.bulk import add_all, ask_all, read_list
from host.fleet.inventory import InvalidDeviceName, Inventory, RegisteredDevice

GONE = RegisteredDevice(name="gone", address="127.0.0.1:1")


@pytest.fixture(scope="module")
def agents() -> Iterator[FakeAgents]:
    """Twelve agents without boards."""
    with FakeAgents(12) as running:
        yield running


@pytest.fixture
def inventory(tmp_path: Path) -> Inventory:
    """An empty list of devices."""
    return Inventory(tmp_path / "devices.json")


def rack(agents: FakeAgents) -> list[RegisteredDevice]:
    """The agents under names, the first with a tag."""
    named = [RegisteredDevice(name=f"board-{place:02}", address=each) for place, each in enumerate(agents.addresses)]
    return [RegisteredDevice(name="board-00", address=agents.addresses[0], tags=("lab-a",)), *named[1:]]


def test_all_are_asked_and_kept(agents: FakeAgents, inventory: Inventory) -> None:
    answers = add_all(inventory, [*rack(agents), GONE])
    assert [answer.info for answer in answers[:-1]] == agents.devices, "in the order of the list"
    assert isinstance(answers[-1].said, DeviceUnreachable)
    kept = inventory.devices()
    assert [(one.name, one.device_id, one.profile) for one in kept] == [
        (f"board-{place:02}", info.device_id, info.profile) for place, info in enumerate(agents.devices)
    ], "the one that did not answer is left out"
    again = [RegisteredDevice(name="board-00", address=agents.addresses[0]), GONE]
    add_all(inventory, again, force=True)
    assert inventory.get("board-00").tags == ("lab-a",), "what was known keeps its tags"
    assert inventory.get("gone").profile is None
    assert ask_all([]) == ()


def test_a_taken_name_at_another_address(agents: FakeAgents, inventory: Inventory) -> None:
    inventory.add(RegisteredDevice(name="board-03", address="127.0.0.1:2"))
    with pytest.raises(InvalidDeviceName, match=r"board-03 \(at 127\.0\.0\.1:2"):
        add_all(inventory, rack(agents))
    assert len(inventory.devices()) == 1
    add_all(inventory, rack(agents), force=True)
    assert inventory.get("board-03").address == agents.addresses[3]


def test_one_board_under_two_names(agents: FakeAgents, inventory: Inventory) -> None:
    twice = [*rack(agents), RegisteredDevice(name="twin", address=agents.addresses[5])]
    with pytest.raises(InvalidDeviceName, match=r"board-05 .* and twin .* are the same board \(device id fake-0005\)"):
        add_all(inventory, twice)
    assert inventory.devices() == ()


def test_a_board_that_is_registered_under_another_name(agents: FakeAgents, inventory: Inventory) -> None:
    first, other = rack(agents)[:2]
    add_all(inventory, [first])
    renamed = RegisteredDevice(name="pi4-1", address=first.address)
    answers = add_all(inventory, [renamed, other])
    assert isinstance(answers[0].said, InvalidDeviceName)
    assert "registered as 'board-00' already" in str(answers[0].said)
    assert [one.name for one in inventory.devices()] == ["board-00", "board-01"]
    add_all(inventory, [renamed], force=True)
    assert inventory.get("pi4-1").device_id == inventory.get("board-00").device_id


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "first line must name the columns"),
        ("name,adress\na,10.0.0.1\n", "first line must name the columns"),
        ("name,address\n", "no devices"),
        ("name,address\na,10.0.0.1\nb\n", "line 3: a line has as many fields"),
        ("name,address\na,10.0.0.1,lab\n", "line 2: a line has as many fields"),
        ("name,address\na,10.0.0.1\na,10.0.0.2\n", "line 3: 'a' stands in the file twice"),
        ("name,address\na,10.0.0.1:http\n", "line 2: '10.0.0.1:http' is not an address"),
    ],
)
def test_lists_that_are_none(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "rack.csv"
    path.write_text(text)
    with pytest.raises(InvalidRequest, match=said):
        read_list(path)


def test_import_on_the_command_line(
    agents: FakeAgents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    path = tmp_path / "rack.csv"
    lines = [f"board-{place:02}, {address}, lab-a  rack=3" for place, address in enumerate(agents.addresses)]
    path.write_text("\n".join(["name, address, tags", *lines]))
    assert run(["devices", "import", str(path)]) == 0
    assert capsys.readouterr().out == "added 12 of 12 devices\n"
    with path.open("a") as file:
        file.write(f"\n{GONE.name},{GONE.address},\n")
    assert run(["devices", "import", str(path), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["devices"][0] == {
        "name": "board-00",
        "address": agents.addresses[0],
        "device_id": "fake-0000",
        "profile": "pi4",
        "tags": ["lab-a", "rack=3"],
        "tls_name": None,
    }
    (left,) = document["left_out"]
    assert left["device"]["name"] == "gone"
    assert GONE.address in left["error"]
