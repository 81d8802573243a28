"""Fine-tuning of a pruned network, with the original as its teacher."""

from __future__ import annotations

import dataclasses

from host.compress.history import EpochRecord
from host.compress.losses import find_functions, needs_teacher
from host.compress.options import CompressOptions
from host.compress.recipe import Distillation, Recipe
from host.compress.recipe_file import laid_over
from host.compress.session import Session, State
from host.compress.workers import train_on, worker_count

#: What the options say themselves, whatever a file says; epochs there are over all rounds.
_OPTIONS = ("epochs", "batch_size", "learning_rate", "seed")


def recipe_for(options: CompressOptions, epochs: int) -> Recipe:
    """The recipe of one fine-tuning of so many epochs: the defaults of compression under what the options say.

    Raises RecipeInvalid.
    """
    base = Recipe(
        epochs=epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        label_smoothing=0.0,
        warmup_epochs=0.5,
        seed=options.seed,
        distillation=Distillation(),
    )
    rest = {key: value for key, value in options.recipe.items() if key not in _OPTIONS}
    return laid_over(base, rest, source="the recipe")


def check_recipe(options: CompressOptions) -> None:
    """Find the recipe's functions and count the workers, before anything is measured.

    Raises RecipeInvalid, UserCodeError, TrainingError, InvalidRequest.
    """
    find_functions(recipe_for(options, options.epochs))
    worker_count(options.workers, options.batch_size)


def fine_tune(session: Session, state: State, *, name: str, epochs: int) -> State:
    """Train the state's module in place, the original as its teacher; resumes within a training that was cut."""
    options = session.options
    session.observer.stage(f"{name}: fine-tuning for {epochs} epoch{'s' if epochs > 1 else ''}")
    recipe = recipe_for(options, epochs)

    def on_epoch(record: EpochRecord) -> None:
        session.observer.step(record.epoch, epochs)
        session.observer.note(
            f"epoch {record.epoch}: loss {record.train_loss:.3f}, validation accuracy {record.validation_accuracy:.1%}"
        )

    trained_here = 0.0

    def count(record: EpochRecord) -> None:
        nonlocal trained_here
        trained_here += record.seconds
        on_epoch(record)

    history = train_on(
        worker_count(options.workers, options.batch_size),
        state.module,
        session.subject.data,
        recipe,
        teacher=session.original if needs_teacher(recipe) else None,
        on_epoch=count,
        state_file=session.out / f"{name.replace(' ', '-')}.training",
        resume=True,
    )
    session.observer.skipped_s += sum(each.seconds for each in history.epochs) - trained_here
    session.trace.training(name, [dataclasses.asdict(each) for each in history.epochs], history.best_epoch)
    return state
