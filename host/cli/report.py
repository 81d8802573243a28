"""`host report`: a page on a finished compression, from its record, or on a sweep or a part of the history."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from host.cli import render
from host.cli.store_option import store_option

SCHEMA = 1
RECORD, PAGE = "record.json", "report.html"
DEFAULT_OUT = Path("boardfit-report.html")


@click.command("report", short_help="Make an HTML report of a compression, a sweep, or the history.")
@click.argument("folder", required=False, type=click.Path(exists=True, path_type=Path))
@click.option("--sweep", metavar="NAME|#NUMBER", help="The results of a sweep, the newest of this name.")
@click.option(
    "--device", metavar="SELECTOR", help="Only these devices: a name, tag:TAG, profile:PROFILE, joined by commas."
)
@click.option(
    "--artifact", metavar="NAME", help="Only this artifact: its name, its file, or the beginning of its hash."
)
@click.option("--since", metavar="DATE", help="Only results since then: 2026-11-20, or 2026-11-20T06:30, in UTC.")
@store_option
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"Where to write the page; by default {PAGE} in FOLDER, else {DEFAULT_OUT} here.",
)
@click.option(
    "--plots",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write each chart into this folder too, as SVG and as PNG.",
)
@click.option("--no-png", is_flag=True, help="With --plots: SVG only, for which nothing needs to be installed.")
@click.option(
    "--explain", is_flag=True, help="Of FOLDER: say in words why each layer got its width, and write no page."
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    folder: Path | None,
    sweep: str | None,
    device: str | None,
    artifact: str | None,
    since: str | None,
    store_url: str | None,
    out: Path | None,
    plots: Path | None,
    no_png: bool,
    explain: bool,
    as_json: bool,
) -> None:
    """Write a report as one HTML file, which loads nothing from anywhere, so it can be sent or kept as it is.

    With FOLDER, the results of `host compress` (or the path of a record.json), it is about that compression. Else it is about
    what was measured: a sweep, or all of the history that --device, --artifact and --since leave.
    """
    choices = {"--sweep": sweep, "--device": device, "--artifact": artifact, "--since": since, "--store": store_url}
    given = [name for name, value in choices.items() if value is not None]
    if folder is not None and given:
        raise click.UsageError(
            f"FOLDER is the report of one compression, so {given[0]} has no effect; leave one of them out"
        )
    if explain and (folder is None or out is not None or plots is not None):
        raise click.UsageError("--explain is for FOLDER alone and writes no page; leave --out and --plots out")
    if out is not None and (out.suffix.lower() not in (".html", ".htm") or not out.parent.is_dir()):
        raise click.UsageError(f"--out names an .html file in a folder that is there, not {out}")
    if no_png and plots is None:
        raise click.UsageError("--no-png is for --plots; name a folder with it")
    if folder is not None:
        path = folder / RECORD if folder.is_dir() else folder
        record = read_record(path)
        if explain:
            _explain(record, as_json)
            return
        from host.report.page import report_page

        _deliver(report_page(record), out or path.parent / PAGE, plots, not no_png, {}, as_json)
        return
    from host.cli.device_names import DeviceNames
    from host.report.fleet.load import load_fleet
    from host.report.fleet.page import fleet_page
    from host.report.fleet.selection import Selection, wanted_of
    from host.results.store import ResultStore

    selection = Selection(
        sweep=sweep,
        device=device,
        artifact=artifact,
        since=since,
        out=None if out is None else str(out),
        shared=store_url is not None,
    )

    with ResultStore.open(store_url) as store:
        data = load_fleet(store, wanted_of(store, selection, DeviceNames()))
    more = {"results": len(data.results), "left_out": list(data.left_out)}
    _deliver(fleet_page(data), out or DEFAULT_OUT, plots, not no_png, more, as_json)


def _deliver(page: str, out: Path, plots: Path | None, png: bool, more: dict[str, Any], as_json: bool) -> None:
    from host.files import write_whole

    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, page.encode())
    drawn = None
    if plots is not None:
        from host.report.plots import plots_of, write_plots

        drawn = [str(path) for path in write_plots(plots_of(page), plots, png=png)]
    if as_json:
        render.print_json({"schema": SCHEMA, "report": str(out), **more, "plots": drawn})
        return
    click.echo(f"report {out}")
    if drawn is not None:
        click.echo(f"plots  {plots} ({len(drawn)} files)")


def _explain(record: dict[str, Any], as_json: bool) -> None:
    from host.compress.explain import explain as explained

    found = explained(record)
    if as_json:
        render.print_json(
            {
                "schema": SCHEMA,
                "budgets": list(found.budgets),
                "groups": {each.name: each.text for each in found.groups},
                "left_alone": {each.name: each.text for each in found.left_alone},
            }
        )
        return
    for line in found.lines():
        click.echo(line)


def read_record(path: Path) -> dict[str, Any]:
    """Return the record of a finished compression. InvalidRequest for anything else."""
    from device_agent.contract.errors import InvalidRequest

    try:
        record = json.loads(path.read_bytes())
    except OSError as error:
        unfinished = (path.parent / "journal.jsonl").exists()
        why = (
            "the compression there has not come to its end, or was a dry run: give its command again, without --dry-run"
            if unfinished
            else f"cannot read it: {error.strerror or error}; name a folder of results of host compress"
        )
        raise InvalidRequest(f"{path}: {why}") from error
    except ValueError as error:
        raise InvalidRequest(f"{path} holds no JSON ({error}); name a record.json of host compress") from error
    if not isinstance(record, dict) or record.get("schema") != SCHEMA or record.get("result") is None:
        raise InvalidRequest(f"{path} is no record of a finished compression; name a record.json of host compress")
    return record
