"""The list of registered devices: names, profiles, bad files, and writers at the same time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from host.fleet.inventory import (
    InvalidDeviceName,
    Inventory,
    InventoryCorrupt,
    RegisteredDevice,
    UnknownDevice,
)


@pytest.fixture
def inventory(tmp_path: Path) -> Inventory:
    return Inventory(tmp_path / "config" / "devices.json")


def device(name: str, **facts: str) -> RegisteredDevice:
    return RegisteredDevice(name=name, address=f"{name}.lab:50051", **facts)


def test_an_absent_file_is_an_empty_list(inventory: Inventory) -> None:
    assert inventory.devices() == ()
    with pytest.raises(UnknownDevice, match=r"no device is called 'pi4' \(registered: none\).*host devices add pi4"):
        inventory.get("pi4")


def test_devices_come_back_in_order(inventory: Inventory) -> None:
    bench, attic = device("bench", device_id="1", profile="pi4"), device("attic")
    inventory.add(bench)
    inventory.add(attic)
    assert inventory.devices() == (attic, bench)
    assert inventory.remove("attic") == attic
    assert Inventory(inventory.path).devices() == (bench,)
    with pytest.raises(UnknownDevice, match="registered: bench"):
        inventory.remove("attic")


def test_a_taken_name_stays_unless_replaced(inventory: Inventory) -> None:
    inventory.add(device("bench"))
    other = RegisteredDevice(name="bench", address="10.0.0.9:50051")
    with pytest.raises(InvalidDeviceName, match=r"at bench\.lab:50051.*--force"):
        inventory.add(other)
    assert inventory.get("bench") == device("bench")
    inventory.add(other, replace=True)
    assert inventory.get("bench") == other


def test_a_profile_names_its_only_device(inventory: Inventory) -> None:
    inventory.add(device("one", profile="pi4"))
    assert inventory.get("pi4").name == "one"
    inventory.add(device("two", profile="pi4"))
    with pytest.raises(UnknownDevice, match=r"2 devices have this profile: one, two"):
        inventory.get("pi4")
    inventory.add(device("pi4", profile="pi5"))
    assert inventory.get("pi4").name == "pi4"


@pytest.mark.parametrize("name", ["", "local", "../x", "a/b", "-x", ".x", "a b", "é", "x" * 64, "a\n"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidDeviceName, match="cannot be the name of a device"):
        device(name)


@pytest.mark.parametrize(
    "text",
    [
        "{not json",
        "[]",
        "{}",
        '{"schema": 1}',
        '{"schema": 1, "devices": []}',
        '{"schema": 1, "devices": {"a": {}}}',
        '{"schema": 1, "devices": {"a": {"address": 5}}}',
        '{"schema": 1, "devices": {"a/b": {"address": "x:1"}}}',
        '{"schema": "1", "devices": {}}',
        "\udcff",
    ],
)
def test_a_corrupt_file_is_named_and_left_alone(inventory: Inventory, text: str) -> None:
    inventory.path.parent.mkdir()
    inventory.path.write_bytes(text.encode(errors="surrogateescape"))
    before = inventory.path.read_bytes()
    with pytest.raises(InventoryCorrupt, match=r"devices\.json"):
        inventory.devices()
    with pytest.raises(InventoryCorrupt):
        inventory.add(device("new"))
    assert inventory.path.read_bytes() == before


def test_a_newer_file_asks_for_an_upgrade(inventory: Inventory) -> None:
    inventory.path.parent.mkdir()
    inventory.path.write_text(json.dumps({"schema": 2, "devices": {}}))
    with pytest.raises(InventoryCorrupt, match="newer boardfit"):
        inventory.devices()


def test_writers_at_the_same_time_lose_nothing(inventory: Inventory) -> None:
    script = (
        "import sys; from pathlib import Path; from host.fleet.inventory import Inventory, RegisteredDevice\n"
        "for n in range(10): Inventory(Path(sys.argv[1])).add("
        "RegisteredDevice(name=f'{sys.argv[2]}{n}', address='h:1'))"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script, str(inventory.path), name]) for name in ("a", "b", "c")]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert len(inventory.devices()) == 30
    assert sorted(path.name for path in inventory.path.parent.iterdir()) == ["devices.json", "devices.lock"]
