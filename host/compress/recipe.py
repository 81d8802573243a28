"""How a net is trained: plain values, checked when made."""

import math
from dataclasses import dataclass, field

from host.datasets.augment import Augmentation
from host.user_code import is_factory


@dataclass(frozen=True, slots=True, kw_only=True)
class Distillation:
    """Learning from a teacher's soft outputs (Hinton et al., 2015, arXiv 1503.02531).

    loss = (1 - weight) CE(student, labels) + weight T^2 KL(teacher / T || student / T), T the temperature.
    """

    temperature: float = 4.0
    weight: float = 0.7

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"temperature must be positive, got {self.temperature}")
        if not 0 <= self.weight <= 1:
            raise ValueError(f"weight must lie in 0 - 1, got {self.weight}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ema:
    """An exponential moving average of the weights and of batch norm's statistics; it is what is evaluated and kept.

    After step t the average moves by 1 - d towards the weights, d = min(decay, (1 + t) / (10 + t)), so that it soon forgets its
    start.
    """

    decay: float = 0.999

    def __post_init__(self) -> None:
        if not 0 < self.decay < 1:
            raise ValueError(f"decay must lie between 0 and 1, got {self.decay}")

    def decay_at(self, step: int) -> float:
        """The decay after `step` steps, counted from 1."""
        return min(self.decay, (1 + step) / (10 + step))


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyStop:
    """Stop once `patience` epochs in a row have not raised the validation accuracy (0 - 1) by more than `min_delta`.

    The learning rate has not come down to zero then, as the schedule is made for all epochs.
    """

    patience: int = 5
    min_delta: float = 0.0

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise ValueError(f"patience must be at least 1 epoch, got {self.patience}")
        if not 0 <= self.min_delta < 1:
            raise ValueError(f"min_delta must lie in 0 - 1, 1 excluded, got {self.min_delta}")

    def due(self, accuracies: list[float]) -> bool:
        """Whether to stop after epochs of these validation accuracies."""
        reference, waited = -math.inf, 0
        for accuracy in accuracies:
            improved = accuracy > reference + self.min_delta
            reference, waited = (accuracy, 0) if improved else (reference, waited + 1)
        return waited >= self.patience


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """SGD with Nesterov momentum; the learning rate rises linearly for `warmup_epochs`, then falls as a cosine to zero.

    Weight decay spares biases and batch norm. `threads` None leaves torch's own count. `loss` and `step` name functions of the
    user's as package.module:function (docs/training.md). `batch_size` images make a batch however many processes share it;
    `sync_batch_norm` lets processes on GPUs share their batch statistics too.
    """

    epochs: int = 24
    batch_size: int = 64
    learning_rate: float = 0.05
    weight_decay: float = 5e-4
    momentum: float = 0.9
    label_smoothing: float = 0.1
    warmup_epochs: float = 1.0
    seed: int = 0
    distillation: Distillation | None = None
    augmentation: Augmentation | None = field(default_factory=Augmentation)
    ema: Ema | None = None
    early_stop: EarlyStop | None = None
    loss: str | None = None
    step: str | None = None
    sync_batch_norm: bool = False
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs must be at least 1, got {self.epochs}")
        if self.batch_size < 2:
            raise ValueError(f"batch_size must be at least 2 (batch norm needs two images), got {self.batch_size}")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must lie in 0 - 1, 1 excluded, got {self.momentum}")
        if not (self.weight_decay >= 0 and math.isfinite(self.weight_decay)):
            raise ValueError(f"weight_decay must not be negative, got {self.weight_decay}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in 0 - 1, 1 excluded, got {self.label_smoothing}")
        if not (self.warmup_epochs >= 0 and math.isfinite(self.warmup_epochs)):
            raise ValueError(f"warmup_epochs must not be negative, got {self.warmup_epochs}")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads must be at least 1, got {self.threads}")
        for name in ("loss", "step"):
            value = getattr(self, name)
            if value is not None and not is_factory(value):
                raise ValueError(f"{name} must have the form package.module:function, got {value!r}")
        if self.loss is not None and self.step is not None:
            raise ValueError(
                f"loss and step exclude each other (got {self.loss} and {self.step}): a step has a loss of its own"
            )

    def learning_rate_at(self, progress: float) -> float:
        """The rate when the fraction `progress` (0 - 1) of the whole training is done."""
        warmup = min(self.warmup_epochs / self.epochs, 0.5)
        if progress < warmup:
            # Not from zero: the first step should move the weights.
            return self.learning_rate * (0.1 + 0.9 * progress / warmup)
        done = min(1.0, (progress - warmup) / (1 - warmup))
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
