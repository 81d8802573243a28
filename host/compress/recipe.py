"""How a net is trained: plain values, checked when made."""

import math
from dataclasses import dataclass, field

from host.datasets.augment import Augmentation


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
            raise ValueError(f"distillation weight must lie in 0 - 1, got {self.weight}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """SGD with Nesterov momentum; the learning rate rises linearly for `warmup_epochs`, then falls as a
    cosine to zero.

    Weight decay spares biases and batch norm. `threads` None leaves torch's own count.
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
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must not be negative, got {self.weight_decay}")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in 0 - 1, 1 excluded, got {self.label_smoothing}")
        if self.warmup_epochs < 0:
            raise ValueError(f"warmup_epochs must not be negative, got {self.warmup_epochs}")
        if self.threads is not None and self.threads < 1:
            raise ValueError(f"threads must be at least 1, got {self.threads}")

    def learning_rate_at(self, progress: float) -> float:
        """The rate when the fraction `progress` (0 - 1) of the whole training is done."""
        warmup = min(self.warmup_epochs / self.epochs, 0.5)
        if progress < warmup:
            # Not from zero: the first step should move the weights.
            return self.learning_rate * (0.1 + 0.9 * progress / warmup)
        done = min(1.0, (progress - warmup) / (1 - warmup))
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
