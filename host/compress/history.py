"""What a training did, epoch by epoch, and the error that ends one."""

from dataclasses import dataclass
from typing import Literal

from device_agent.contract.errors import StableError


class TrainingError(StableError):
    """Training cannot go on; the message says where it stopped and what to try."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """One epoch. `epoch` counts from 1; accuracies are in 0 - 1; `learning_rate` is that of its last step.

    `train_accuracy` is on augmented images as they were learned (of mixed ones by the label of the larger part); None where a
    step function of the user's keeps the logits to itself. Validation is of the averaged weights where there are such.
    """

    epoch: int
    train_loss: float
    train_accuracy: float | None
    validation_loss: float
    validation_accuracy: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """All epochs, those before a resume included. The module holds the weights of `best_epoch`."""

    epochs: tuple[EpochRecord, ...]
    best_epoch: int
    stopped: Literal["finished", "deadline", "early"]

    @property
    def best(self) -> EpochRecord:
        """The epoch of the highest validation accuracy, the earliest of equals."""
        return self.epochs[self.best_epoch - 1]
