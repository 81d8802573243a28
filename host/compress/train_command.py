"""`host train` without the command line: data and model by name, a training, a checkpoint with its
provenance.
"""

import dataclasses
import os
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from host.compress.counting import count_macs, count_parameters
from host.compress.distributed import ALONE, World
from host.compress.evaluation import Evaluation, evaluate
from host.compress.recipe import Recipe
from host.compress.training import EpochRecord, History, train
from host.compress.workers import train_on
from host.datasets.dataset import DataError, Dataset3, check_fits
from host.datasets.loading import load_data
from host.zoo.checkpoint import Checkpoint, save_checkpoint
from host.zoo.registry import ZooModel, entry, load_model, names


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """What a training ended with. `test` was evaluated once, on the weights of the best validation epoch."""

    model: str
    data: str
    checkpoint: Path
    history: History
    validation: Evaluation
    test: Evaluation
    macs: int
    parameters: int
    seconds: float
    command: str


def run_training(
    model: str,
    *,
    data: str,
    out: Path,
    recipe: Recipe,
    width: float | None = None,
    input_size: int | None = None,
    resume: bool = False,
    on_start: Callable[[ZooModel, Dataset3], None] | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    recipe_file: Path | None = None,
    workers: int = 1,
    world: World = ALONE,
) -> TrainingResult | None:
    """Train `model` on `data` from seeded random weights and write the checkpoint `out`.

    After each epoch the state goes to `OUT.partial`; `resume` goes on from it, and the end removes it.
    Without `resume` a partial file is an error, so that hours are not overwritten by a repeated command.
    `recipe_file` is named in the command that the checkpoint remembers. `workers` processes are started to share the training, or
    every process of `world` calls this: the chief alone writes and has a result, the others None.
    """
    partial = out.with_name(out.name + ".partial")
    if partial.exists() and not resume:
        raise DataError(f"{partial} holds an unfinished training: add --resume to go on with it, or delete it")
    check_writable(out)
    began = time.monotonic()
    size = input_size if input_size is not None or model not in names() else entry(model).input_size
    loaded = load_data(data, input_size=size)
    channels, height, image_width = loaded.input_shape
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        built = load_model(
            model,
            num_classes=loaded.num_classes,
            in_channels=channels,
            input_size=height if height == image_width else None,
            width=width,
        )
    check_fits(loaded, built.input_shape, built.num_classes, model=model)
    if on_start is not None:
        on_start(built, loaded)
    if workers > 1:
        history = train_on(workers, built.module, loaded, recipe, on_epoch=on_epoch, state_file=partial, resume=resume)
    else:
        history = train(built.module, loaded, recipe, on_epoch=on_epoch, state_file=partial, resume=resume, world=world)
    if not world.chief:
        return None
    validation = evaluate(built.module, loaded.validation.images, loaded.validation.labels)
    test = evaluate(built.module, loaded.test.images, loaded.test.labels)
    command = training_command(
        model,
        data=data,
        out=out,
        recipe=recipe,
        width=width,
        input_size=input_size,
        recipe_file=recipe_file,
        workers=max(workers, world.size),
    )
    scale = loaded.normalisation
    save_checkpoint(
        out,
        Checkpoint(
            state=built.module.state_dict(),
            architecture=model,
            arguments=built.arguments,
            metadata={
                "data": loaded.name,
                "normalisation": None if scale is None else {"mean": list(scale.mean), "std": list(scale.std)},
                "validation_accuracy": validation.accuracy,
                "test_accuracy": test.accuracy,
                "test_images": test.count,
                "epochs": len(history.epochs),
                "best_epoch": history.best_epoch,
                "command": command,
                "recipe": dataclasses.asdict(recipe),
                "torch": str(torch.__version__),
            },
        ),
    )
    partial.unlink(missing_ok=True)
    return TrainingResult(
        model=model,
        data=loaded.name,
        checkpoint=out,
        history=history,
        validation=validation,
        test=test,
        macs=count_macs(built.module, built.input_shape),
        parameters=count_parameters(built.module),
        seconds=time.monotonic() - began,
        command=command,
    )


def check_writable(out: Path) -> None:
    """Raise DataError now where `out` could not be written at the end of the training."""
    if out.is_dir():
        raise DataError(f"{out} is a folder; name a file for the checkpoint")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"the folder of {out} cannot be made ({error.strerror}); name another place") from error
    if not os.access(out.parent, os.W_OK):
        raise DataError(f"{out.parent} cannot be written to; name another place for the checkpoint")


def training_command(
    model: str,
    *,
    data: str,
    out: Path,
    recipe: Recipe,
    width: float | None,
    input_size: int | None,
    recipe_file: Path | None = None,
    workers: int = 1,
) -> str:
    """The shell command that repeats a training; only the file name of `out`, since folders differ."""
    words = ["host", "train", model, "--data", data, "--out", out.name]
    words += [] if recipe_file is None else ["--recipe", str(recipe_file)]
    words += ["--epochs", str(recipe.epochs), "--batch-size", str(recipe.batch_size)]
    words += ["--learning-rate", str(recipe.learning_rate)]
    words += [] if width is None else ["--width", str(width)]
    words += [] if input_size is None else ["--input-size", str(input_size)]
    words += ["--seed", str(recipe.seed)]
    words += [] if workers == 1 else ["--workers", str(workers)]
    if recipe.augmentation is None:
        words += ["--no-augment"]
    elif not recipe.augmentation.flip:
        words += ["--no-flip"]
    return shlex.join(words)
