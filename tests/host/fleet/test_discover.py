"""Agents that announce themselves, on loopback; skipped where the machine takes no multicast."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from device_agent.announce import Announcement, check
from device_agent.cli import main
from device_agent.contract.errors import InvalidRequest
from host.fleet.discover import FoundAgent, _found, discover, registered_as
from host.fleet.inventory import RegisteredDevice

zeroconf = pytest.importorskip("zeroconf")

HERE = "127.0.0.1"


def multicast_works() -> bool:
    """Say whether a packet to mDNS's group comes back on loopback; some sandboxes have no multicast there."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other,
    ):
        try:
            one.bind(("", 0))
            group = socket.inet_aton("224.0.0.251") + socket.inet_aton(HERE)
            one.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
            other.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(HERE))
            other.sendto(b"x", ("224.0.0.251", one.getsockname()[1]))
            one.settimeout(2)
            return one.recv(1) == b"x"
        except OSError:
            return False


def announced(port: int = 50051, device_id: str = "0123456789abcdef", joined: bool = False) -> Announcement:
    return Announcement(
        address=HERE,
        port=port,
        device_id=device_id,
        profile="pi4",
        board="Raspberry Pi 4",
        version="0.1.0",
        joined=joined,
    )


@pytest.fixture
def announce() -> Iterator[Callable[[Announcement], Announcement]]:
    if not multicast_works():
        pytest.skip("no multicast on loopback here")
    running: list[subprocess.Popen[bytes]] = []

    def begin(announcement: Announcement) -> Announcement:
        command = [sys.executable, "-m", "device_agent.announce", json.dumps(asdict(announcement)), HERE]
        running.append(subprocess.Popen(command, stdin=subprocess.PIPE))
        return announcement

    yield begin
    for process in running:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(30) == 0, "it takes its announcement back and ends when its agent does"


def found(count: int) -> tuple[FoundAgent, ...]:
    for _ in range(20):
        agents = discover(listen_s=1.0, interfaces=[HERE])
        if len(agents) >= count:
            return agents
    raise AssertionError("the announcement did not arrive")


def test_an_agent_is_found(announce: Callable[[Announcement], Announcement]) -> None:
    one = announce(announced(port=50051, joined=True))
    (agent,) = [each for each in found(1) if each.device_id == one.device_id]
    assert agent == FoundAgent(
        name=one.name,
        address=f"{HERE}:50051",
        device_id="0123456789abcdef",
        profile="pi4",
        board="Raspberry Pi 4",
        version="0.1.0",
        joined=True,
    )
    assert one.name.endswith("-01234567")
    known = RegisteredDevice(name="moved", address="10.0.0.9:1", device_id=agent.device_id)
    assert registered_as(agent, [known]) == known
    assert registered_as(agent, [RegisteredDevice(name="other", address=agent.address, device_id="ff")]) is None


def test_loopback_is_not_announced(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="nobody else can reach"):
        check(HERE)
    assert main(["serve", "--listen", "127.0.0.1:0", "--announce", "--store", str(tmp_path / "store")]) == 2
    check("0.0.0.0")


@pytest.mark.parametrize(
    ("addresses", "shown"),
    [(["fe80::1%eth0", "2001:db8::1", "10.0.0.2"], "10.0.0.2:7"), (["fe80::1%eth0", "2001:db8::1"], "[2001:db8::1]:7")],
)
def test_the_address_that_is_shown(addresses: list[str], shown: str) -> None:
    properties: dict[str, Any] = {"id": None, "tls": "0"}
    agent = _found("x._boardfit._tcp.local.", addresses, 7, properties)
    assert (agent.address, agent.device_id, agent.joined) == (shown, "", False)
