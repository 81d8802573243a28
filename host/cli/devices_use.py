"""`host devices who|release`: who has each device, and taking it from them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import click

from host.cli import render
from host.cli.errors import ExitCode
from host.fleet.inventory import ALL, LOCAL, Inventory

if TYPE_CHECKING:
    from device_agent.contract.lease import DeviceUse

SCHEMA = 1
_THREADS = 32


@click.command("who")
@click.argument("selector", default=ALL)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def who(ctx: click.Context, selector: str, as_json: bool) -> None:
    """Say who has each device, for what and for how long, and who waits for it. Exit code 4 if no device answers."""
    names = [device.name for device in Inventory().select(selector)] if selector != ALL else _all_names()
    if not names and not as_json:
        click.echo(f"no devices are registered; add one with `host devices add NAME ADDRESS`, or use --device {LOCAL}")
        return
    with ThreadPoolExecutor(max_workers=min(_THREADS, len(names)) or 1) as pool:
        answers = list(zip(names, pool.map(_ask, names), strict=True))
    if as_json:
        render.print_json({"schema": SCHEMA, "devices": [_entry(name, answer) for name, answer in answers]})
    else:
        table = render.table("device", "who", "for what", "since", "remaining", "queue")
        for name, answer in answers:
            render.add_row(table, name, *_cells(answer))
        render.console().print(table)
    if names and all(isinstance(answer, Exception) for _, answer in answers):
        ctx.exit(ExitCode.NO_DEVICE)


@click.command("release")
@click.argument("name")
@click.option("--force", is_flag=True, help="Yes: end whatever somebody else does there, their running job included.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def release(name: str, force: bool, as_json: bool) -> None:
    """Take a device from whoever has it: their lease ends, and so does their job. The queue stays, and its first is next."""
    from host.fleet.devices import open_device

    with open_device(name) as device:
        use = device.client.use()
        if not force and _in_use(use):
            raise click.UsageError(f"{device.name} is {_words(use)}. To end that all the same, add --force.")
        ended = device.client.end_use() if force else use
    if as_json:
        render.print_json({"schema": SCHEMA, "name": device.name, "ended": _use_json(ended)})
    elif _in_use(ended):
        left = f"; next of {len(ended.waiting)} in the queue: {ended.waiting[0].holder}" if ended.waiting else ""
        click.echo(f"{device.name} is free; it was {_words(ended)}{left}")
    else:
        click.echo(f"nobody has {device.name}")


def _all_names() -> list[str]:
    return [device.name for device in Inventory().devices()]


def _ask(name: str) -> DeviceUse | Exception:
    from device_agent.contract.errors import BoardfitError
    from host.fleet.devices import open_device

    try:
        with open_device(name) as device:
            return device.client.use()
    except BoardfitError as error:
        return error


def _in_use(use: DeviceUse) -> bool:
    return use.holder is not None or bool(use.jobs)


def _words(use: DeviceUse) -> str:
    """Return who has it and for what, as it goes on after `it is`."""
    if use.holder is not None:
        running = f", running: {', '.join(job.what for job in use.jobs)}" if use.jobs else ""
        return f"leased to {use.holder} for {use.reason}, for {render.seconds_text(use.held_s)} so far{running}"
    job = use.jobs[0]
    return f"busy with {job.what} for {job.holder}, for {render.seconds_text(job.running_s)} so far"


def _cells(answer: DeviceUse | Exception) -> tuple[str, ...]:
    if isinstance(answer, Exception):
        return (str(answer), *[render.DASH] * 4)
    queue = ", ".join(f"{one.holder} ({one.reason})" for one in answer.waiting) or render.DASH
    if answer.holder is not None:
        times = (render.seconds_text(answer.held_s), f"{render.seconds_text(answer.remaining_s)} unless renewed")
        return (answer.holder, answer.reason or render.DASH, *times, queue)
    if answer.jobs:
        job = answer.jobs[0]
        return (job.holder, job.what, render.seconds_text(job.running_s), render.DASH, queue)
    return ("nobody", *[render.DASH] * 3, queue)


def _entry(name: str, answer: DeviceUse | Exception) -> dict[str, Any]:
    if isinstance(answer, Exception):
        return {"name": name, "use": None, "error": str(answer)}
    return {"name": name, "use": _use_json(answer), "error": None}


def _use_json(use: DeviceUse) -> Any:
    from device_agent.contract.plain_json import to_json

    return to_json(use)
