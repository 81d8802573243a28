"""What selectors mean, and what they say when they mean nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from host.fleet.inventory import Inventory, RegisteredDevice
from host.fleet.selectors import InvalidSelector, InvalidTag, UnknownDevice, only, select


def device(name: str, profile: str | None, *tags: str) -> RegisteredDevice:
    return RegisteredDevice(name=name, address=f"{name}.lab:50051", profile=profile, tags=tags)


FLEET = (
    device("pi4-2", "pi4", "lab-b", "broken"),
    device("pi4-1", "pi4", "lab-a", "rack=3"),
    device("nano", "jetson-nano", "lab-a"),
    device("mystery", None),
)


def names(text: str) -> str:
    return " ".join(device.name for device in select(FLEET, text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all", "mystery nano pi4-1 pi4-2"),
        ("pi4-1", "pi4-1"),
        ("pi4-2,pi4-1,pi4-2", "pi4-1 pi4-2"),
        ("tag:lab-a", "nano pi4-1"),
        ("tag:rack=3", "pi4-1"),
        ("profile:pi4", "pi4-1 pi4-2"),
        ("jetson-nano", "nano"),
        ("profile:pi4,!tag:broken", "pi4-1"),
        ("!tag:broken,profile:pi4", "pi4-1"),
        ("!pi4-1", "mystery nano pi4-2"),
        (" tag:lab-a , mystery , ! nano ", "mystery pi4-1"),
        ("all,!tag:nobody-has-it,!profile:pi5", "mystery nano pi4-1 pi4-2"),
        ("nano,tag:lab-b,!profile:jetson-nano", "pi4-2"),
    ],
)
def test_what_is_meant(text: str, expected: str) -> None:
    assert names(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tag:nobody-has-it", r"means no.*Devices: mystery, nano.*tags: broken, lab-a.*profiles: jetson-nano, pi4\."),
        ("nano,tag:typo", "'tag:typo' means no"),
        ("profile:pi5", "'profile:pi5' means no"),
        ("pi4-1,!tag:lab-a", "excludes every device"),
        ("pi9", r"no device is called 'pi9' \(registered: mystery, nano, pi4-1, pi4-2\).*host devices add pi9"),
        ("all,!pi9", "no device is called 'pi9'"),
        ("pi4", r"2 devices have this profile: pi4-1, pi4-2\. Name one, or write profile:pi4"),
    ],
)  # fmt: skip
def test_nothing_is_meant(text: str, said: str) -> None:
    with pytest.raises(UnknownDevice, match=said):
        select(FLEET, text)


@pytest.mark.parametrize(
    "text", ["", " ", ",", "pi4-1,", "!", "a,! ,b", "label:x", "tags:lab-a", "local", "all,!local"]
)
def test_no_selector(text: str) -> None:
    with pytest.raises(InvalidSelector):
        select(FLEET, text)


@pytest.mark.parametrize("tag", ["", "-a", "a b", "a,b", "!a", "a:b", "a+b", "x" * 64, "é"])
def test_no_tag(tag: str) -> None:
    with pytest.raises(InvalidTag):
        device("a", None, tag)
    with pytest.raises(InvalidTag):
        select(FLEET, f"tag:{tag.replace(',', ';')}")


def test_an_empty_fleet_says_how_to_add() -> None:
    with pytest.raises(UnknownDevice, match=r"no devices are registered\. Add one with `host devices add"):
        select((), "all")


def test_one_is_needed() -> None:
    assert only(FLEET, "profile:pi4,!tag:broken").name == "pi4-1"
    with pytest.raises(UnknownDevice, match=r"'tag:lab-a' means 2 devices, and one is needed: nano, pi4-1\. Name one"):
        only(FLEET, "tag:lab-a")


def test_a_long_list_is_cut() -> None:
    many = [device(f"b{n:02}", "pi4") for n in range(40)]
    with pytest.raises(UnknownDevice, match=r"means 40 devices.*b11 and 28 more\."):
        only(many, "profile:pi4")


def test_tags_are_kept_and_changed(tmp_path: Path) -> None:
    inventory = Inventory(tmp_path / "devices.json")
    for one in FLEET:
        inventory.add(one)
    assert Inventory(inventory.path).devices() == tuple(sorted(FLEET, key=lambda each: each.name))
    changed = inventory.retag(["nano", "gone", "mystery"], add=["new"], remove=["lab-a"])
    assert [(each.name, each.tags) for each in changed] == [("nano", ("new",)), ("mystery", ("new",))]
    assert [each.name for each in inventory.select("tag:new")] == ["mystery", "nano"]
    with pytest.raises(InvalidTag):
        inventory.retag(["nano"], add=["a b"])
