"""`host compare A B`: what changed between artifacts, measurements, sweeps, dates or runtimes, and whether that fails a build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from host.cli.errors import ExitCode
from host.cli.quantities import fraction
from host.cli.store_option import store_option
from host.cli.waiting import wait_option


@click.command("compare", short_help="Compare two artifacts, sweeps, dates or runtimes on what was measured.")
@click.argument("baseline", metavar="A")
@click.argument("candidate", metavar="B")
@click.option("--device", metavar="SELECTOR", help="Results of these devices only: a name, tag:TAG, profile:PROFILE.")
@click.option("--runtime", help="Results of this runtime only.")
@click.option("--threads", type=click.IntRange(1), help="Results with so many threads only.")
@click.option("--across", multiple=True, metavar="FIELD", help="Let the two differ in this; may be repeated.")
@click.option("--fail-if", "bounds", multiple=True, metavar="CONDITION", help="Exit with 3 if met, as 'p50 > +3%'.")
@click.option(
    "--undecided",
    type=click.Choice(["pass", "fail"]),
    default="pass",
    show_default=True,
    help="What a --fail-if counts as that the results can neither confirm nor refute.",
)
@click.option("--difference", default="2%", show_default=True, help="The smallest difference of medians that counts.")
@click.option("--last", type=click.IntRange(1), default=20, show_default=True, help="Measurements a side, the newest.")
@click.option("--stable-only", is_flag=True, help="Leave out measurements with a verdict other than stable.")
@click.option("--measure", is_flag=True, help="Measure both now, in turns on --device, and compare that.")
@click.option("--max-time", metavar="TIME", help="With --measure: the longest time for each model.")
@wait_option
@store_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    baseline: str,
    candidate: str,
    device: str | None,
    runtime: str | None,
    threads: int | None,
    across: tuple[str, ...],
    bounds: tuple[str, ...],
    undecided: str,
    difference: str,
    last: int,
    stable_only: bool,
    measure: bool,
    max_time: str | None,
    wait_s: float | None,
    store_url: str | None,
    as_json: bool,
) -> int:
    """Compare B, the candidate, with A, the baseline, on the results in the history.

    A and B are each one of these, or several joined by commas:

    \b
      net.onnx, build/net.onnx   a model by name, or a file by its content
      3f2a91c0                   a model by the first digits of its sha256
      '#31', '#31:2'             a measurement; of several models the second
      sweep:nightly              a sweep
      2026-11-20                 a day; 2026-11-01..2026-11-20, before:DAY, since:DAY
      runtime:onnxruntime@1.31   a runtime and its version
      threads:4                  a number of threads

    Results of one device in one environment are compared; where both were measured in turns, those turns are. Where environments
    differ, the comparison is refused and says in what; --across allows it.

    Exit code 3: a --fail-if is met, its interval wholly beyond the limit.
    """
    from device_agent.contract.errors import InvalidRequest
    from host.cli import render
    from host.cli.compare_sides_view import print_result
    from host.cli.device_names import DeviceNames
    from host.results.compare_bounds import parse_bound
    from host.results.compare_document import compare_document
    from host.results.compare_run import CompareOptions, compare
    from host.results.compare_sides import parse_side
    from host.results.store import ResultStore

    parsed = tuple(parse_bound(text) for text in bounds)
    for text in (baseline, candidate):
        parse_side(text)
    least = fraction(difference)
    if not 0 < least < 1:
        raise InvalidRequest(f"--difference {difference} is not between 0 and 100 %")
    if measure and device is None:
        raise InvalidRequest("--measure needs --device NAME, the device to measure on")
    for flag, value in (("--max-time", max_time), ("--wait", wait_s)):
        if value is not None and not measure:
            raise InvalidRequest(f"{flag} has no effect without --measure")
    names = DeviceNames()
    with ResultStore.open(store_url) as store:
        asked = (baseline, candidate)
        options: dict[str, Any] = {}
        if measure:
            from host.cli.compare_measure import measure_pair

            assert device is not None
            number = measure_pair(
                store, asked, device=device, runtime=runtime, threads=threads, max_time=max_time, wait_s=wait_s
            )
            asked = (f"#{number}:1", f"#{number}:2")
        else:
            devices = None if device is None else names.ids(store, device)
            options = {"devices": devices, "runtime": runtime, "threads": threads}
        result = compare(
            store,
            *asked,
            CompareOptions(
                across=across, stable_only=stable_only, last=last, difference=least, bounds=parsed, **options
            ),
            files=[Path(text) if Path(text).is_file() else None for text in (baseline, candidate)],
        )
    document = compare_document(result, name_of=names.name)
    if measure:
        document |= {"baseline": baseline, "candidate": candidate}
    if as_json:
        render.print_json(document)
        warn(document)
    else:
        print_result(document)
    return exit_code(document, undecided=undecided)


def warn(document: dict[str, Any]) -> None:
    """Say on stderr what could not be decided or compared, since nobody reads a JSON document while a build runs."""
    from host.cli.compare_sides_view import title, told_apart

    for row, words in zip(document["rows"], told_apart(document["rows"]), strict=True):
        for bound in row["bounds"]:
            if bound["met"] == "undecided":
                click.echo(f"warning: {title(row, words)}: {bound['text']} is undecided: {bound['hint']}", err=True)
    for refused in document["refused"]:
        texts = "; ".join(each["text"] for each in refused["differences"])
        click.echo(f"warning: {refused['device']['name']}: not compared, environments differ in {texts}", err=True)


def exit_code(document: dict[str, Any], *, undecided: str) -> ExitCode:
    """Return 3 where a condition is met, 1 where nothing could be compared, or a condition not be judged for a refusal."""
    met = document["met"]
    if met == "met" or (met == "undecided" and undecided == "fail"):
        return ExitCode.CONSTRAINT_NOT_MET
    if document["refused"] and (met is not None or not document["rows"]):
        return ExitCode.FAILED
    return ExitCode.DONE
