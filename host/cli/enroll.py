"""`host enroll`, and beside it `host`, `accept`, `list`, `revoke`, `renew`."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from host.cli import render
from host.cli.errors import ExitCode
from host.cli.own_address import own_address

if TYPE_CHECKING:
    from device_agent.contract.joining import Role
    from host.fleet.authority.enrolment import Outcome
    from host.fleet.authority.keeper import Authority, Member

SCHEMA = 1
_LISTEN = "0.0.0.0:50052"
_json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
_listen_option = click.option(
    "--listen", default=_LISTEN, show_default=True, metavar="ADDRESS:PORT", help="Where to wait."
)
_valid_option = click.option(
    "--valid", default="15min", show_default=True, metavar="TIME", help="How long the code is good: 90s, 15min, 2h."
)


@click.group(
    "enroll",
    invoke_without_command=True,
    short_help="Let boards join: certificates for both sides.",
)
@_listen_option
@click.option("--name", metavar="NAME", help="What the board will be called; its own host name by default.")
@_valid_option
@click.option("--force", is_flag=True, help="Let the board have NAME although another device has it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, two lines: one with the code, one when it is over.")
@click.pass_context
def command(ctx: click.Context, listen: str, name: str | None, valid: str, force: bool, as_json: bool) -> None:
    """Show a one-time code and wait until a board joins with it. From then on both sides authenticate by certificates.

    The first enrolment makes this host's own authority, which signs them.
    """
    if os.environ.get("GRPC_VERBOSITY") == "ERROR":
        # gRPC's core reports a port in use in its own words, before we can say it in ours. It reads this when it is loaded.
        os.environ["GRPC_VERBOSITY"] = "NONE"
    if ctx.invoked_subcommand is not None:
        return
    from device_agent.contract.joining import Role
    from host.fleet.authority.fleet import Registrar
    from host.fleet.inventory import Inventory

    registrar = Registrar(Inventory(), name=name, force=force)
    if (taken := registrar.bound_to()) is not None:
        click.echo(
            f"note: {taken.name} is registered at {taken.address}; only that board may join under this name, "
            "another needs --force",
            err=True,
        )
    outcome = _enroll(Role.DEVICE, registrar.name_for, registrar.register, listen, valid, as_json)
    ctx.exit(_say_outcome(outcome, as_json))


@command.command("host")
@click.argument("name")
@_listen_option
@_valid_option
@_json_option
@click.pass_context
def host(ctx: click.Context, name: str, listen: str, valid: str, as_json: bool) -> None:
    """Show a one-time code with which another workstation, called NAME, may use this host's boards.

    It gets a certificate and the list of devices that have joined; enrolling boards stays here.
    """
    from dataclasses import replace

    from device_agent.contract.joining import Role
    from host.fleet.authority.fleet import known_devices
    from host.fleet.inventory import Inventory, RegisteredDevice

    RegisteredDevice(name=name, address="unknown")  # a name of the same form, or InvalidDeviceName
    outcome = _enroll(
        Role.HOST,
        lambda _: name,
        lambda *_: None,
        listen,
        valid,
        as_json,
        complete=lambda grant: replace(grant, devices=known_devices(Inventory(), grant.authority_pem)),
    )
    ctx.exit(_say_outcome(outcome, as_json))


@command.command("accept")
@click.argument("address", metavar="HOST[:PORT]")
@click.argument("code", nargs=-1, required=True)
@_json_option
def accept(address: str, code: tuple[str, ...], as_json: bool) -> None:
    """Become a further host of the fleet whose first host shows CODE at HOST (`host enroll host NAME` there)."""
    from device_agent.contract.errors import InvalidRequest
    from device_agent.contract.joining import Role
    from device_agent.join_client import join, split_address
    from device_agent.join_code import JoinCode
    from host.fleet import identity
    from host.fleet.authority.fleet import add_known
    from host.fleet.authority.keeper import Authority
    from host.fleet.inventory import Inventory

    folder = identity.default_folder()
    if Authority(folder).exists:
        raise InvalidRequest(
            f"this host has an authority of its own (in {folder}), and a host belongs to one. To leave it with its boards, move "
            f"{folder} away."
        )
    where, parsed = split_address(address), JoinCode.parse(" ".join(code))
    joined = join(where, parsed, identity.own_path(folder), role=Role.HOST, hostname=socket.gethostname())
    added, left_out = add_known(Inventory(), joined.grant)
    known_as = joined.known_as or socket.gethostname()
    if as_json:
        render.print_json({"schema": SCHEMA, "known_as": known_as, "added": added, "left_out": left_out})
        return
    click.echo(f"this host may drive the fleet's boards now, as {known_as}")
    click.echo(f"devices added: {', '.join(added) or 'none'}")
    if left_out:
        click.echo(f"left out, since other devices have these names here: {', '.join(left_out)}", err=True)


@command.command("list")
@_json_option
def list_(as_json: bool) -> None:
    """List who has a certificate of this host's authority, until when, and who was revoked."""
    members = _authority().members()
    if as_json:
        render.print_json({"schema": SCHEMA, "members": [_entry(member) for member in members]})
        return
    table = render.table("name", "kind", "state", "certificate ends", "in the certificate")
    for member in members:
        state = "good" if member.revoked_s is None else f"revoked on {_day(member.revoked_s)}"
        render.add_row(table, member.known_as, member.role.value, state, _day(member.expires_s), member.name)
    render.console().print(table)


@command.command("revoke")
@click.argument("name")
@_json_option
def revoke(name: str, as_json: bool) -> None:
    """Revoke the board or the workstation NAME, and tell every board that can be reached; others learn it at their next use."""
    from host.fleet.authority.fleet import tell_all
    from host.fleet.inventory import Inventory

    inventory = Inventory()
    # A device may have been registered under another name since.
    device = next((one for one in inventory.devices() if one.name == name and one.tls_name is not None), None)
    revoked = _authority().revoke(name if device is None or device.tls_name is None else device.tls_name)
    told, untold = tell_all(inventory)
    if as_json:
        entries = [_entry(member) for member in revoked]
        render.print_json({"schema": SCHEMA, "revoked": entries, "told": list(told), "not_told": untold})
        return
    for member in revoked:
        click.echo(f"revoked the {member.role.value} {member.known_as} ({member.name})")
    click.echo(f"told {len(told)} of {len(told) + len(untold)} boards")
    for each, why in untold.items():
        click.echo(f"not told: {each}: {why}", err=True)
    if untold:
        click.echo("they learn it when a host next uses them; until then a revoked workstation may use them", err=True)


@command.command("renew")
@click.argument("selector", default="all")
@_json_option
@click.pass_context
def renew(ctx: click.Context, selector: str, as_json: bool) -> None:
    """Renew the certificates of the devices that SELECTOR means now. It happens by itself in the last third of their year."""
    from host.fleet.authority.fleet import renew_all
    from host.fleet.inventory import Inventory

    _authority().own_credentials()
    renewed, failed = renew_all(Inventory().select(selector))
    if as_json:
        render.print_json({"schema": SCHEMA, "renewed": list(renewed), "failed": failed})
    else:
        click.echo(f"renewed: {', '.join(renewed) or 'none'}")
        for device, why in failed.items():
            click.echo(f"not renewed: {device}: {why}", err=True)
    ctx.exit(ExitCode.FAILED if failed else ExitCode.DONE)


def _authority() -> Authority:
    from host.fleet.authority.keeper import Authority

    return Authority()


def _enroll(
    role: Role, name_for: Any, register: Any, listen: str, valid: str, as_json: bool, **options: Any
) -> Outcome:
    """Show the code and return how it ended."""
    from host.fleet.authority.enrolment import Enrolment

    valid_s = _seconds(valid)
    authority = _authority()
    authority.create()
    with Enrolment(authority, role, name_for=name_for, register=register, valid_s=valid_s, **options) as enrolment:
        port = enrolment.start(listen)
        address = f"{_reachable(listen)}:{port}"
        verb = "device-agent join" if role.value == "device" else "host enroll accept"
        line = f"{verb} {address} {enrolment.code}"
        if as_json:
            _event("waiting", address=address, code=str(enrolment.code), command=line, valid_s=valid_s)
        else:
            where = "the board" if role.value == "device" else "the other host"
            click.echo(
                f"on {where}, type within {valid}:\n\n    {line}\n\nwaiting at {listen.rpartition(':')[0]}:{port}"
            )
            sys.stdout.flush()
        return enrolment.wait()


def _say_outcome(outcome: Outcome, as_json: bool) -> ExitCode:
    from host.fleet.authority.enrolment import ATTEMPTS, End

    request, grant = outcome.request, outcome.grant
    if as_json:
        _event(
            outcome.end.value,
            name=outcome.known_as,
            address=None if request is None else request.address,
            device_id=None if request is None else request.device_id,
            tls_name=None if grant is None else grant.name,
        )
    elif outcome.end is End.JOINED:
        assert request is not None
        assert grant is not None
        click.echo(f"joined: {outcome.known_as} {f'at {request.address}' if request.address else ''}".rstrip())
        click.echo(f"its certificate ends on {_day(grant.expires_s)}")
        behind_s = time.time() - request.clock_s
        if behind_s > 86_400:
            click.echo(f"note: its clock is {behind_s / 86_400:.0f} days behind; TLS works all the same", err=True)
    elif outcome.end is End.VOID:
        click.echo(f"nobody joined: {ATTEMPTS} wrong codes were sent, so this one is void; start again", err=True)
    elif outcome.known_as is not None:
        click.echo(
            f"{outcome.known_as} got a certificate and never said that it arrived, so it is not registered: start again, or "
            "`host devices add` it",
            err=True,
        )
    else:
        click.echo("nobody joined in time; start again", err=True)
    return ExitCode.DONE if outcome.end is End.JOINED else ExitCode.FAILED


def _event(event: str, **values: Any) -> None:
    """Print one line of JSON at once: a program that starts this waits for the code."""
    click.echo(json.dumps({"schema": SCHEMA, "event": event, **values}))
    sys.stdout.flush()


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(s|min|h)", text.strip())
    value = 0.0 if match is None else float(match[1]) * {"s": 1, "min": 60, "h": 3600}[match[2]]
    if not 1 <= value <= 86_400:
        raise click.UsageError(f"--valid {text!r} is not a time from 1s to 24h, such as 90s, 15min or 2h")
    return value


def _reachable(listen: str) -> str:
    """Return the address to type on the board: the one that is listened on, or this machine's on its way out."""
    given = listen.rpartition(":")[0]
    return own_address() if given in ("0.0.0.0", "[::]", "") else given


def _entry(member: Member) -> dict[str, Any]:
    return {
        "known_as": member.known_as,
        "role": member.role.value,
        "name": member.name,
        "device_id": member.device_id,
        "expires": _day(member.expires_s),
        "revoked": None if member.revoked_s is None else _day(member.revoked_s),
    }


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds))
