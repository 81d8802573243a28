"""Finds agents in the local network by mDNS: those that were started with `device-agent serve --announce`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from device_agent.announce import SERVICE_TYPE
from device_agent.contract.errors import StableError
from host.fleet.inventory import RegisteredDevice

#: Long enough for a board on Wi-Fi to answer.
LISTEN_S = 3.0


class CannotDiscover(StableError):
    """The network cannot be searched from here; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundAgent:
    """An agent as it announces itself; nothing of it is proved. `joined` says that it speaks TLS to hosts of its authority."""

    name: str
    address: str
    device_id: str
    profile: str | None
    board: str | None
    version: str | None
    joined: bool


def discover(
    *,
    listen_s: float = LISTEN_S,
    interfaces: Sequence[str] = (),
    sleep: Callable[[float], None] = time.sleep,
) -> tuple[FoundAgent, ...]:
    """Listen for announcements and return the agents by name. `interfaces` are this machine's addresses, all by default.

    Raises CannotDiscover without the package zeroconf, or where the network takes no multicast.
    """
    if find_spec("zeroconf") is None:
        raise CannotDiscover("finding agents needs the package zeroconf: pip install 'boardfit[discover]'")
    from zeroconf import Error, InterfaceChoice, ServiceBrowser, ServiceStateChange, Zeroconf

    names: dict[str, None] = {}
    found: dict[str, FoundAgent] = {}

    def changed(*, name: str, state_change: ServiceStateChange, **_: object) -> None:
        if state_change is ServiceStateChange.Removed:
            names.pop(name, None)
        else:
            names[name] = None

    try:
        with Zeroconf(interfaces=list(interfaces) or InterfaceChoice.All) as zeroconf:
            browser = ServiceBrowser(zeroconf, SERVICE_TYPE, handlers=[changed])
            sleep(listen_s)
            for name in list(names):
                info = zeroconf.get_service_info(SERVICE_TYPE, name, timeout=2000)
                if info is not None and info.port is not None and (addresses := info.parsed_scoped_addresses()):
                    agent = _found(name, addresses, info.port, info.decoded_properties)
                    found[agent.device_id or name] = agent
            browser.cancel()
    except (OSError, Error) as error:
        raise CannotDiscover(
            f"the network cannot be searched from here: {error}. Register boards by their address: host devices add NAME ADDRESS"
        ) from error
    return tuple(sorted(found.values(), key=lambda agent: agent.name))


def _found(name: str, addresses: Sequence[str], port: int, properties: dict[str, str | None]) -> FoundAgent:
    # A link-local IPv6 address works only with this machine's name of the interface, so it comes last.
    first = min(addresses, key=lambda address: (":" in address, address.startswith("fe80")))
    return FoundAgent(
        name=name.removesuffix(f".{SERVICE_TYPE}"),
        address=f"[{first}]:{port}" if ":" in first else f"{first}:{port}",
        device_id=properties.get("id") or "",
        profile=properties.get("profile") or None,
        board=properties.get("board") or None,
        version=properties.get("version") or None,
        joined=properties.get("tls") == "1",
    )


def registered_as(agent: FoundAgent, devices: Iterable[RegisteredDevice]) -> RegisteredDevice | None:
    """Return the registered device with the agent's id, None if there is none: addresses move, ids do not."""
    return next((one for one in devices if agent.device_id and one.device_id == agent.device_id), None)
