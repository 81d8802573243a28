"""`host store`: what the history is, and its way to other places."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from host.cli.errors import ExitCode
from host.cli.store_option import store_option

if TYPE_CHECKING:
    from host.results.lines import LineFilter
    from host.results.store import ResultStore

SCHEMA = 1


@click.group("store", short_help="The history itself: what is in it, export, import, check.")
def command() -> None:
    """Look after the history: where every result is kept, with all its raw samples.

    It is a SQLite file of your own unless --store or the environment variable BOARDFIT_STORE names another, such as a PostgreSQL
    database that a team shares.
    """


@command.command("info")
@store_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def info(store_url: str | None, as_json: bool) -> None:
    """Say where the history is and what is in it."""
    from host.cli import render
    from host.results.overview import overview
    from host.results.store import ResultStore

    with ResultStore.open(store_url) as store:
        found = overview(store)
    oldest, newest = (None if day is None else day.isoformat() for day in (found.oldest, found.newest))
    if as_json:
        render.print_json(
            {
                "schema": SCHEMA,
                "url": found.url,
                "kind": found.kind,
                "database_schema": found.schema,
                "size_bytes": found.size_bytes,
                "counts": found.counts,
                "devices": found.devices,
                "oldest": oldest,
                "newest": newest,
            }
        )
        return
    counts = found.counts
    rows = [
        ("history", found.url),
        ("size", f"{render.bytes_text(found.size_bytes)}, schema {found.schema}"),
        ("measurements", f"{counts['measurements']} of {counts['artifacts']} artifacts on {found.devices} devices"),
        ("under load", str(counts["loads"])),
        ("compressions", str(counts["compressions"])),
        ("sweeps", f"{counts['sweeps']} with {counts['jobs']} jobs"),
        ("oldest, newest", f"{oldest}, {newest}" if oldest else render.DASH),
    ]
    render.console().print(render.facts(rows))


@command.command("export")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--format",
    "name",
    type=click.Choice(["parquet", "jsonl", "csv"]),
    help="parquet and jsonl hold everything, csv a line of figures per result.  [default: by FILE's suffix]",
)
@click.option("--since", metavar="DATE", help="Only results since then: 2026-11-20, or 2026-11-20T06:30, in UTC.")
@click.option("--device", metavar="SELECTOR", help="Only these devices: a name, tag:TAG, profile:PROFILE, with commas.")
@click.option("--sweep", metavar="NAME|#NUMBER", help="Only the results of a sweep, the newest of this name.")
@store_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def export(
    file: Path,
    name: str | None,
    since: str | None,
    device: str | None,
    sweep: str | None,
    store_url: str | None,
    as_json: bool,
) -> None:
    """Write the history, or a part of it, to FILE: for another history, a data frame or a spreadsheet."""
    from device_agent.contract.errors import InvalidRequest
    from host.results.export_files import export_file
    from host.results.lines import count_lines
    from host.results.store import ResultStore

    with ResultStore.open(store_url) as store:
        chosen = _filter(store, since=since, device=device, sweep=sweep)
        if any((since, device, sweep)) and file.exists() and not count_lines(store, chosen):
            raise InvalidRequest(f"the history has no such results; {file} was left as it is")
        count = export_file(store, file, chosen, name)
    size = file.stat().st_size
    _tell({"file": str(file), "records": count, "size_bytes": size}, f"{count} written to {file}", as_json)


@command.command("import")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@store_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def import_(file: Path, store_url: str | None, as_json: bool) -> None:
    """Take the results of an export (Parquet or JSON lines) into the history.

    What the history has already is left out, so a file may be imported twice. If anything is wrong with the file, nothing is
    imported.
    """
    from host.results.export_files import read_export
    from host.results.importing import import_records
    from host.results.store import ResultStore

    with ResultStore.open(store_url) as store:
        found = import_records(store, read_export(file))
    words = f"{found.added} imported" + (f", {found.known} were there already" if found.known else "")
    _tell({"file": str(file), "added": found.added, "known": found.known}, words, as_json)


@command.command("check")
@click.option("--repair", "mend", is_flag=True, help="Make all derived figures anew from the raw samples first.")
@store_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def check(mend: bool, store_url: str | None, as_json: bool) -> int:
    """Read every sample and say what is damaged; exit code 1 if anything is.

    Figures that lists and comparisons use are derived from the samples and kept beside them; they are compared too.
    """
    from host.results import overview
    from host.results.store import ResultStore

    with ResultStore.open(store_url) as store:
        made = overview.repair(store) if mend else None
        found = overview.check(store)
    document = {
        "made_anew": made,
        "findings": [{"place": finding.place, "problem": finding.problem} for finding in found],
    }
    words = [f"{finding.place}: {finding.problem}" for finding in found] or ["everything is whole"]
    _tell(document, "\n".join(words), as_json)
    return ExitCode.FAILED if found else ExitCode.DONE


def _tell(document: dict[str, Any], words: str, as_json: bool) -> None:
    from host.cli import render

    if as_json:
        render.print_json({"schema": SCHEMA, **document})
    else:
        click.echo(words)


def _filter(store: ResultStore, *, since: str | None, device: str | None, sweep: str | None) -> LineFilter:
    from datetime import datetime, timezone

    from host.cli.device_names import DeviceNames
    from host.results.lines import LineFilter
    from host.results.queue import StoreQueue

    moment = None
    if since is not None:
        try:
            moment = datetime.fromisoformat(since)
        except ValueError as error:
            raise click.BadParameter(f"{since!r} is no date such as 2026-11-20", param_hint="--since") from error
        moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    sweep_id = None
    if sweep is not None:
        with StoreQueue(store) as queue:
            sweep_id = queue.find(sweep).id
    return LineFilter(
        since=moment,
        devices=None if device is None else DeviceNames().ids(store, device),
        sweep_id=sweep_id,
    )
