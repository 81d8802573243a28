"""`host compress MODEL --device NAME --data DATA --target-latency 30ms|0.5x`."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import platformdirs

from host.cli import render
from host.cli.errors import ExitCode
from host.cli.quantities import energy_budget, fraction, heights, latency_target, ratios, size_bytes
from host.cli.store_option import store_option
from host.cli.waiting import Waiting, how_to_wait, wait_option
from host.compress.options import CRITERIA, RUNTIMES, SENSITIVITIES

if TYPE_CHECKING:
    from host.compress.options import EnergyBudget, LatencyTarget


@click.command("compress", short_help="Compress a model against latencies measured on a device.")
@click.argument("model")
@click.option("--device", required=True, help="local, a registered device, or the profile of the only registered one.")
@click.option("--data", required=True, help="fashion-mnist, npz:FILE, folder:DIR or package.module:factory.")
@click.option(
    "--target-latency",
    "target",
    type=latency_target,
    metavar="RATIO|TIME",
    help="A share of the baseline's latency (0.5x) or a time (30ms). With --plan, by default what the plan was made for.",
)
@click.option(
    "--percentile",
    type=click.Choice(["50", "90"]),
    help="Of the runs' latencies, which one the target is about: the median, or the 90th percentile.  [default: 50]",
)
@click.option("--max-size", type=size_bytes, metavar="SIZE", help="Largest size of the exported file, such as 2MB.")
@click.option(
    "--max-memory", type=size_bytes, metavar="SIZE", help="Largest peak memory above the runtime's own, such as 40MB."
)
@click.option(
    "--max-energy",
    type=energy_budget,
    metavar="RATIO|ENERGY",
    help="Largest energy per run, a share of the baseline's (0.5x) or 20mJ; the device needs a meter.",
)
@click.option("--max-accuracy-drop", type=fraction, metavar="SHARE", help="Largest loss of test accuracy, such as 1%.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "int8"]),
    default="auto",
    show_default=True,
    help="auto: int8 or float16 where the device runs it faster and the accuracy holds; int8: in any case.",
)
@click.option(
    "--drop-blocks", is_flag=True, help="Let the plan leave out whole residual blocks, where that costs least."
)
@click.option(
    "--resolutions",
    type=heights,
    metavar="PIXELS,...",
    default=(),
    help="Heights of smaller images that the plan may ask for, such as 24,20; the device prices each.",
)
@click.option("--checkpoint", type=click.Path(exists=True, dir_okay=False), help="Trained weights of MODEL.")
@click.option("--method", type=click.Choice(["latency", "uniform"]), default="latency", show_default=True)
@click.option(
    "--criterion",
    type=click.Choice(CRITERIA),
    default="taylor",
    show_default=True,
    help="Which channels of a layer go first.",
)
@click.option(
    "--recipe",
    "recipe_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML file of how to fine-tune (docs/training.md); options given here go before it.",
)
@click.option(
    "--sensitivity",
    type=click.Choice(SENSITIVITIES),
    default="measured",
    show_default=True,
    help="What a width costs, to begin the search with: measured on images, or the criterion's own estimate.",
)
@click.option(
    "--candidates",
    type=click.IntRange(min=1),
    default=32,
    show_default=True,
    help="Plans of equal latency that a round ranks at most, without training, before the best go to the device.",
)
@click.option(
    "--search-seconds", type=click.FloatRange(min=0), help="Rank no further plan in a round after so many seconds."
)
@click.option("--epochs", type=click.IntRange(min=1), help="Fine-tuning, over all rounds.  [default: 8]")
@click.option("--batch-size", type=click.IntRange(min=2), help="[default: 64]")
@click.option("--learning-rate", type=float, help="[default: 0.01]")
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    help="1: all is cut at once; more: cut a little, tune a little, so often. By default as the target asks.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Processes that share the fine-tuning; by default one per GPU with 32 images of a batch or more.",
)
@click.option(
    "--probes",
    type=click.IntRange(min=2),
    default=6,
    show_default=True,
    help="Variants that latency is learned from, at most; fewer where earlier models told enough.",
)
@click.option(
    "--runtime",
    type=click.Choice(RUNTIMES),
    default="onnxruntime",
    show_default=True,
    help="What runs the model on the device: the result is an ONNX file, or for the others a TFLite file.",
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads of the runtime; by default the device's own.")
@click.option("--provider", help="ONNX Runtime's execution provider, or LiteRT's delegate.")
@click.option("--seed", type=int, help="[default: 0]")
@click.option(
    "--plan",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="Cut exactly the plan.json of earlier results, check it on the device and fine-tune it; nothing is planned.",
)
@click.option(
    "--front",
    type=ratios,
    metavar="0.8x,0.6x,...",
    help="With --dry-run: also the best plan at each of these shares of the baseline's latency, planned and not measured.",
)
@click.option("--dry-run", is_flag=True, help="Measure, plan and check the plan's latency, but train nothing.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the results; a run that was stopped goes on there. By default below the user's data folder.",
)
@wait_option
@store_option
@click.option("--explain", is_flag=True, help="Say at the end in words why each layer got its width.")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
def command(
    model: str,
    device: str,
    data: str,
    target: LatencyTarget | None,
    percentile: str | None,
    max_size: int | None,
    max_memory: int | None,
    max_energy: EnergyBudget | None,
    max_accuracy_drop: float | None,
    drop_blocks: bool,
    resolutions: tuple[int, ...],
    precision: str,
    checkpoint: str | None,
    method: str,
    criterion: str,
    sensitivity: str,
    candidates: int,
    search_seconds: float | None,
    recipe_file: Path | None,
    epochs: int | None,
    batch_size: int | None,
    learning_rate: float | None,
    rounds: int | None,
    workers: int | None,
    probes: int,
    runtime: str,
    threads: int | None,
    provider: str | None,
    seed: int | None,
    plan: str | None,
    front: tuple[float, ...] | None,
    dry_run: bool,
    out: Path | None,
    wait_s: float | None,
    store_url: str | None,
    explain: bool,
    as_json: bool,
) -> int:
    """Compress MODEL, a zoo name or package.module:factory, until it meets the target on the device itself.

    The result is an ONNX or TFLite file, a checkpoint and a record. Exit code 3: a constraint is not met; the best result is
    there all the same, unless no plan can meet the constraints: then nothing is trained or written.
    """
    if front and not dry_run:
        raise click.UsageError("--front shows what could be chosen from, so it goes with --dry-run")
    from device_agent.contract.errors import DeviceBusy, LeaseLost, TransientError
    from host.cli.compress_view import StageLines, show, show_reasons
    from host.compress.distributed import launched
    from host.compress.finetune import check_recipe
    from host.compress.measuring import Measuring, settings_for
    from host.compress.options import CompressOptions
    from host.compress.pipeline import compress
    from host.compress.recipe_file import over_file, read_recipe
    from host.compress.subject import load_subject
    from host.compress.tflite.export import check_converter
    from host.files import sole_use
    from host.fleet.devices import open_device
    from host.fleet.tenancy import Tenancy
    from host.results.store import ResultStore

    if launched():
        raise click.UsageError("host compress starts its processes itself: leave torchrun away, and give --workers N")
    recipe = {} if recipe_file is None else read_recipe(recipe_file)
    options = CompressOptions(
        model=model,
        data=data,
        target=_at(target if target is not None else _target_of(plan), percentile),
        checkpoint=checkpoint,
        method=method,
        criterion=criterion,
        sensitivity=sensitivity,
        candidates=candidates,
        search_seconds=search_seconds,
        recipe=recipe,
        **over_file(recipe, epochs=epochs, batch_size=batch_size, learning_rate=learning_rate, seed=seed),
        rounds=rounds,
        workers=workers,
        probes=probes,
        runtime=runtime,
        threads=threads,
        provider=provider,
        max_size_bytes=max_size,
        max_memory_bytes=max_memory,
        max_energy=max_energy,
        max_accuracy_drop=max_accuracy_drop,
        drop_blocks=drop_blocks,
        resolutions=resolutions,
        precision=precision,
        plan=plan,
    )
    check_recipe(options)
    if runtime != RUNTIMES[0]:
        check_converter()
    subject = load_subject(options)
    with ExitStack() as stack:
        lines = stack.enter_context(StageLines())
        store = stack.enter_context(ResultStore.open(store_url))
        opened = stack.enter_context(open_device(device))
        waiting = Waiting(None, lines.note)
        tenancy = Tenancy(opened.client, f"compress {model}", wait_s=wait_s, on_wait=waiting, on_lost=lines.note)
        try:
            stack.enter_context(tenancy)
        except DeviceBusy as error:
            raise how_to_wait(error, wait_s) from error
        folder = out if out is not None else _default_out({**options.identity(), **subject.fingerprints()}, opened.name)
        stack.enter_context(sole_use(folder))
        measuring = Measuring(
            opened,
            settings_for(opened, runtime=runtime, threads=threads, provider=provider),
            store,
            on_event=lines.event,
            tenancy=tenancy,
        )
        try:
            record = compress(
                options, subject, measuring, out=folder, observer=lines, dry_run=dry_run, front=front or ()
            )
        except (KeyboardInterrupt, TransientError, LeaseLost):
            lines.note(f"finished steps are kept in {folder}; the same command goes on after them")
            raise
        store.add_compression(record, device=opened.info)
    if as_json:
        render.print_json(record)
    else:
        show(record)
        if explain:
            show_reasons(record)
    return ExitCode.CONSTRAINT_NOT_MET if record["met"] is False else ExitCode.DONE


def _at(target: LatencyTarget, percentile: str | None) -> LatencyTarget:
    return target if percentile is None else dataclasses.replace(target, percentile=int(percentile))


def _target_of(plan: str | None) -> LatencyTarget:
    """Return what the plan was made for; without one a target has to be given."""
    from host.compress.options import LatencyTarget
    from host.compress.plan_file import read_plan

    if plan is None:
        raise click.UsageError(
            "Missing option '--target-latency': a share of the baseline's latency (0.5x) or a time (30ms)"
        )
    return LatencyTarget(**read_plan(Path(plan)).target)


def _default_out(identity: dict[str, Any], device: str) -> Path:
    """Return the folder of an unfinished run of the same options on the device, else a new one."""
    words = (identity["model"], identity["data"], device)
    plain = "-".join(
        "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in word) for word in words
    )
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    runs = platformdirs.user_data_path("boardfit") / "runs"
    for number in itertools.count(1):
        folder = runs / (f"{plain}-{digest}" + (f"-{number}" if number > 1 else ""))
        if not (folder / "record.json").exists():
            return folder
    raise AssertionError("itertools.count ends never")
