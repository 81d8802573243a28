"""`host train MODEL --data DATA`: train a model on a data set, to a checkpoint that `host compress` starts
from.
"""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import platformdirs

from host.cli import render

if TYPE_CHECKING:
    from host.compress.recipe import Recipe
    from host.compress.train_command import TrainingResult
    from host.compress.training import EpochRecord

SCHEMA = 1
_STOPPED = {"finished": "", "early": "; stopped early, as more no longer helped", "deadline": "; stopped in time"}


@click.command("train", short_help="Train a model on a data set, to a checkpoint.")
@click.argument("model")
@click.option("--data", required=True, help="fashion-mnist, npz:FILE, folder:DIR or package.module:factory.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The checkpoint to write; by default MODEL-DATA.pt below the user's data folder.",
)
@click.option(
    "--recipe",
    "recipe_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML file of how to train (docs/training.md); options given here go before it.",
)
@click.option("--epochs", type=click.IntRange(min=1), help="[default: 24]")
@click.option("--batch-size", type=click.IntRange(min=2), help="[default: 64]")
@click.option(
    "--learning-rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Highest rate of the schedule: a rise over the first epoch, then a cosine to zero.  [default: 0.05]",
)
@click.option("--width", type=click.FloatRange(min=0, min_open=True), help="Multiplier of a zoo model's channels.")
@click.option(
    "--input-size",
    type=click.IntRange(min=1),
    help="Side in pixels that the images of a folder are scaled to.",
)
@click.option("--seed", type=int, help="[default: 0]")
@click.option("--augment/--no-augment", default=None, help="Random crops and flips.  [default: augment]")
@click.option("--flip/--no-flip", default=None, help="Left-right flips; off for digits and text.  [default: flip]")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Processes that share every batch; by default one per GPU with 32 images of it or more.",
)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads; by default torch's own choice.")
@click.option("--resume", is_flag=True, help="Go on with an unfinished training of the same options.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(
    model: str,
    data: str,
    out: Path | None,
    recipe_file: Path | None,
    epochs: int | None,
    batch_size: int | None,
    learning_rate: float | None,
    width: float | None,
    input_size: int | None,
    seed: int | None,
    augment: bool | None,
    flip: bool | None,
    workers: int | None,
    threads: int | None,
    resume: bool,
    as_json: bool,
) -> None:
    """Train MODEL, a zoo name or package.module:factory, and keep the epoch that is best on the validation
    images.

    Stopped at any moment, the same command with --resume goes on after the last whole epoch. On several machines:
    torchrun ... -m host train MODEL --data DATA.
    """
    from host.compress.distributed import joined, launched
    from host.compress.train_command import run_training
    from host.compress.workers import worker_count

    if launched() and workers is not None:
        raise click.UsageError("torchrun has started the processes already: leave --workers away")
    target = out if out is not None else _default_out(model, data, width)
    recipe = _recipe(
        recipe_file,
        augment=augment,
        flip=flip,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        seed=seed,
        threads=threads,
    )
    try:
        with joined() as world:
            result = run_training(
                model,
                data=data,
                out=target,
                recipe=recipe,
                width=width,
                input_size=input_size,
                resume=resume,
                on_epoch=lambda record: click.echo(_progress(record, recipe.epochs), err=True),
                recipe_file=recipe_file,
                workers=1 if launched() else worker_count(workers, recipe.batch_size),
                world=world,
            )
    except KeyboardInterrupt:
        click.echo(
            "stopped; the same command with --resume goes on after the last whole epoch, if there is one", err=True
        )
        raise
    if result is None:  # the chief speaks for all
        return
    if as_json:
        render.print_json(_document(result))
    else:
        console = render.console()
        console.print(render.facts(_rows(result)))
        # A path that a table breaks cannot be copied.
        console.print(f"checkpoint            {result.checkpoint}", soft_wrap=True, markup=False, highlight=False)


def _recipe(file: Path | None, *, augment: bool | None, flip: bool | None, **given: Any) -> "Recipe":
    """Return the defaults under the file under the options that were given."""
    from host.compress.recipe import Recipe
    from host.compress.recipe_file import RecipeInvalid, laid_over, over_file, read_recipe
    from host.datasets.augment import Augmentation

    values = {} if file is None else read_recipe(file)
    recipe = laid_over(Recipe(), values, source=f"the recipe {file}")
    if recipe.distillation is not None:
        raise RecipeInvalid(
            f"the recipe {file}: [distillation] is for host compress; host train has no teacher, so leave it out"
        )
    augmentation = recipe.augmentation
    if augment is not None:
        augmentation = (augmentation or Augmentation()) if augment else None
    if flip is not None and augmentation is not None:
        augmentation = replace(augmentation, flip=flip)
    try:
        return replace(recipe, augmentation=augmentation, **over_file(values, **given))
    except ValueError as error:
        raise click.UsageError(str(error)) from error


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
        ("epochs", f"{len(history.epochs)}, the best is {history.best_epoch}{_STOPPED[history.stopped]}"),
        ("MACs", render.count_text(result.macs)),
        ("parameters", render.count_text(result.parameters)),
        ("time", render.seconds_text(result.seconds)),
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
        "stopped": result.history.stopped,
        "epochs": [asdict(record) for record in result.history.epochs],
        "seconds": result.seconds,
        "command": result.command,
    }
