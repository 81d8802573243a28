"""`host bench MODEL... --device NAME`: measure a model on a device, or several in turns."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from device_agent.bench_options import OPTIONS
from host.cli.errors import ExitCode
from host.cli.option_table import GroupedCommand, shared_options
from host.cli.store_option import store_option
from host.cli.waiting import exclusive, wait_option

if TYPE_CHECKING:
    from device_agent.bench_request import BenchOptions


@click.command("bench", cls=GroupedCommand, short_help="Measure a model on a device.")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--device", required=True, help="local, a registered device, the profile of the only one, or a selector.")
@shared_options(OPTIONS)
@wait_option
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@store_option
@click.option("--no-store", is_flag=True, help="Do not keep the result in the history.")
def command(
    models: tuple[str, ...],
    device: str,
    wait_s: float | None,
    as_json: bool,
    store_url: str | None,
    no_store: bool,
    **values: Any,
) -> int:
    """Measure MODEL on a device: latency, memory, and whether the figures can be trusted.

    MODEL is an .onnx or a .tflite file, a zoo name (exported with untrained weights, which take the same
    time), or package.module:factory.

    Several models are measured in turns in one worker, so that drift hits all alike; each is compared with the
    first. Where a selector means several devices, one model is measured on each in turn, and each has a line.
    """
    from device_agent.bench_request import BenchOptions
    from host.cli import render
    from host.fleet.inventory import LOCAL, Inventory

    options = BenchOptions.of(values, len(models))
    devices = [device] if device == LOCAL else [each.name for each in Inventory().select(device)]

    def measure(name: str) -> tuple[dict[str, Any], Callable[[dict[str, Any]], None]]:
        return _measured(models, name, options, wait_s, store_url, keep=not no_store)

    if len(devices) > 1:
        from host.cli.bench_devices import bench_devices

        return bench_devices(models, devices, lambda name: measure(name)[0], as_json=as_json)
    document, show = measure(devices[0])
    if as_json:
        render.print_json(document)
    else:
        show(document)
    return ExitCode.DONE


def _measured(
    models: tuple[str, ...],
    device: str,
    options: BenchOptions,
    wait_s: float | None,
    store_url: str | None,
    *,
    keep: bool,
) -> tuple[dict[str, Any], Callable[[dict[str, Any]], None]]:
    """Measure on one device; return the document and what shows it."""
    from host.cli.bench_progress import BenchProgress
    from host.cli.model_files import model_files
    from host.fleet.benchmark import measure_files
    from host.fleet.devices import open_device
    from host.layers import module_finder, name_layers

    with tempfile.TemporaryDirectory(prefix="boardfit-") as folder, BenchProgress() as progress:
        progress.say(f"connecting to {device}")
        with open_device(device) as opened:
            progress.say(f"preparing {', '.join(models)}")
            files = model_files(models, Path(folder), opened.info)
            with exclusive(opened.client, f"bench {' '.join(models)}", wait_s, progress.say):
                artifacts, measurement = measure_files(
                    opened, files, options, on_push=progress.on_push, on_event=progress.on_event
                )
        finders = [module_finder(file.path) for file in files] if options.layers else []
        number = None
        if keep:
            from host.results.store import ResultStore

            with ResultStore.open(store_url) as store:
                names = tuple(file.name for file in files)
                number = store.add_measurement(
                    measurement, device=opened.info, artifact_names=names, device_name=opened.name
                )
    if len(artifacts) == 1:
        from device_agent.contract.document import bench_document
        from host.cli.bench_view import print_bench

        document = bench_document(
            measurement, artifact=artifacts[0], device_name=opened.name, device=opened.info, measurement_id=number
        )
        show = print_bench
    else:
        from device_agent.contract.compare_document import compare_document
        from device_agent.contract.decision import DIFFERENCE
        from host.cli.compare_view import print_comparison

        document = compare_document(
            measurement,
            artifacts=artifacts,
            device_name=opened.name,
            device=opened.info,
            measurement_id=number,
            difference=DIFFERENCE if options.difference is None else options.difference,
        )
        show = print_comparison
    for part, find in zip(document.get("artifacts", [document]), finders, strict=False):
        name_layers(part["layers"], find)
    return document, show
