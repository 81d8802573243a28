"""Announces an agent in the local network by mDNS (RFC 6762, 6763), so that hosts find it: `device-agent serve --announce`.

It is a process of its own, since zeroconf takes more memory than all of the idle agent has. It ends, and takes the announcement
back, when its standard input is closed, which the kernel does for an agent that is killed.
"""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass
from importlib.util import find_spec

from device_agent.contract.errors import InvalidRequest, RuntimeUnavailable

SERVICE_TYPE = "_boardfit._tcp.local."
#: A name in DNS has at most 63 bytes.
_LONGEST_NAME = 50
_STOP_S = 5.0
_ANY = ("0.0.0.0", "::")


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """What is told to everybody in the network: no more than Describe tells, and no secret.

    `address` is where the agent listens; 0.0.0.0 and :: stand for all addresses of this machine. `joined`: it speaks TLS.
    """

    address: str
    port: int
    device_id: str
    profile: str | None
    board: str
    version: str
    joined: bool

    @property
    def name(self) -> str:
        """The instance's name: that of the machine, and enough of the device's id to tell two of the same name apart."""
        host = socket.gethostname().partition(".")[0].encode("ascii", "replace").decode().replace("?", "-")
        return f"{host[:_LONGEST_NAME] or 'board'}-{self.device_id[:8]}"

    def properties(self) -> dict[str, str]:
        """Return the TXT record. Its entries have at most 255 bytes."""
        found = {
            "id": self.device_id,
            "profile": self.profile or "",
            "board": self.board[:80],
            "version": self.version,
            "tls": "1" if self.joined else "0",
        }
        return {key: value for key, value in found.items() if value}


def check(address: str) -> None:
    """Raise RuntimeUnavailable without zeroconf, InvalidRequest for a loopback address."""
    if find_spec("zeroconf") is None:
        raise RuntimeUnavailable(
            f"--announce needs the package zeroconf: {sys.executable} -m pip install 'zeroconf>=0.132' (extra: discover)"
        )
    if ipaddress.ip_address(address).is_loopback:
        raise InvalidRequest(
            f"--announce makes no sense at {address}, which nobody else can reach; give --listen another address"
        )


def start(announcement: Announcement) -> subprocess.Popen[bytes]:
    """Start to announce. Errors are those of `check`; what fails later is on stderr, and the agent goes on."""
    check(announcement.address)
    isolated = ["-I"] if sys.flags.isolated else []
    command = [sys.executable, *isolated, "-m", "device_agent.announce", json.dumps(asdict(announcement))]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Take the announcement back, and wait until that is done."""
    assert process.stdin is not None
    process.stdin.close()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def announce(announcement: Announcement, interfaces: list[str] | None = None) -> None:
    """Announce until standard input is closed. `interfaces` are this machine's addresses, None for all. OSError by the net."""
    from zeroconf import InterfaceChoice, ServiceInfo, Zeroconf

    addresses = _addresses(announcement.address)
    with Zeroconf(interfaces=interfaces or InterfaceChoice.All) as zeroconf:
        service = ServiceInfo(
            SERVICE_TYPE,
            f"{announcement.name}.{SERVICE_TYPE}",
            port=announcement.port,
            properties=announcement.properties(),
            parsed_addresses=addresses,
            server=f"{announcement.name}.local.",
        )
        zeroconf.register_service(service, allow_name_change=True)
        while os.read(0, 4096):
            pass
        zeroconf.unregister_service(service)


def _addresses(listen: str) -> list[str]:
    """Return the addresses at which the agent can be reached from outside."""
    if listen not in _ANY:
        return [listen]
    import ifaddr

    every = [ip for adapter in ifaddr.get_adapters() for ip in adapter.ips]
    found = [ip.ip for ip in every if isinstance(ip.ip, str) and not ip.ip.startswith("127.")]
    if not found:
        raise InvalidRequest("this machine has no address but loopback, so there is nothing to announce")
    return found


def main(arguments: list[str]) -> None:
    """Announce what the first argument says, at the interfaces that follow."""
    announce(Announcement(**json.loads(arguments[0])), arguments[1:] or None)


if __name__ == "__main__":
    main(sys.argv[1:])
