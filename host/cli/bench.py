"""`host bench MODEL --device NAME`: measure a model on a device."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from host.cli.quantities import fraction

#: Unless --max-time or a longer --min-time says otherwise.
LONGEST_TIME_S = 10.0
#: More than any board has; what lies beyond is a slip of the finger.
MOST_PROCESSORS = 4096


def _cpus(_ctx: click.Context, _param: click.Parameter, text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    found: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if not first.isdecimal() or not (last.isdecimal() or "-" not in part):
            raise click.BadParameter(f"{text!r} is not a list of processor numbers such as 0,2-3")
        numbers = range(int(first), int(last or first) + 1)
        if not numbers or numbers[-1] > MOST_PROCESSORS:
            raise click.BadParameter(
                f"{text!r}: a range goes from a lower processor number to a higher one, such as 2-3"
            )
        found.extend(numbers)
    return tuple(found)


@click.command("bench", short_help="Measure a model on a device.")
@click.argument("model")
@click.option("--device", required=True, help="local, a registered device, or the profile of the only one that has it.")
@click.option(
    "--runtime",
    help="By default what the device has for the file: onnxruntime for .onnx; litert, else tflite-runtime, for .tflite. "
    "Any other that `host devices info` shows.",
)
@click.option("--threads", type=click.IntRange(min=1, max=1024), help="By default the device's own number.")
@click.option("--provider", help="ONNX Runtime's execution provider, such as CPUExecutionProvider.")
@click.option("--cpus", callback=_cpus, help="Pin the worker to these processors, such as 0,2-3.")
@click.option("--min-runs", type=click.IntRange(min=1), default=50, show_default=True, help="Fewest timed runs.")
@click.option(
    "--min-time",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Shortest time of the runs, seconds.",
)
@click.option(
    "--max-time",
    type=click.FloatRange(min=0, min_open=True),
    help="Longest time of the runs, seconds; it ends the measurement even if the precision is not reached.",
)
@click.option(
    "--precision",
    type=fraction,
    metavar="SHARE",
    default="1%",
    show_default=True,
    help="Wanted half-width of the median's 95 % interval, relative to it.",
)
@click.option("--layers", is_flag=True, help="Also time every layer, in profiled runs of their own.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.option("--no-store", is_flag=True, help="Do not keep the result in the history.")
def command(
    model: str,
    device: str,
    runtime: str | None,
    threads: int | None,
    provider: str | None,
    cpus: tuple[int, ...] | None,
    min_runs: int,
    min_time: float,
    max_time: float | None,
    precision: float,
    layers: bool,
    as_json: bool,
    no_store: bool,
) -> None:
    """Measure MODEL on a device: latency, memory, and whether the figures can be trusted.

    MODEL is an .onnx or a .tflite file, a zoo name (exported with untrained weights, which take the same
    time), or package.module:factory.
    """
    from device_agent.contract.document import bench_document
    from device_agent.contract.settings import Stopping
    from host.cli import render
    from host.cli.bench_view import BenchProgress, print_bench
    from host.cli.model_files import model_file
    from host.fleet.benchmark import measure_file
    from host.fleet.devices import open_device

    stopping = Stopping(
        min_runs=min_runs,
        min_time_s=min_time,
        max_time_s=max(LONGEST_TIME_S, min_time) if max_time is None else max_time,
        precision=precision,
    )
    with tempfile.TemporaryDirectory(prefix="boardfit-") as folder, BenchProgress() as progress:
        progress.say(f"connecting to {device}")
        with open_device(device) as opened:
            progress.say(f"preparing {model}")
            path, name = model_file(model, Path(folder), opened.info)
            artifact, measurement = measure_file(
                opened,
                path,
                name=name,
                runtime=runtime,
                threads=threads,
                provider=provider,
                cpus=cpus,
                stopping=stopping,
                layers=layers,
                on_push=progress.on_push,
                on_event=progress.on_event,
            )
        number = None
        if not no_store:
            from host.results.store import ResultStore

            with ResultStore.open() as store:
                number = store.add_measurement(measurement, device=opened.info, artifact_names=(name,))
    document = bench_document(
        measurement, artifact=artifact, device_name=opened.name, device=opened.info, measurement_id=number
    )
    if as_json:
        render.print_json(document)
    else:
        print_bench(document)
