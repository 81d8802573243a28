"""The loss of a training step: cross entropy, distillation, or what the user's own function says."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from host.compress.batches import Batch
from host.compress.history import TrainingError
from host.compress.recipe import Distillation, Recipe
from host.user_code import resolve


@dataclass(frozen=True, slots=True, kw_only=True)
class StepContext:
    """What a user's step may look at. It runs `module` on `images` and returns a scalar loss; the rest of a step is done for it.

    `module` is in training mode (call it, rather than a part of it: with several processes it averages their gradients);
    `teacher` in evaluation mode, or None; `images` (N, C, H, W) augmented; `labels` (N,). Mixed images belong by `share` (0 - 1)
    to `labels` and by the rest to `other_labels`, None where nothing is mixed. `epoch` and `step` count from 1.
    `usual_loss` takes logits (N, classes) to the loss that the recipe would give without a step.
    """

    module: nn.Module
    teacher: nn.Module | None
    images: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)
    other_labels: Tensor | None = field(repr=False)
    share: float
    recipe: Recipe
    epoch: int
    step: int
    usual_loss: Callable[[Tensor], Tensor] = field(repr=False)


class Objective:
    """The loss of a batch under a recipe. The user's functions are found when this is made: UserCodeError, TrainingError."""

    def __init__(self, recipe: Recipe, teacher: nn.Module | None) -> None:
        self.recipe, self.teacher = recipe, teacher
        self._step = None if recipe.step is None else resolve(recipe.step)
        self._label_loss: Callable[[Tensor, Tensor], Tensor] = _smoothed(recipe.label_smoothing)
        self._whole_loss: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
        if recipe.loss is not None:
            function, name = resolve(recipe.loss), f"loss function {recipe.loss}"
            if takes_teacher(function, name):
                if teacher is None:
                    raise TrainingError(
                        f"the {name} takes a teacher's logits, and there is no teacher here (host compress has one): "
                        f"give it two parameters, logits and labels"
                    )
                self._whole_loss = lambda *tensors: _call(name, function, *tensors)
            else:
                self._label_loss = lambda *tensors: _call(name, function, *tensors)

    def __call__(self, module: nn.Module, batch: Batch, *, epoch: int, step: int) -> tuple[Tensor, Tensor | None]:
        """The scalar loss, and the logits (N, classes) unless the user's step has them to itself."""
        if self._step is None:
            logits = module(batch.images)
            return self.loss(logits, batch), logits
        context = StepContext(
            module=module,
            teacher=self.teacher,
            images=batch.images,
            labels=batch.labels,
            other_labels=batch.other_labels,
            share=batch.share,
            recipe=self.recipe,
            epoch=epoch,
            step=step,
            usual_loss=lambda logits: self.loss(logits, batch),
        )
        return _call(f"step function {self.recipe.step}", self._step, context), None

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """The loss of `logits` (N, classes): linear in the labels' shares, as mixup and CutMix have it."""
        if self._whole_loss is not None:
            whole, taught = self._whole_loss, self._taught(batch)
            return _shared(batch, lambda labels: whole(logits, labels, taught))
        plain = _shared(batch, lambda labels: self._label_loss(logits, labels))
        distillation = self.recipe.distillation
        if distillation is None or self.teacher is None:
            return plain
        return (1 - distillation.weight) * plain + distillation.weight * _soft(
            logits, self._taught(batch), distillation
        )

    def _taught(self, batch: Batch) -> Tensor:
        assert self.teacher is not None
        with torch.no_grad():
            taught: Tensor = self.teacher(batch.images)
        return taught


def find_functions(recipe: Recipe) -> None:
    """Find the user's functions now, rather than after hours. Raises UserCodeError, TrainingError."""
    if recipe.step is not None:
        resolve(recipe.step)
    if recipe.loss is not None:
        takes_teacher(resolve(recipe.loss), f"loss function {recipe.loss}")


def needs_teacher(recipe: Recipe) -> bool:
    """Whether a training by `recipe` has a use for a teacher. Raises UserCodeError, TrainingError."""
    if recipe.distillation is not None or recipe.step is not None:
        return True
    return recipe.loss is not None and takes_teacher(resolve(recipe.loss), f"loss function {recipe.loss}")


def label_loss(recipe: Recipe) -> Callable[[Tensor, Tensor], Tensor] | None:
    """The user's loss of logits and labels, for what else needs one; None where there is none or it takes a teacher's logits.

    Raises UserCodeError, TrainingError.
    """
    if recipe.loss is None:
        return None
    function, name = resolve(recipe.loss), f"loss function {recipe.loss}"
    return None if takes_teacher(function, name) else lambda *tensors: _call(name, function, *tensors)


def takes_teacher(function: Callable[..., Any], name: str) -> bool:
    """Whether a loss takes (logits, labels, teacher_logits), rather than (logits, labels). Raises TrainingError for others."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a builtin
        return False
    for count in (3, 2):
        try:
            signature.bind(*range(count))
        except TypeError:
            continue
        # An option with a default, such as a weight, is not meant for the teacher's logits.
        third = list(signature.parameters.values())[2:3] if count == 3 else []
        return count == 3 and (not third or third[0].default is inspect.Parameter.empty)
    raise TrainingError(
        f"the {name} takes {signature}; it must take (logits, labels) or (logits, labels, teacher_logits)"
    )


def _call(name: str, function: Callable[..., Any], *arguments: Any) -> Tensor:
    try:
        value = function(*arguments)
    except TrainingError:  # of a loss inside a step
        raise
    except Exception as error:
        theirs = error.__traceback__.tb_next if error.__traceback__ is not None else None
        text = "".join(traceback.format_exception(type(error), error, theirs)).rstrip()
        raise TrainingError(f"the {name} failed with {type(error).__name__}: {error}\n{text}") from error
    if not isinstance(value, Tensor) or value.ndim != 0:
        got = f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise TrainingError(f"the {name} returned {got}; it must return a scalar tensor, such as a mean over the batch")
    if torch.is_grad_enabled() and not value.requires_grad:
        raise TrainingError(
            f"the {name} returned a loss without a gradient; compute it from the logits, without detach or item"
        )
    return value


def _smoothed(smoothing: float) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda logits, labels: F.cross_entropy(logits, labels, label_smoothing=smoothing)


def _shared(batch: Batch, loss: Callable[[Tensor], Tensor]) -> Tensor:
    if batch.other_labels is None:
        return loss(batch.labels)
    return batch.share * loss(batch.labels) + (1 - batch.share) * loss(batch.other_labels)


def _soft(logits: Tensor, taught: Tensor, distillation: Distillation) -> Tensor:
    heat = distillation.temperature
    soft = F.kl_div(
        F.log_softmax(logits / heat, 1), F.log_softmax(taught / heat, 1), reduction="batchmean", log_target=True
    )
    return heat * heat * soft
