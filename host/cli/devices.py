"""`host devices add|import|list|tag|info|remove`; the other commands are in devices_discover, devices_install and devices_use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from host.cli import render
from host.cli.devices_discover import discover
from host.cli.devices_install import install, upgrade, wheel
from host.cli.devices_use import release, who
from host.cli.errors import ExitCode
from host.cli.store_option import store_option
from host.fleet.inventory import ALL, LOCAL, InvalidDeviceName, Inventory, RegisteredDevice
from host.fleet.selectors import check_tag, select

if TYPE_CHECKING:
    from device_agent.contract.device import DeviceInfo

SCHEMA = 1
#: Long enough for a board on a slow link, short enough to look at a rack.
CHECK_TIMEOUT_S = 5.0


@click.group("devices", short_help="Register devices, list them, ask what they are.")
def command() -> None:
    """Register devices under a name, list them, ask what they are. `local` is this machine and is always there."""


@command.command("add")
@click.argument("name")
@click.argument("address")
@click.option(
    "--tag", "tags", multiple=True, metavar="TAG", help="A word for selectors, such as lab-a or rack=3; repeatable."
)
@click.option(
    "--force",
    is_flag=True,
    help="Replace NAME if it is taken; add it even if no agent answers now, or as a second name of a board.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def add(name: str, address: str, tags: tuple[str, ...], force: bool, as_json: bool) -> None:
    """Register the agent at ADDRESS (HOST or HOST:PORT) under NAME, after asking it what it is.

    A device that is replaced passes its tags on, unless --tag gives others.
    """
    from device_agent.contract.errors import DeviceUnreachable
    from host.fleet.channel import check_address
    from host.fleet.devices import identify

    address = check_address(address)
    inventory = Inventory()
    known = next((one for one in inventory.devices() if one.name == name), None)
    device = RegisteredDevice(name=name, address=address, tags=tags or (known.tags if known else ()))
    if known is not None:  # who joined is never spoken to without TLS again, unless it is removed first
        device = replace(device, tls_name=known.tls_name, tls_ca=known.tls_ca)
    if known is not None and not force:
        inventory.add(device)  # says by which command the name can be taken
    info: DeviceInfo | None = None
    try:
        device, info = identify(device)
    except DeviceUnreachable as error:
        if not force:
            raise DeviceUnreachable(f"{error} To register it all the same, add --force.") from error
    inventory.add(device, replace=force)
    if as_json:
        render.print_json({"schema": SCHEMA, "device": _entry(device), "info": _info_json(info)})
    elif info is None:
        click.echo(f"added {name} at {address}; no agent answers there now, so its profile is unknown")
    else:
        click.echo(f"added {name} at {address}: {info.board} (profile: {render.text_or_dash(info.profile)})")


@command.command("import")
@click.argument("path", metavar="FILE.csv", type=click.Path(path_type=Path))
@click.option(
    "--force",
    is_flag=True,
    help="Replace names that are taken; add devices that do not answer now, or that have other names.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def import_(ctx: click.Context, path: Path, force: bool, as_json: bool) -> None:
    """Register many agents at once, after asking them all what they are.

    FILE.csv has the columns name, address (HOST or HOST:PORT) and, if wanted, tags, separated by spaces. Devices that do not
    answer, and boards that are registered under other names, are left out, and the exit code is 1, or 4 where none answered.
    """
    from host.fleet.bulk import add_all, read_list

    answers = add_all(Inventory(), read_list(path), force=force)
    left_out = [answer for answer in answers if answer.info is None]
    second = sum(isinstance(answer.said, InvalidDeviceName) for answer in left_out)
    silent = len(left_out) - second
    added = [answer.device for answer in answers if force or answer.info is not None]
    if as_json:
        left = [] if force else [{"device": _entry(one.device), "error": str(one.said)} for one in left_out]
        render.print_json({"schema": SCHEMA, "devices": [_entry(device) for device in added], "left_out": left})
    else:
        for answer in left_out:
            click.echo(f"{answer.device.name}: {answer.said}", err=True)
        click.echo(
            f"added {len(added)} of {len(answers)} devices"
            + (f"; {silent} do not answer" if silent else "")
            + (f"; {second} are registered under other names" if second else "")
        )
    if left_out:
        ctx.exit(ExitCode.NO_DEVICE if silent == len(answers) else ExitCode.FAILED)


@command.command("list")
@click.argument("selector", default=ALL)
@click.option(
    "--check", is_flag=True, help="Ask every device whether it is there, all at once. Exit code 4 if none is."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def list_(ctx: click.Context, selector: str, check: bool, as_json: bool) -> None:
    """List the registered devices, or those that SELECTOR means.

    A selector is a name, tag:TAG, profile:PROFILE or all, joined by commas; ! excludes: 'profile:pi4,!tag:broken'.
    """
    devices = Inventory().devices()
    if devices or selector != ALL:
        devices = select(devices, selector)
    answers = _ask_all(devices) if check else {}
    if as_json:
        entries = [
            _entry(device) | ({"check": _check_json(answers[device.name])} if check else {}) for device in devices
        ]
        render.print_json({"schema": SCHEMA, "devices": entries})
    elif devices:
        columns = ("name", "address", "profile", "tags", *(("state",) if check else ()))
        table = render.table(*columns)
        for device in devices:
            state = (_state_text(answers[device.name]),) if check else ()
            tags = " ".join(device.tags) or render.DASH
            render.add_row(table, device.name, device.address, render.text_or_dash(device.profile), tags, *state)
        render.console().print(table)
    else:
        click.echo(f"no devices are registered; add one with `host devices add NAME ADDRESS`, or use --device {LOCAL}")
    if check and devices and all(isinstance(answer, Exception) for answer in answers.values()):
        ctx.exit(ExitCode.NO_DEVICE)


# A tag to remove looks like an option, so short options, -h too, have no place here.
@command.command("tag", context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]})
@click.argument("selector")
@click.argument("changes", nargs=-1, required=True, metavar="+TAG|-TAG...")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def tag(selector: str, changes: tuple[str, ...], as_json: bool) -> None:
    """Give the devices that SELECTOR means tags (+lab-b) and take others from them (-lab-a)."""
    for change in changes:
        if change[:1] not in ("+", "-"):
            raise click.UsageError(f"{change!r} is neither +TAG, to add a tag, nor -TAG, to remove one")
    added = [check_tag(change[1:]) for change in changes if change.startswith("+")]
    removed = [check_tag(change[1:]) for change in changes if change.startswith("-")]
    inventory = Inventory()
    names = [device.name for device in inventory.select(selector)]
    tagged = inventory.retag(names, add=added, remove=removed)
    if as_json:
        render.print_json({"schema": SCHEMA, "devices": [_entry(device) for device in tagged]})
        return
    for device in tagged:
        click.echo(f"{device.name}: {' '.join(device.tags) or 'no tags'}")


@command.command("info")
@click.argument("name")
@store_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def info(name: str, store_url: str | None, as_json: bool) -> None:
    """Ask a device what it is: board, processor, runtimes, sensors; and show which widths it was found to run fast."""
    from host.cli.granularity_view import granularity_table, known_granularity
    from host.fleet.devices import open_device
    from host.results.store import ResultStore

    with open_device(name) as device:
        found, address = device.info, device.client.address
    with ResultStore.open(store_url) as store:
        widths = known_granularity(store, found)
    if as_json:
        document = {"schema": SCHEMA, "name": device.name, "info": _info_json(found), "granularity": widths}
        render.print_json(document)
        return
    console = render.console()
    console.print(
        render.facts(
            [
                ("name", device.name),
                ("address", DASH_LOCAL if device.name == LOCAL else address),
                ("device id", found.device_id),
                ("board", found.board),
                ("profile", render.text_or_dash(found.profile)),
                ("processor", f"{found.cpu}, {found.cores} cores, {found.architecture}"),
                ("governor", render.text_or_dash(found.governor)),
                ("memory", render.bytes_text(found.memory_bytes)),
                ("system", f"{found.operating_system}, kernel {found.kernel}, Python {found.python}"),
                ("agent", f"{found.agent_version} (contract {found.contract_version})"),
                ("threads", f"{found.default_threads} by default"),
            ]
        )
    )
    runtimes = render.table("runtime", "version", "files", "providers, or why it is not usable")
    for runtime in found.runtimes:
        render.add_row(
            runtimes,
            runtime.name,
            render.text_or_dash(runtime.version),
            " ".join(f".{each.value}" for each in runtime.formats),
            runtime.unavailable or ", ".join(runtime.providers) or render.DASH,
        )
    console.print(runtimes)
    channels = render.table("sensor", "quantity", "site", "part of", "source")
    for channel in found.channels:
        part_of = render.text_or_dash(channel.part_of)
        render.add_row(channels, channel.name, channel.quantity.value, channel.site, part_of, channel.source)
    console.print(channels if found.channels else "sensors: none")
    if found.missing_sensors:
        missing = render.table("missing sensor", "why")
        for one in found.missing_sensors:
            render.add_row(missing, one.kind, one.reason)
        console.print(missing)
    for entry in widths:
        console.print(granularity_table(entry))
    if widths:
        console.print(
            "columns with an x: such a width's latency over that of the next larger fast one; 1 and more gains nothing"
        )
    else:
        console.print("fast widths: not known yet; host compress asks for them, and they are kept")


@command.command("remove")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def remove(name: str, as_json: bool) -> None:
    """Forget the device NAME. Its measurements stay in the history."""
    removed = Inventory().remove(name)
    if as_json:
        render.print_json({"schema": SCHEMA, "removed": _entry(removed)})
    else:
        click.echo(f"removed {removed.name} ({removed.address})")


command.add_command(who)
command.add_command(release)
command.add_command(discover)
command.add_command(install)
command.add_command(upgrade)
command.add_command(wheel)

DASH_LOCAL = "this machine, an agent of its own per command"


def _ask_all(devices: tuple[RegisteredDevice, ...]) -> dict[str, DeviceInfo | Exception]:
    from host.fleet.bulk import ask_all

    return {one.device.name: one.said for one in ask_all(devices, timeout_s=CHECK_TIMEOUT_S)}


def _state_text(answer: DeviceInfo | Exception) -> str:
    return str(answer) if isinstance(answer, Exception) else f"ready: {answer.board}, agent {answer.agent_version}"


def _check_json(answer: DeviceInfo | Exception) -> dict[str, Any]:
    if isinstance(answer, Exception):
        return {"reachable": False, "error": str(answer), "info": None}
    return {"reachable": True, "error": None, "info": _info_json(answer)}


def _entry(device: RegisteredDevice) -> dict[str, Any]:
    return {
        "name": device.name,
        "address": device.address,
        "device_id": device.device_id,
        "profile": device.profile,
        "tags": list(device.tags),
        "tls_name": device.tls_name,
    }


def _info_json(info: DeviceInfo | None) -> Any:
    from device_agent.contract.plain_json import to_json

    return None if info is None else to_json(info)
