"""`host devices`, with and without agents."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

GONE = "127.0.0.1:1"


def test_add_list_info_remove(host: Callable[..., Any], agent: Any) -> None:
    added = host("devices", "add", "bench", agent.address, "--json")
    assert added.code == 0, added.err
    info = added.document["info"]
    assert added.document["device"] == {
        "name": "bench",
        "address": agent.address,
        "device_id": info["device_id"],
        "profile": info["profile"],
        "tags": [],
        "tls_name": None,
    }
    assert host("devices", "list", "--json").document["devices"] == [added.document["device"]]
    listed = host("devices", "list", "--check")
    assert listed.code == 0
    assert agent.address in listed.out
    assert "ready" in listed.out
    assert host("devices", "info", "bench", "--json").document["info"] == info
    shown = host("devices", "info", "bench").out
    for fact in (info["cpu"], info["device_id"], "onnxruntime", "sensor"):
        assert fact in shown
    for missing in info["missing_sensors"]:
        assert missing["kind"] in shown, "what is missing is said, and why"
        assert missing["reason"].split()[0] in shown
    removed = host("devices", "remove", "bench")
    assert (removed.code, removed.out) == (0, f"removed bench ({agent.address})\n")
    assert "no devices are registered" in host("devices", "list").out


def test_a_taken_name(host: Callable[..., Any], agent: Any) -> None:
    assert host("devices", "add", "bench", agent.address).code == 0
    again = host("devices", "add", "bench", "127.0.0.1:9")
    assert again.code == 2
    assert "registered already" in again.err
    assert "--force" in again.err
    second = host("devices", "add", "desk", agent.address)
    assert second.code == 2
    assert "registered as 'bench' already" in second.err
    assert "`host devices remove bench`" in second.err
    (only,) = host("devices", "list", "--json").document["devices"]
    assert (only["name"], only["address"]) == ("bench", agent.address)
    assert host("devices", "add", "desk", agent.address, "--force").code == 0


def test_an_agent_that_does_not_answer(host: Callable[..., Any]) -> None:
    refused = host("devices", "add", "gone", GONE)
    assert refused.code == 4
    assert GONE in refused.err
    assert "--force" in refused.err
    assert host("devices", "list", "--json").document["devices"] == []
    forced = host("devices", "add", "gone", GONE, "--force")
    assert forced.code == 0
    checked = host("devices", "list", "--check", "--json")
    assert checked.code == 4
    (entry,) = checked.document["devices"]
    assert entry["profile"] is None
    assert entry["check"]["reachable"] is False
    assert GONE in entry["check"]["error"]
    assert host("devices", "info", "gone").code == 4


def test_one_of_two_answers(host: Callable[..., Any], agent: Any) -> None:
    host("devices", "add", "here", agent.address)
    host("devices", "add", "gone", GONE, "--force")
    checked = host("devices", "list", "--check", "--json")
    assert checked.code == 0
    assert {entry["name"]: entry["check"]["reachable"] for entry in checked.document["devices"]} == {
        "here": True,
        "gone": False,
    }


def test_tags_and_selectors(host: Callable[..., Any]) -> None:
    for name, *tags in (("a", "--tag", "lab-a", "--tag", "rack=3"), ("b", "--tag", "lab-b"), ("c",)):
        assert host("devices", "add", name, GONE, "--force", *tags).code == 0
    listed = host("devices", "list", "tag:lab-a,c", "--json").document["devices"]
    assert [(one["name"], one["tags"]) for one in listed] == [("a", ["lab-a", "rack=3"]), ("c", [])]
    changed = host("devices", "tag", "all,!b", "+lab-h", "-lab-a", "+json")
    assert (changed.code, changed.out) == (0, "a: json lab-h rack=3\nc: json lab-h\n")
    assert host("devices", "tag", "b", "-lab-b", "--json").document["devices"][0]["tags"] == []
    again = host("devices", "add", "a", GONE, "--force", "--json").document["device"]
    assert again["tags"] == ["json", "lab-h", "rack=3"], "a device that is replaced passes its tags on"
    assert "rack=3" in host("devices", "list").out
    for arguments, said in (
        (("list", "tag:nope"), "tags: json, lab-h, rack=3"),
        (("info", "tag:lab-h"), "means 2 devices, and one is needed: a, c"),
        (("tag", "a", "lab-c"), "neither +TAG"),
        (("tag", "a", "+a b"), "cannot be a tag"),
        (("tag", "a"), "Missing argument"),
        (("add", "d", GONE, "--force", "--tag", "-x"), "cannot be a tag"),
    ):
        refused = host("devices", *arguments)
        assert (refused.code, refused.out) == (2, ""), arguments
        assert said in refused.err


def test_wrong_names_and_addresses_are_usage_errors(host: Callable[..., Any]) -> None:
    for arguments, said in (
        (("devices", "info", "nope"), "no device is called 'nope'"),
        (("devices", "remove", "nope"), "no device is called 'nope'"),
        (("devices", "add", "../x", GONE, "--force"), "cannot be the name of a device"),
        (("devices", "add", "local", GONE, "--force"), "always this machine"),
        (("devices", "add", "x", "http://board"), "is not an address"),
        (("devices", "add", "x"), "Missing argument"),
        (("devices", "what"), "No such command"),
        (("what",), "No such command"),
        (("devices", "list", "--what"), "No such option"),
    ):
        ran = host(*arguments)
        assert ran.code == 2, arguments
        assert said in ran.err
        assert ran.out == ""
        assert "Traceback" not in ran.err


def test_a_corrupt_list_is_named(host: Callable[..., Any], folders: Path) -> None:
    path = folders / "config" / "boardfit" / "devices.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    ran = host("devices", "list")
    assert ran.code == 1
    assert str(path) in ran.err
    assert "move it away" in ran.err


def test_a_traceback_only_on_request(host: Callable[..., Any]) -> None:
    assert "Traceback" not in host("devices", "info", "nope").err
    assert "Traceback" in host("--debug", "devices", "info", "nope").err
