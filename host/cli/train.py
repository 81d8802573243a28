"""`host train MODEL --data DATA`: train a model on a data set, to a checkpoint that `host compress` starts
from.
"""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import platformdirs

from host.cli import render

if TYPE_CHECKING:
    from host.compress.train_command import TrainingResult
    from host.compress.training import EpochRecord

SCHEMA = 1


@click.command("train", short_help="Train a model on a data set, to a checkpoint.")
@click.argument("model")
@click.option("--data", required=True, help="fashion-mnist, npz:FILE, folder:DIR or package.module:factory.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The checkpoint to write; by default MODEL-DATA.pt below the user's data folder.",
)
@click.option("--epochs", type=click.IntRange(min=1), default=24, show_default=True)
@click.option("--batch-size", type=click.IntRange(min=2), default=64, show_default=True)
@click.option(
    "--learning-rate",
    type=click.FloatRange(min=0, min_open=True),
    default=0.05,
    show_default=True,
    help="Highest rate of the schedule: a rise over the first epoch, then a cosine to zero.",
)
@click.option("--width", type=click.FloatRange(min=0, min_open=True), help="Multiplier of a zoo model's channels.")
@click.option(
    "--input-size",
    type=click.IntRange(min=1),
    help="Side in pixels that the images of a folder are scaled to.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--augment/--no-augment", default=True, show_default=True, help="Random crops and flips.")
@click.option("--flip/--no-flip", default=True, show_default=True, help="Left-right flips; off for digits and text.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads; by default torch's own choice.")
@click.option("--resume", is_flag=True, help="Go on with an unfinished training of the same options.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    model: str,
    data: str,
    out: Path | None,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    width: float | None,
    input_size: int | None,
    seed: int,
    augment: bool,
    flip: bool,
    threads: int | None,
    resume: bool,
    as_json: bool,
) -> None:
    """Train MODEL, a zoo name or package.module:factory, and keep the epoch that is best on the validation
    images.

    Stopped at any moment, the same command with --resume goes on after the last whole epoch.
    """
    from host.compress.recipe import Recipe
    from host.compress.train_command import run_training
    from host.datasets.augment import Augmentation

    target = out if out is not None else _default_out(model, data, width)
    try:
        recipe = Recipe(
            epochs=epochs,
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=seed,
            augmentation=Augmentation(flip=flip) if augment else None,
            threads=threads,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    try:
        result = run_training(
            model,
            data=data,
            out=target,
            recipe=recipe,
            width=width,
            input_size=input_size,
            resume=resume,
            on_epoch=lambda record: click.echo(_progress(record, epochs), err=True),
        )
    except KeyboardInterrupt:
        click.echo(
            "stopped; the same command with --resume goes on after the last whole epoch, if there is one", err=True
        )
        raise
    if as_json:
        render.print_json(_document(result))
    else:
        render.console().print(render.facts(_rows(result)))


def _default_out(model: str, data: str, width: float | None) -> Path:
    words = [model, *([] if width is None else [f"w{width}"]), data]
    plain = "".join(letter if letter.isalnum() or letter in "._-" else "-" for letter in "-".join(words))
    return platformdirs.user_data_path("boardfit") / "checkpoints" / f"{plain}.pt"


def _progress(record: "EpochRecord", epochs: int) -> str:
    left = render.seconds_text((epochs - record.epoch) * record.seconds)
    return (
        f"epoch {record.epoch}/{epochs}  loss {record.train_loss:.3f}  "
        f"validation accuracy {render.percent_text(record.validation_accuracy)}  "
        f"{render.seconds_text(record.seconds)}, about {left} left"
    )


def _rows(result: "TrainingResult") -> list[tuple[str, str]]:
    test, validation, history = result.test, result.validation, result.history
    return [
        ("model", f"{result.model} on {result.data}"),
        ("test accuracy", f"{render.percent_text(test.accuracy, 2)} of {test.count} images"),
        ("validation accuracy", f"{render.percent_text(validation.accuracy, 2)} of {validation.count} images"),
        ("epochs", f"{len(history.epochs)}, the best is {history.best_epoch}"),
        ("MACs", render.count_text(result.macs)),
        ("parameters", render.count_text(result.parameters)),
        ("time", render.seconds_text(result.seconds)),
        ("checkpoint", str(result.checkpoint)),
    ]


def _document(result: "TrainingResult") -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "model": result.model,
        "data": result.data,
        "checkpoint": str(result.checkpoint),
        "accuracy": result.test.accuracy,
        "validation_accuracy": result.validation.accuracy,
        "test_images": result.test.count,
        "validation_images": result.validation.count,
        "macs": result.macs,
        "parameters": result.parameters,
        "best_epoch": result.history.best_epoch,
        "epochs": [asdict(record) for record in result.history.epochs],
        "seconds": result.seconds,
        "command": result.command,
    }
