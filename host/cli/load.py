"""`host load MODEL --device NAME`: throughput, latency under load, and the highest rate that keeps a latency."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

from device_agent.load_options import OPTIONS
from host.cli.errors import ExitCode
from host.cli.option_table import GroupedCommand, shared_options
from host.cli.store_option import store_option
from host.cli.waiting import exclusive, wait_option


@click.command("load", cls=GroupedCommand, short_help="Measure throughput, and latency under load.")
@click.argument("model")
@click.option("--device", required=True, help="local, a registered device, or the profile of the only one that has it.")
@shared_options(OPTIONS)
@wait_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@store_option
@click.option("--no-store", is_flag=True, help="Do not keep the result in the history.")
def command(
    model: str, device: str, wait_s: float | None, as_json: bool, store_url: str | None, no_store: bool, **values: Any
) -> int:
    """Put load on MODEL: how many requests per second a device serves, and how long they take while others wait.

    Without --rate and a bound, every stream takes its next request as soon as it is done with the last. With
    --rate, requests arrive at random, and a latency counts from the arrival. With --max-p99 alone, the highest
    such rate is looked for; the exit code is 3 if the bound is not kept.
    """
    from device_agent.contract.load_document import load_document
    from device_agent.load_options import LoadOptions
    from device_agent.load_words import is_within
    from host.cli import render
    from host.cli.load_view import LoadProgress, print_load
    from host.cli.model_files import model_file
    from host.fleet.devices import open_device
    from host.fleet.loading import load_file

    options = LoadOptions.of(values)
    with tempfile.TemporaryDirectory(prefix="boardfit-") as folder, LoadProgress() as progress:
        progress.say(f"connecting to {device}")
        with open_device(device) as opened:
            progress.say(f"preparing {model}")
            path, name = model_file(model, Path(folder), opened.info)
            with exclusive(opened.client, f"load {model}", wait_s, progress.say):
                artifact, measurement = load_file(
                    opened, path, name, options, on_push=progress.on_push, on_event=progress.on_load
                )
        number = None
        if not no_store:
            from host.results.loads import add_load
            from host.results.store import ResultStore

            with ResultStore.open(store_url) as store:
                number = add_load(store, measurement, device=opened.info, artifact_name=name)
    document = load_document(
        measurement, artifact=artifact, device_name=opened.name, device=opened.info, load_id=number
    )
    if as_json:
        render.print_json(document)
    else:
        print_load(document)
    return ExitCode.CONSTRAINT_NOT_MET if is_within(document) is False else ExitCode.DONE
