"""`host devices discover`: agents in the local network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from host.cli import render
from host.fleet.inventory import Inventory

if TYPE_CHECKING:
    from host.fleet.discover import FoundAgent
    from host.fleet.inventory import RegisteredDevice

SCHEMA = 1


@click.command("discover")
@click.option("--listen", "listen_s", type=click.FloatRange(0.1, 60), default=3.0, show_default=True, metavar="SECONDS",
              help="How long to wait for answers.")  # fmt: skip
@click.option(
    "--interface",
    "interfaces",
    multiple=True,
    metavar="ADDRESS",
    help="Search only there; repeatable.",
)
@click.option("--add", "do_add", is_flag=True, help="Register those that are new, under the names of their machines.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def discover(listen_s: float, interfaces: tuple[str, ...], do_add: bool, as_json: bool) -> None:
    """Find agents in the local network by mDNS: those that run `device-agent serve --announce`.

    An announcement proves nothing. --add asks each agent what it is, over TLS where it has joined this host.
    """
    from host.fleet.discover import discover as search
    from host.fleet.discover import registered_as

    inventory = Inventory()
    agents = search(listen_s=listen_s, interfaces=interfaces)
    added: dict[str, str] = {}
    if do_add:
        for agent in agents:
            if registered_as(agent, inventory.devices()) is None:
                added[agent.name] = _add(agent, inventory)
    known = [registered_as(agent, inventory.devices()) for agent in agents]
    if as_json:
        entries = [_entry(agent, device, added.get(agent.name)) for agent, device in zip(agents, known, strict=True)]
        render.print_json({"schema": SCHEMA, "agents": entries})
        return
    if not agents:
        click.echo(
            "no agent announces itself here. Start one with `device-agent serve --listen 0.0.0.0:50051 --announce`; "
            "networks often keep multicast from Wi-Fi and from other segments: then host devices add NAME ADDRESS"
        )
        return
    table = render.table("name", "address", "device id", "profile", "version", "TLS", "registered as")
    for agent, device in zip(agents, known, strict=True):
        cells = (
            agent.device_id[:12] or render.DASH,
            render.text_or_dash(agent.profile),
            render.text_or_dash(agent.version),
        )
        state = added.get(agent.name) or (render.DASH if device is None else _moved(agent, device))
        render.add_row(table, agent.name, agent.address, *cells, "joined" if agent.joined else "no", state)
    render.console().print(table)


def _add(agent: FoundAgent, inventory: Inventory) -> str:
    """Register an agent; return its name, or why it could not be."""
    from device_agent.contract.errors import BoardfitError
    from host.fleet.devices import identify
    from host.fleet.inventory import RegisteredDevice

    taken = {device.name for device in inventory.devices()}
    # The announced name ends in the beginning of the device's id.
    host = agent.name.rpartition("-")[0]
    name = agent.name if host in taken or not host else host
    try:
        device, _ = identify(RegisteredDevice(name=name, address=agent.address))
        inventory.add(device)
    except BoardfitError as error:
        return f"not added: {error}"
    return name


def _moved(agent: FoundAgent, device: RegisteredDevice) -> str:
    if agent.address == device.address:
        return device.name
    return f"{device.name}, at {device.address}: host devices add {device.name} {agent.address} --force"


def _entry(agent: FoundAgent, device: RegisteredDevice | None, added: str | None) -> dict[str, Any]:
    return {
        "name": agent.name,
        "address": agent.address,
        "device_id": agent.device_id or None,
        "profile": agent.profile,
        "board": agent.board,
        "version": agent.version,
        "joined": agent.joined,
        "registered_as": None if device is None else device.name,
        "registered_address": None if device is None else device.address,
        "added": None if added is None else device is not None,
        "error": added if added is not None and device is None else None,
    }
