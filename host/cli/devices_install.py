"""`host devices install|upgrade|wheel`: the agent on boards."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from host.cli import render
from host.cli.errors import ExitCode

if TYPE_CHECKING:
    from host.fleet.upgrade import UpgradeReport

SCHEMA = 1


@click.command("install")
@click.argument("target", metavar="USER@BOARD")
@click.argument("serve", nargs=-1, metavar="[-- OPTIONS OF serve]")
@click.option(
    "--listen",
    default="127.0.0.1:50051",
    show_default=True,
    metavar="ADDRESS:PORT",
    help="Where the agent will listen.",
)
@click.option("--python", default="python3", show_default=True, help="The board's Python, 3.10 or newer.")
@click.option(
    "--wheel", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Default: the agent of this host."
)
@click.option(
    "--ssh", "ssh", default="ssh", show_default=True, metavar="COMMAND", help="With options, such as 'ssh -p 2222'."
)
@click.option("--dry-run", is_flag=True, help="Let the board say every step, and do none.")
@click.option("--uninstall", is_flag=True, help="Remove the agent from the board, but for its store.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON; what the board says goes to stderr.")
def install(
    target: str,
    serve: tuple[str, ...],
    listen: str,
    python: str,
    wheel: Path | None,
    ssh: str,
    dry_run: bool,
    uninstall: bool,
    as_json: bool,
) -> None:
    """Install this host's agent on a board over ssh, as a service, or upgrade it in place.

    The board needs an account that may use sudo, Python 3.10 and a way to a package index. docs/install.md has the whole story.
    """
    import shlex

    from device_agent.environments import version_of
    from device_agent.packing import pack_agent
    from host.fleet.install import install_over_ssh

    arguments = ["--listen", listen, *(["--dry-run"] if dry_run else []), *(["--uninstall"] if uninstall else [])]
    with tempfile.TemporaryDirectory(prefix="boardfit-") as folder:
        wheel = wheel or pack_agent(Path(folder))
        version = version_of(wheel)
        install_over_ssh(
            target,
            wheel,
            [*arguments, *(["--", *serve] if serve else [])],
            python=python,
            ssh=shlex.split(ssh),
            terminal=sys.stdin.isatty(),
            quiet=as_json,
        )
    if as_json:
        done = "dry-run" if dry_run else "uninstalled" if uninstall else "installed"
        render.print_json({"schema": SCHEMA, "target": target, "version": version, "listen": listen, "outcome": done})
    elif not dry_run and not uninstall:
        click.echo(_next(target, listen))


@click.command("upgrade")
@click.argument("selector")
@click.option(
    "--wheel", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Default: the agent of this host."
)
@click.option("--within", "within_s", type=click.FloatRange(2, 3600), default=120.0, show_default=True, metavar="SECONDS",
              help="A new version that this host has not confirmed by then is left again.")  # fmt: skip
@click.option("--keep-going", is_flag=True, help="Go on with the next device after one failed.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def upgrade(
    ctx: click.Context, selector: str, wheel: Path | None, within_s: float, keep_going: bool, as_json: bool
) -> None:
    """Bring the agents of the devices that SELECTOR means to this host's version, one by one.

    A board starts the new version beside the old one, and goes back by itself if this host cannot confirm it. After a device that
    failed the others are left alone. It works with agents that `device-agent install` or `host devices install` put there.
    """
    from device_agent.contract.errors import DeviceUnreachable
    from device_agent.environments import version_of
    from device_agent.packing import pack_agent
    from host.fleet.inventory import Inventory
    from host.fleet.upgrade import Outcome, upgrade_device

    devices = Inventory().select(selector)
    reports: list[UpgradeReport] = []
    with tempfile.TemporaryDirectory(prefix="boardfit-") as folder:
        wheel = wheel or pack_agent(Path(folder))
        version = version_of(wheel)
        for device in devices:
            click.echo(f"{device.name}: upgrading to {version}", err=True)
            report = upgrade_device(
                device, wheel, within_s=within_s, say=lambda words: click.echo(f"  {words}", err=True)
            )
            reports.append(report)
            if report.outcome is Outcome.FAILED and not keep_going:
                break
    left = [device.name for device in devices[len(reports) :]]
    if as_json:
        document = {
            "schema": SCHEMA,
            "version": version,
            "devices": [_entry(one) for one in reports],
            "not_tried": left,
        }
        render.print_json(document)
    else:
        table = render.table("device", "before", "now", "what happened")
        for one in reports:
            words = one.outcome.value if one.error is None else f"failed: {one.error}"
            render.add_row(table, one.device, render.text_or_dash(one.before), render.text_or_dash(one.after), words)
        for name in left:
            render.add_row(table, name, render.DASH, render.DASH, "not tried; --keep-going does not stop at a failure")
        render.console().print(table)
    failed = [one for one in reports if one.outcome is Outcome.FAILED]
    if failed:
        unreachable = all(isinstance(one.error, DeviceUnreachable) for one in failed) and len(failed) == len(reports)
        ctx.exit(ExitCode.NO_DEVICE if unreachable else ExitCode.FAILED)


@click.command("wheel")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path), default=".")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def wheel(folder: Path, as_json: bool) -> None:
    """Write the wheel of this host's agent to FOLDER, to be carried to a board by hand."""
    from device_agent import __version__
    from device_agent.packing import pack_agent

    folder.mkdir(parents=True, exist_ok=True)
    path = pack_agent(folder)
    if as_json:
        render.print_json({"schema": SCHEMA, "wheel": str(path), "version": __version__})
    else:
        click.echo(f"wrote {path}\non the board: sudo PYTHONPATH=$PWD/{path.name} python3 -m device_agent install")


def _next(target: str, listen: str) -> str:
    board, port = target.rpartition("@")[2], listen.rpartition(":")[2]
    if listen.startswith(("127.", "[::1]", "localhost")):
        return (
            f"it listens on the board's {listen}. Reach it through a tunnel, ssh -N -L {port}:127.0.0.1:{port} {target}, with "
            f"host devices add NAME 127.0.0.1:{port}. Or let it join (host enroll), and install with --listen 0.0.0.0:{port}"
        )
    return f"next: host devices add NAME {board}:{port}"


def _entry(report: UpgradeReport) -> dict[str, Any]:
    return {
        "name": report.device,
        "before": report.before,
        "after": report.after,
        "outcome": report.outcome.value,
        "error": None if report.error is None else str(report.error),
    }
