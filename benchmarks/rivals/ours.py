"""`host compress` through its Python API, with the options' defaults but for the fine-tuning budget."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from benchmarks.rivals.subjects import CLASSES, SHAPE
from benchmarks.rivals.trial import BATCH, OutOfReach, Pruned, Shot, Trial
from host.compress.observer import Observer
from host.compress.options import CompressOptions, LatencyTarget
from host.compress.pipeline import compress
from host.compress.subject import Subject
from host.compress.surgery import load_compressed
from host.search.planner import Infeasible
from host.search.program import Program
from host.zoo.registry import ZooModel


class _Watching(Observer):
    """Says what goes on."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial

    def stage(self, text: str) -> None:
        self._trial.say(text)

    def note(self, text: str) -> None:
        self._trial.say(f"  {text}")


@contextmanager
def _planning_timed() -> Iterator[list[float]]:
    """Collect the seconds of every solution of the integer program, in whichever stage it is asked for."""
    solve, seconds = Program.minimise, []

    def timed(self: Program, *arguments: Any, **more: Any) -> Any:
        began = time.perf_counter()
        try:
            return solve(self, *arguments, **more)
        finally:
            seconds.append(time.perf_counter() - began)

    Program.minimise = timed  # type: ignore[method-assign]
    try:
        yield seconds
    finally:
        Program.minimise = solve  # type: ignore[method-assign]


def ours(trial: Trial, target: float) -> Pruned:
    """The compressed module as `host compress` wrote it, trained; its record is among the notes."""
    out = trial.folder / "ours"
    model = ZooModel(name=trial.net.name, module=trial.baseline, input_shape=SHAPE, num_classes=CLASSES)
    options = CompressOptions(
        model=trial.net.name,
        data=trial.data.name,
        target=LatencyTarget(ratio=target),
        epochs=trial.net.epochs,
        batch_size=BATCH,
        threads=1,
        precision="float32",
        seed=trial.seed,
    )
    torch.set_num_threads(trial.threads)
    try:
        with _planning_timed() as planning:
            record = compress(
                options, Subject(model=model, data=trial.data), trial.measuring, out=out, observer=_Watching(trial)
            )
    except Infeasible as error:
        raise OutOfReach(str(error)) from error
    epochs = sum(len(each["epochs"]) for each in record["training"])
    trial.images_seen += epochs * (len(trial.data.train) // BATCH) * BATCH
    trial.tuning_s += record["times"]["training_seconds"]
    loaded = load_compressed(out / "model.pt", trial.net.build)
    low, high = record["result"]["latency_ratio_interval"] or (None, None)
    shot = Shot(ratio=record["result"]["latency_ratio"], low=low, high=high)
    return Pruned(
        module=loaded.module.eval(),
        shot=shot,
        notes={"record": record, "planning_s": sum(planning), "plans_solved": len(planning)},
    )
