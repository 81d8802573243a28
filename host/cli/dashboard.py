"""`host dashboard`: a web page on loopback that shows the fleet, the running sweeps and the history."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

import click

from host.cli import render
from host.cli.store_option import store_option

if TYPE_CHECKING:
    import socket

SCHEMA = 1
DEFAULT_LISTEN = "127.0.0.1:8737"


@click.command("dashboard", short_help="Show fleet, running sweeps and history in a browser.")
@click.option(
    "--listen",
    default=DEFAULT_LISTEN,
    show_default=True,
    metavar="ADDRESS:PORT",
    help="Where; port 0 takes a free one.",
)
@store_option
@click.option(
    "--token",
    metavar="TOKEN",
    envvar="BOARDFIT_DASHBOARD_TOKEN",
    help="What readers must show; beyond loopback one is made up.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the address as JSON.")
def command(listen: str, store_url: str | None, token: str | None, as_json: bool) -> None:
    """Serve the dashboard until Ctrl-C. It only shows: no page of it changes anything.

    On loopback it is for this machine alone. Elsewhere readers need a token, and what they read passes the network as it is, not
    encrypted: keep it to a network that you trust, or reach it by an SSH tunnel.
    """
    import secrets

    from device_agent.contract.errors import StableError
    from host.dashboard.guard import LOOPBACK
    from host.fleet.inventory import Inventory
    from host.results.queue import StoreQueue
    from host.results.store import ResultStore

    try:
        import uvicorn

        from host.dashboard.app import Dashboard
        from host.dashboard.watch import FleetWatch, ask_agent
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise StableError("the dashboard needs Starlette and uvicorn: pip install 'boardfit[dashboard]'") from error
    name, port = _address(listen)
    local = name in LOOPBACK
    if not local:
        token = token or secrets.token_urlsafe(24)
        click.echo(
            "warning: pages beyond loopback are not encrypted; safer: ssh -L 8737:127.0.0.1:8737 HOST",
            err=True,
        )
    inventory = Inventory()
    with (
        ResultStore.open(store_url) as opened,
        StoreQueue(opened) as queue,
        FleetWatch(inventory.devices, ask_agent) as watch,
    ):
        listening = _socket(name, port)
        reached = _reached_at(name)
        shown = f"[{reached}]" if ":" in reached else reached
        url = f"http://{shown}:{listening.getsockname()[1]}/" + (f"?token={token}" if token else "")
        if as_json:
            render.print_json({"schema": SCHEMA, "url": url})
        else:
            click.echo(f"dashboard {url}")
        app = Dashboard(opened, queue, watch, shared=store_url is not None).app(
            hosts=LOOPBACK if local else None, token=token
        )
        settings = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=2
        )
        uvicorn.Server(settings).run(sockets=[listening])


def _address(listen: str) -> tuple[str, int]:
    """Return name and port; the name of an IPv6 address without brackets."""
    name, colon, port = listen.rpartition(":")
    name = name.removeprefix("[").removesuffix("]")
    if not colon or not name or not port.isdecimal() or int(port) > 65535:
        raise click.BadParameter(f"{listen!r} is not ADDRESS:PORT, such as {DEFAULT_LISTEN}", param_hint="--listen")
    if name != "localhost":
        try:
            ipaddress.ip_address(name)
        except ValueError:
            raise click.BadParameter(f"{name!r} is no IP address of this machine", param_hint="--listen") from None
    return name, int(port)


def _reached_at(name: str) -> str:
    """Return the address to type in a browser: the one that is listened on, or this machine's on its way out."""
    import socket

    from host.cli.own_address import own_address

    address = None if name == "localhost" else ipaddress.ip_address(name)
    if address is None or not address.is_unspecified:
        return name
    return own_address(socket.AF_INET6 if address.version == 6 else socket.AF_INET)


def _socket(name: str, port: int) -> socket.socket:
    import socket

    from device_agent.contract.errors import StableError

    family = socket.AF_INET6 if ":" in name else socket.AF_INET
    try:
        return socket.create_server((name, port), family=family, backlog=64)
    except OSError as error:
        raise StableError(f"cannot listen on {name} port {port}: {error.strerror}; try --listen {name}:0") from error
