"""The training loop: SGD with a cosine schedule, optionally from a teacher, resumable at every epoch."""

import copy
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from host.compress.batches import Batches
from host.compress.distributed import ALONE, World
from host.compress.ema import AveragedNetwork
from host.compress.evaluation import Evaluation, device_of, evaluate, recalibrate_batch_norm
from host.compress.history import EpochRecord, History, TrainingError
from host.compress.layouts import fastest_layout, lay_out
from host.compress.losses import Objective
from host.compress.recipe import Distillation, Recipe
from host.compress.training_state import TrainingState, fingerprint, load_state_file, store_state
from host.datasets.dataset import Dataset3

__all__ = [
    "Distillation", "EpochRecord", "Evaluation", "History", "Recipe", "TrainingError", "evaluate",
    "recalibrate_batch_norm", "train",
]  # fmt: skip

# Trying out a memory layout costs about ten steps, which a short training would not win back.
LAYOUT_TRIAL_MIN_STEPS = 100
LEAST_IMAGES = 2  # of a process in a batch: batch norm fails on one


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
    world: World = ALONE,
) -> History:
    """Train `module` in place on data.train, and leave it in evaluation mode with the best epoch by data.validation.

    Runs on a GPU where there is one and brings the module back. Longer trainings try channels-last weights and take the faster
    layout. Recipe, seed, machine, layout and number of processes fix the weights to the last bit, whether or not the training was
    cut in between. With a deadline (seconds, over all resumed parts) the schedule follows epochs or time, whichever is further
    on, so that it ends annealed. `state_file` is written after every epoch; `resume` goes on from it where it exists. `clock`
    counts seconds. Every process of `world` calls this alike; the chief alone writes the file and calls `on_epoch`, and all
    end with the same weights.

    Raises TrainingError on a loss that is not finite, for a failure of the user's functions, and for a state file of another
    training; UserCodeError where there are no such functions.
    """
    if (recipe.distillation is None) != (teacher is None) and (teacher is None or not (recipe.loss or recipe.step)):
        raise ValueError("distillation needs both a teacher and Recipe.distillation; give both or neither")
    if deadline_s is not None and deadline_s <= 0:
        raise ValueError(f"deadline_s must be positive, got {deadline_s}")
    threads, home = torch.get_num_threads(), device_of(module)
    device = world.device(home)
    teacher_home = None if teacher is None else device_of(teacher)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            if recipe.threads is not None:
                torch.set_num_threads(recipe.threads)
            taught_by = None if teacher is None else teacher.to(device).eval()
            trained = module.to(device)
            if recipe.sync_batch_norm and world.size > 1:
                if device.type != "cuda":
                    raise TrainingError(
                        "sync_batch_norm works on GPUs only: leave it out of the recipe, or use one process"
                    )
                trained = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(module))  # type: ignore[no-untyped-call]
            run = _Run(trained, data, recipe, taught_by, device, deadline_s, state_file, clock, world)
            history = run.go(on_epoch, run.stored() if resume else None)
            module.load_state_dict(run.best)
            return history
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
        world: World,
    ) -> None:
        self.module, self.data, self.recipe, self.device, self.world = module, data, recipe, device, world
        self.deadline_s, self.state_file, self.clock = deadline_s, state_file, clock
        self.objective = Objective(recipe, teacher)
        self.batches = Batches(data, recipe.augmentation, device, world)
        self.batch = min(recipe.batch_size, len(self.batches))
        if self.batch < LEAST_IMAGES * world.size:
            raise TrainingError(
                f"{world.size} processes cannot share a batch of {self.batch} images: each needs {LEAST_IMAGES}. "
                f"Raise the batch size, or start fewer"
            )
        # A short last batch is left out (other images each epoch): batch norm fails on a batch of one.
        self.steps = len(self.batches) // self.batch
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
        self.best: Mapping[str, Tensor] = {}
        self.spent_s = 0.0
        self.layout: str | None = None  # None: as the module came

    def go(self, on_epoch: Callable[[EpochRecord], None] | None, state: TrainingState | None) -> History:
        if state is not None:
            self.module.load_state_dict(state.module)
            self.optimizer.load_state_dict(dict(state.optimizer))
            self.best, self.records, self.spent_s = state.best, list(state.records), state.spent_s
            self.layout = state.layout
        elif self.steps * self.recipe.epochs >= LAYOUT_TRIAL_MIN_STEPS:
            images = self.batches.images[: self.batch][self.world.share(self.batch)].to(self.device)
            # All try, since synchronised batch norm waits for all. The chief's choice holds: other layouts, other orders of sums.
            self.layout = self.world.from_chief(fastest_layout(self.module, images, self.clock))
        if self.layout is not None:
            lay_out(self.module, self.layout)
        # After the layout, which replaces buffers.
        self.wrapped = self.world.wrap(self.module, self.device)
        self.average = None if self.recipe.ema is None else AveragedNetwork(self.module, self.recipe.ema)
        if self.average is not None and state is not None and state.average is not None:
            self.average.module.load_state_dict(state.average)
            self.average.steps = state.average_steps
        stopped = self._stopped()
        while stopped is None:
            self.records.append(self._epoch(len(self.records) + 1))
            if self._best_epoch() == len(self.records):
                kept = self._kept().state_dict().items()
                self.best = {key: value.detach().to("cpu", copy=True) for key, value in kept}
            if self.world.chief:
                self._store()
                if on_epoch is not None:
                    on_epoch(self.records[-1])
            stopped = self._stopped()
        # Statistics of batch norm are each process's own.
        self.best = self.world.from_chief(self.best)
        return History(epochs=tuple(self.records), best_epoch=self._best_epoch(), stopped=stopped)

    def _stopped(self) -> Literal["finished", "deadline", "early"] | None:
        if len(self.records) >= self.recipe.epochs:
            return "finished"
        early = self.recipe.early_stop
        if early is not None and early.due([record.validation_accuracy for record in self.records]):
            return "early"
        return "deadline" if self._time_progress() >= 1 else None

    def _epoch(self, epoch: int) -> EpochRecord:
        """Draws depend on seed and epoch alone, so a resumed training repeats the uninterrupted one."""
        recipe, began = self.recipe, self.clock()
        spent_before = self.spent_s
        seed = recipe.seed * 100_003 + epoch
        torch.manual_seed(seed + self.world.rank * 1_000_000_007)  # dropout, which is no share of a whole batch's
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(self.batches), generator=generator)
        self.wrapped.train()
        loss_sum, correct, judged, seen, rate = 0.0, 0, 0, 0, recipe.learning_rate
        for step in range(self.steps):
            progress = (epoch - 1 + step / self.steps) / recipe.epochs
            progress = max(progress, self._time_progress())
            if progress >= 1 and seen:
                break
            rate = recipe.learning_rate_at(min(progress, 1.0))
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            batch = self.batches.make(order[step * self.batch : (step + 1) * self.batch], generator)
            loss, logits = self.objective(self.wrapped, batch, epoch=epoch, step=step + 1)
            count = len(batch.labels)
            right = 0 if logits is None else int((logits.detach().argmax(1) == batch.main_labels).sum())
            value, right = self._over_all(float(loss.detach()), right, count)
            if not math.isfinite(value):
                raise TrainingError(self._explain(value, epoch, step, rate))
            self.optimizer.zero_grad(set_to_none=True)
            if self.world.size > 1:
                loss = loss * (
                    count * self.world.size / self.batch
                )  # gradients are averaged over processes, not images
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            if self.average is not None:
                self.average.update()
            loss_sum += value * self.batch
            correct += right
            judged += 0 if logits is None else self.batch
            seen += self.batch
            self.spent_s = spent_before + self.clock() - began
        validation = self._validate()
        if not math.isfinite(validation.loss):
            raise TrainingError(self._explain(validation.loss, epoch, self.steps, rate, "validation loss"))
        seconds = self.world.from_chief(self.clock() - began)
        self.spent_s = spent_before + seconds
        return EpochRecord(
            epoch=epoch,
            train_loss=loss_sum / seen,
            train_accuracy=correct / judged if judged else None,
            validation_loss=validation.loss,
            validation_accuracy=validation.accuracy,
            learning_rate=rate,
            seconds=seconds,
        )

    def _over_all(self, loss: float, right: int, count: int) -> tuple[float, int]:
        """The mean loss and the sum of right answers over the whole batch."""
        if self.world.size == 1:
            return loss, right
        total, correct = self.world.sums([loss * count, right], self.device)
        return total / self.batch, round(correct)

    def _kept(self) -> nn.Module:
        return self.module if self.average is None else self.average.module

    def _validate(self) -> Evaluation:
        split, found = self.data.validation, None
        if self.world.chief:
            found = evaluate(self._kept(), split.images, split.labels)
        found = self.world.from_chief(found)
        assert found is not None
        return found

    def _explain(self, value: float, epoch: int, step: int, rate: float, what: str = "loss") -> str:
        source = self.recipe.step or self.recipe.loss
        return (
            f"the {what} became {value} in epoch {epoch}, step {step + 1} of {self.steps}, "
            f"at learning rate {rate:.4g}. Try a tenth of the learning rate "
            f"({self.recipe.learning_rate / 10:.3g}) or a longer warm-up, and check the data for "
            f"values that are not finite{'' if source is None else f', and {source} for divisions and logarithms'}."
        )

    def _time_progress(self) -> float:
        if self.deadline_s is None:
            return 0.0
        return self.world.from_chief(self.spent_s / self.deadline_s)

    def _best_epoch(self) -> int:
        return max(self.records, key=lambda record: (record.validation_accuracy, -record.epoch)).epoch

    def _fingerprint(self) -> dict[str, Any]:
        return fingerprint(
            self.recipe,
            data_name=self.data.name,
            images=len(self.batches),
            shapes={key: list(value.shape) for key, value in self.module.state_dict().items()},
            workers=self.world.size,
        )

    def _store(self) -> None:
        if self.state_file is None:
            return
        average = self.average
        state = TrainingState(
            module=self.module.state_dict(),
            optimizer=self.optimizer.state_dict(),
            best=self.best,
            records=tuple(self.records),
            spent_s=self.spent_s,
            layout=self.layout,
            average=None if average is None else average.module.state_dict(),
            average_steps=0 if average is None else average.steps,
        )
        store_state(self.state_file, state, self._fingerprint())

    def stored(self) -> TrainingState | None:
        """The state in the file, None if there is no file. The chief reads it for all: other machines may not have it."""
        state: TrainingState | None = None
        error: TrainingError | None = None
        if self.world.chief and self.state_file is not None and self.state_file.exists():
            try:
                state = load_state_file(self.state_file, self._fingerprint())
            except TrainingError as refused:
                error = refused
        state, error = self.world.from_chief((state, error))
        if error is not None:
            raise error
        return state
