"""The training loop: SGD with a cosine schedule, optionally from a teacher, resumable at every epoch."""

import copy
import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from host.compress.evaluation import Evaluation, device_of, evaluate, recalibrate_batch_norm
from host.compress.history import EpochRecord, History, TrainingError
from host.compress.recipe import Distillation, Recipe
from host.datasets.dataset import Dataset3
from host.zoo.checkpoint import write_atomically

__all__ = [
    "Distillation", "EpochRecord", "Evaluation", "History", "Recipe", "TrainingError", "evaluate",
    "recalibrate_batch_norm", "train",
]  # fmt: skip

# Trying out a memory layout costs about ten steps, which a short training would not win back.
LAYOUT_TRIAL_MIN_STEPS = 100
LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}


def train(
    module: nn.Module,
    data: Dataset3,
    recipe: Recipe,
    *,
    teacher: nn.Module | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    deadline_s: float | None = None,
    state_file: Path | None = None,
    resume: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> History:
    """Train `module` in place on data.train, and leave it in evaluation mode with the best epoch by data.validation.

    Runs on a GPU where there is one and brings the module back. Longer trainings try channels-last weights and take
    the faster layout. Recipe, seed, machine and layout fix the weights to the last bit, whether or not the training was
    cut in between. With a deadline (seconds, over all resumed parts) the schedule follows epochs or time, whichever is
    further on, so that it ends annealed. `state_file` is written after every epoch; `resume` goes on from it where it
    exists. `clock` counts seconds.

    Raises TrainingError on a loss that is not finite, and for a state file of another training.
    """
    if (recipe.distillation is None) != (teacher is None):
        raise ValueError("distillation needs both a teacher and Recipe.distillation; give both or neither")
    if deadline_s is not None and deadline_s <= 0:
        raise ValueError(f"deadline_s must be positive, got {deadline_s}")
    threads = torch.get_num_threads()
    home = device_of(module)
    device = torch.device("cuda") if torch.cuda.is_available() else home
    teacher_home = None if teacher is None else device_of(teacher)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            if recipe.threads is not None:
                torch.set_num_threads(recipe.threads)
            run = _Run(module.to(device), data, recipe, teacher, device, deadline_s, state_file, clock)
            if resume:
                run.restore()
            return run.go(on_epoch)
        finally:
            module.to(home, memory_format=torch.contiguous_format)  # type: ignore[call-overload]
            module.eval()
            if teacher is not None:
                teacher.to(teacher_home)
            torch.set_num_threads(threads)


class _Run:
    """One call of `train`: what the epochs share."""

    def __init__(
        self,
        module: nn.Module,
        data: Dataset3,
        recipe: Recipe,
        teacher: nn.Module | None,
        device: torch.device,
        deadline_s: float | None,
        state_file: Path | None,
        clock: Callable[[], float],
    ) -> None:
        self.module, self.data, self.recipe, self.device = module, data, recipe, device
        self.teacher = None if teacher is None else teacher.to(device).eval()
        self.deadline_s, self.state_file, self.clock = deadline_s, state_file, clock
        self.images = torch.from_numpy(data.train.images)
        self.labels = torch.from_numpy(data.train.labels)
        self.batch = min(recipe.batch_size, len(self.labels))
        # A short last batch is left out (other images each epoch): batch norm fails on a batch of one.
        self.steps = len(self.labels) // self.batch
        channels = data.input_shape[0]
        self.fill = data.normalisation.black if data.normalisation is not None else (0.0,) * channels
        decayed = [p for p in module.parameters() if p.requires_grad and p.ndim > 1]
        spared = [p for p in module.parameters() if p.requires_grad and p.ndim <= 1]
        self.optimizer = torch.optim.SGD(
            [
                {"params": decayed, "weight_decay": recipe.weight_decay},
                {"params": spared, "weight_decay": 0.0},
            ],
            lr=recipe.learning_rate,
            momentum=recipe.momentum,
            nesterov=recipe.momentum > 0,
        )
        self.records: list[EpochRecord] = []
        self.best: dict[str, Tensor] = {}
        self.spent_s = 0.0
        self.layout: torch.memory_format | None = None  # None: as the module came

    def go(self, on_epoch: Callable[[EpochRecord], None] | None) -> History:
        if self.layout is None and self.steps * self.recipe.epochs >= LAYOUT_TRIAL_MIN_STEPS:
            self.layout = self._fastest_layout()
        if self.layout is not None:
            self.module.to(memory_format=self.layout)  # type: ignore[call-overload]
        stopped: Literal["finished", "deadline"] = "finished"
        while len(self.records) < self.recipe.epochs:
            if self._time_progress() >= 1:
                stopped = "deadline"
                break
            record = self._epoch(len(self.records) + 1)
            self.records.append(record)
            if self._best_epoch() == record.epoch:
                self.best = {key: value.detach().clone() for key, value in self.module.state_dict().items()}
            self._store()
            if on_epoch is not None:
                on_epoch(record)
        self.module.load_state_dict(self.best)
        return History(epochs=tuple(self.records), best_epoch=self._best_epoch(), stopped=stopped)

    def _epoch(self, epoch: int) -> EpochRecord:
        """Draws depend on seed and epoch alone, so a resumed training repeats the uninterrupted one."""
        recipe, began = self.recipe, self.clock()
        spent_before = self.spent_s
        torch.manual_seed(recipe.seed * 100_003 + epoch)
        generator = torch.Generator().manual_seed(recipe.seed * 100_003 + epoch)
        order = torch.randperm(len(self.labels), generator=generator)
        self.module.train()
        loss_sum, correct, seen, rate = 0.0, 0, 0, recipe.learning_rate
        for step in range(self.steps):
            progress = (epoch - 1 + step / self.steps) / recipe.epochs
            progress = max(progress, self._time_progress())
            if progress >= 1 and seen:
                break
            rate = recipe.learning_rate_at(min(progress, 1.0))
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            chosen = order[step * self.batch : (step + 1) * self.batch]
            images, labels = self.images[chosen].to(self.device), self.labels[chosen].to(self.device)
            if recipe.augmentation is not None:
                images = recipe.augmentation.apply(images, generator, self.fill)
            logits = self.module(images)
            loss = self._loss(images, logits, labels)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise TrainingError(self._explain(value, epoch, step, rate))
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            loss_sum += value * len(chosen)
            correct += int((logits.argmax(1) == labels).sum())
            seen += len(chosen)
            self.spent_s = spent_before + self.clock() - began
        validation = evaluate(self.module, self.data.validation.images, self.data.validation.labels)
        if not math.isfinite(validation.loss):
            raise TrainingError(self._explain(validation.loss, epoch, self.steps, rate, "validation loss"))
        seconds = self.clock() - began
        self.spent_s = spent_before + seconds
        return EpochRecord(
            epoch=epoch,
            train_loss=loss_sum / seen,
            train_accuracy=correct / seen,
            validation_loss=validation.loss,
            validation_accuracy=validation.accuracy,
            learning_rate=rate,
            seconds=seconds,
        )

    def _loss(self, images: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        plain = F.cross_entropy(logits, labels, label_smoothing=self.recipe.label_smoothing)
        distillation = self.recipe.distillation
        if distillation is None or self.teacher is None:
            return plain
        with torch.no_grad():
            taught = self.teacher(images)
        heat = distillation.temperature
        soft = F.kl_div(
            F.log_softmax(logits / heat, 1),
            F.log_softmax(taught / heat, 1),
            reduction="batchmean",
            log_target=True,
        )
        return (1 - distillation.weight) * plain + distillation.weight * heat * heat * soft

    def _explain(self, value: float, epoch: int, step: int, rate: float, what: str = "loss") -> str:
        return (
            f"the {what} became {value} in epoch {epoch}, step {step + 1} of {self.steps}, "
            f"at learning rate {rate:.4g}. Try a tenth of the learning rate "
            f"({self.recipe.learning_rate / 10:.3g}) or a longer warm-up, and check the data for "
            f"values that are not finite."
        )

    def _time_progress(self) -> float:
        return 0.0 if self.deadline_s is None else self.spent_s / self.deadline_s

    def _best_epoch(self) -> int:
        return max(self.records, key=lambda record: (record.validation_accuracy, -record.epoch)).epoch

    def _fastest_layout(self) -> torch.memory_format:
        """The layout of weights with which forward and backward ran faster, tried on copies."""
        images = self.images[: self.batch].to(self.device)
        seconds: dict[torch.memory_format, float] = {}
        for layout in LAYOUTS.values():
            trial = copy.deepcopy(self.module).train().to(memory_format=layout)  # type: ignore[call-overload]
            turns = []
            for _ in range(4):
                began = self.clock()
                trial(images.contiguous(memory_format=layout)).sum().backward()
                if self.device.type == "cuda":
                    torch.cuda.synchronize()
                turns.append(self.clock() - began)
            seconds[layout] = min(turns)
        return min(seconds, key=lambda layout: seconds[layout])

    def _fingerprint(self) -> dict[str, Any]:
        values = dataclasses.asdict(self.recipe)
        del values["threads"]
        shapes = {key: list(value.shape) for key, value in self.module.state_dict().items()}
        return {"recipe": values, "data": [self.data.name, len(self.labels)], "shapes": shapes}

    def _store(self) -> None:
        if self.state_file is not None:
            write_atomically(
                self.state_file,
                {
                    "training_state": 1,
                    "fingerprint": self._fingerprint(),
                    "module": self.module.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "best": self.best,
                    "records": [dataclasses.asdict(record) for record in self.records],
                    "spent_s": self.spent_s,
                    # Sums are formed in another order in another layout, so a resumed training keeps to it.
                    "layout": next((name for name, layout in LAYOUTS.items() if layout is self.layout), None),
                },
            )

    def restore(self) -> None:
        """Go on from the state file, if there is one."""
        path = self.state_file
        if path is None or not path.exists():
            return
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            fingerprint, records = state["fingerprint"], [EpochRecord(**row) for row in state["records"]]
        except Exception as error:
            reason = str(error).partition("\n")[0]
            raise TrainingError(f"{path} cannot be resumed from: {reason}. Delete it to start over.") from error
        mine = self._fingerprint()
        for part, value in mine.items():
            if fingerprint.get(part) != value:
                raise TrainingError(
                    f"{path} is of another training: other {part} "
                    f"({_difference(fingerprint.get(part), value)}). "
                    f"Repeat the options it was begun with, or delete it to start over."
                )
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.best, self.records, self.spent_s = state["best"], records, state["spent_s"]
        self.layout = LAYOUTS.get(state["layout"])


def _difference(theirs: Any, mine: Any) -> str:
    if isinstance(theirs, dict) and isinstance(mine, dict):
        keys = [key for key in {**theirs, **mine} if theirs.get(key) != mine.get(key)]
        return ", ".join(f"{key}: {theirs.get(key)} there, {mine.get(key)} here" for key in keys[:3])
    return f"{theirs} there, {mine} here"
