"""`host history MODEL`: what a model's latency did over time on a device, and since when it is slower."""

from __future__ import annotations

import click

from host.cli.errors import ExitCode
from host.cli.store_option import store_option


@click.command("history", short_help="Show a model's latency over time, and the day on which it shifted.")
@click.argument("model")
@click.option("--device", metavar="SELECTOR", help="On these devices only: a name, tag:TAG, profile:PROFILE.")
@click.option("--runtime", help="Results of this runtime only.")
@click.option("--threads", type=click.IntRange(1), help="Results with so many threads only.")
@click.option("--metric", default="p50", show_default=True, help="p50, p90, p99, peak_memory or energy.")
@click.option("--last", type=click.IntRange(1), default=300, show_default=True, help="Measurements, the newest.")
@click.option("--stable-only", is_flag=True, help="Leave out measurements with a verdict other than stable.")
@click.option("--fail-if-slower", is_flag=True, help="Exit with 3 if the last shift is upwards and recent.")
@click.option(
    "--recent", type=click.IntRange(1), default=3, show_default=True, help="A shift this many points ago is recent."
)
@store_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    model: str,
    device: str | None,
    runtime: str | None,
    threads: int | None,
    metric: str,
    last: int,
    stable_only: bool,
    fail_if_slower: bool,
    recent: int,
    store_url: str | None,
    as_json: bool,
) -> int:
    """Show the course of MODEL's results, and where its level shifted for good.

    MODEL is a name (all files that were measured under it make one course, such as nightly builds), a file, a hash or a sweep,
    as for `host compare`; dates may follow a comma: net.onnx,since:2026-11-01.

    A shift needs two measurements to be told from an outlier. Where the device's software changed at the same time, it says so.
    """
    from host.cli import render
    from host.cli.device_names import DeviceNames
    from host.cli.history_view import print_history
    from host.results.courses import CourseOptions, courses_of
    from host.results.courses_document import courses_document
    from host.results.store import ResultStore

    names = DeviceNames()
    with ResultStore.open(store_url) as store:
        devices = None if device is None else names.ids(store, device)
        options = CourseOptions(
            metric=metric.replace("-", "_"), devices=devices, runtime=runtime, threads=threads,
            stable_only=stable_only, last=last, recent=recent,
        )  # fmt: skip
        courses = courses_of(store, model, options)
    document = courses_document(model, options.metric, courses, name_of=names.name)
    if as_json:
        render.print_json(document)
    else:
        print_history(document)
    return ExitCode.CONSTRAINT_NOT_MET if fail_if_slower and document["slower"] else ExitCode.DONE
