"""`host report FOLDER`: the HTML page and the explanation of a finished compression, from its record alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from host.cli import render

SCHEMA = 1
RECORD, PAGE = "record.json", "report.html"


@click.command("report", short_help="Make the HTML report of a finished compression again, or explain it.")
@click.argument("folder", type=click.Path(exists=True, path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), help="Where to write the page; by default into FOLDER."
)
@click.option("--explain", is_flag=True, help="Say in words why each layer got its width, and write no page.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(folder: Path, out: Path | None, explain: bool, as_json: bool) -> None:
    """Write the report of FOLDER, the results of `host compress` (or the path of a record.json), as one HTML file.

    The file loads nothing from anywhere, so it can be sent or kept as it is.
    """
    from host.compress.explain import explain as explained
    from host.files import write_whole
    from host.report.page import report_page

    if explain and out is not None:
        raise click.UsageError("--explain writes no page, so --out has no effect; leave one of them out")
    path = folder / RECORD if folder.is_dir() else folder
    record = read_record(path)
    if explain:
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
        return
    page = out if out is not None else path.parent / PAGE
    write_whole(page, report_page(record).encode())
    if as_json:
        render.print_json({"schema": SCHEMA, "report": str(page)})
    else:
        click.echo(f"report {page}")


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
