"""Fine-tuning of a pruned network, with the original as its teacher."""

from __future__ import annotations

import dataclasses

from host.compress.recipe import Distillation, Recipe
from host.compress.session import Session, State
from host.compress.training import EpochRecord, train


def fine_tune(session: Session, state: State, *, name: str, epochs: int) -> State:
    """Train the state's module in place, the original as its teacher; resumes within a training that was cut."""
    options = session.options
    session.observer.stage(f"{name}: fine-tuning for {epochs} epoch{'s' if epochs > 1 else ''}")
    recipe = Recipe(
        epochs=epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        label_smoothing=0.0,
        warmup_epochs=0.5,
        seed=options.seed,
        distillation=Distillation(),
    )

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

    history = train(
        state.module,
        session.subject.data,
        recipe,
        teacher=session.original,
        on_epoch=count,
        state_file=session.out / f"{name.replace(' ', '-')}.training",
        resume=True,
    )
    session.observer.skipped_s += sum(each.seconds for each in history.epochs) - trained_here
    session.trace.training(name, [dataclasses.asdict(each) for each in history.epochs], history.best_epoch)
    return state
