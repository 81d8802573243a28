"""`--wait`, and `host devices who|release`, against an agent without a board."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from running_agent import wait_until

from benchmarks.fake_agent import Behaviour
from benchmarks.fake_agents import FakeAgents
from device_agent.contract.errors import LeaseLost
from host.cli.errors import ExitCode
from host.fleet.client import AgentClient

QUICK = ("--min-runs", "5", "--min-time", "0", "--max-time", "1", "--no-store")


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with FakeAgents(1, Behaviour(seconds=0.01)) as agents:
        yield agents.addresses[0]


@pytest.fixture
def ann(address: str, host: Callable[..., Any]) -> Iterator[AgentClient]:
    """A client of somebody else's, at a device that is registered here as `board`."""
    assert host("devices", "add", "board", address).code == 0
    with AgentClient(address) as client:
        yield client


def test_a_busy_device_is_named_with_its_holder_and_the_way_to_wait(
    ann: AgentClient, host: Callable[..., Any], model: Path
) -> None:
    with ann.lease("ann@desk (process 7)", "nightly sweep"):
        ran = host("bench", str(model), "--device", "board", *QUICK)
        assert ran.code == ExitCode.FAILED
        assert "leased to 'ann@desk (process 7)' for 'nightly sweep'" in ran.err
        assert "s remaining unless renewed" in ran.err
        assert "--wait 10min" in ran.err
        ran = host("load", str(model), "--device", "board", "--wait", "0.1s", "--no-store")
        assert ran.code == ExitCode.FAILED
        assert "waiting: place 1 of 1 in the queue; the device is ann@desk (process 7)'s for nightly sweep" in ran.err
        assert "did not become free within 0 s" in ran.err
        assert host("bench", str(model), "--device", "board", "--wait", "soon").code == ExitCode.USAGE


def test_bench_waits_for_its_turn_and_gives_the_device_back(
    ann: AgentClient, host: Callable[..., Any], model: Path
) -> None:
    with ann.lease("ann", "nightly sweep"):
        held = True

        def leave_when_somebody_waits() -> None:
            nonlocal held
            wait_until(lambda: bool(ann.use().waiting), "the command waits")
            ann.end_use()
            held = False

        thread = threading.Thread(target=leave_when_somebody_waits)
        thread.start()
        ran = host("bench", str(model), "--device", "board", *QUICK, "--wait", "1min", "--json")
        thread.join()
    assert not held
    assert ran.code == 0, ran.err
    assert ran.document["runs"] > 0
    use = ann.use()
    assert (use.holder, use.jobs, use.waiting) == (None, (), ())


def test_who_has_it_and_taking_it_back(ann: AgentClient, host: Callable[..., Any]) -> None:
    assert "nobody has board" in host("devices", "release", "board").out
    [free] = host("devices", "who", "--json").document["devices"]
    assert free["use"]["holder"] is None
    with ann.lease("ann", "nightly sweep"):
        [entry] = host("devices", "who", "board", "--json").document["devices"]
        assert entry["name"] == "board"
        assert (entry["use"]["holder"], entry["use"]["reason"]) == ("ann", "nightly sweep")
        assert 0 < entry["use"]["remaining_s"] <= 30
        table = host("devices", "who").out
        assert "ann" in table
        assert "nightly sweep" in table
        refused = host("devices", "release", "board")
        assert refused.code == ExitCode.USAGE
        assert "board is leased to ann for nightly sweep" in refused.err
        assert "--force" in refused.err
        assert ann.use().holder == "ann"
        forced = host("devices", "release", "board", "--force")
        assert forced.code == 0
        assert "board is free; it was leased to ann for nightly sweep" in forced.out
        with pytest.raises(LeaseLost):
            ann.delete_artifact("0" * 64)


def test_a_device_that_does_not_answer_is_told(ann: AgentClient, host: Callable[..., Any]) -> None:
    assert host("devices", "remove", "board").code == 0
    assert "no devices are registered" in host("devices", "who").out
    assert host("devices", "add", "gone", "127.0.0.1:9", "--force").code == 0
    ran = host("devices", "who", "--json")
    assert ran.code == ExitCode.NO_DEVICE
    [entry] = ran.document["devices"]
    assert entry["use"] is None
    assert "127.0.0.1:9" in entry["error"]
