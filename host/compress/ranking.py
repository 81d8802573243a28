"""How good a plan is before any training: the cut network refitted, and its answers compared with the original's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from host.compress.cuts import PrunableNetwork
from host.compress.reconstruction import Reconstruction, images_for
from host.compress.sensitivity import calibration_batches
from host.compress.suffix import one_thread
from host.compress.surgery import prune
from host.datasets.dataset import Split

#: Images that the weights of a candidate are refitted on, and those that rank it.
FITTED_IMAGES = 128
RANKED_IMAGES = 384
#: Positions per image whose outputs the weights of a candidate are refitted to.
POSITIONS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """`divergence` is the mean Kullback-Leibler divergence (nats) of a candidate's answers from the original's; lower is better.

    The original knows by heart the labels of images that it was trained on; its answers to them tell more.
    """

    divergence: float
    accuracy: float


class Ranking:
    """Ranks plans on training images, so that validation stays clean for the choice of epochs.

    Plans are cut from `start`, whose channels `network` describes; `teacher` is the original.
    """

    def __init__(
        self, network: PrunableNetwork, start: nn.Module, teacher: nn.Module, split: Split, *, seed: int
    ) -> None:
        self._network, self._start = network, start
        count = images_for(network, FITTED_IMAGES)
        # Another draw than that of the losses and of the criterion.
        batches = calibration_batches(split, count + RANKED_IMAGES, batch_size=count, seed=seed + 1)
        self._reconstruction = Reconstruction(network, start, batches[0][0], positions=POSITIONS, seed=seed)
        self._batches = batches[1:] or batches
        with torch.no_grad(), one_thread():
            self._answers = [F.log_softmax(teacher(images), 1) for images, _ in self._batches]

    @torch.no_grad()
    def rank(self, kept: Mapping[str, Sequence[int]]) -> Rank:
        """Return how near a cut to the channels `kept` by group comes to the original."""
        module = prune(self._network, self._start, kept)
        self._reconstruction.fit(module, kept)
        divergence, correct, count = 0.0, 0, 0
        with one_thread():
            for (images, labels), answers in zip(self._batches, self._answers, strict=True):
                logits: Tensor = module(images)
                own = F.log_softmax(logits, 1)
                divergence += float(F.kl_div(own, answers, reduction="sum", log_target=True))
                correct += int((logits.argmax(1) == labels).sum())
                count += len(labels)
        return Rank(divergence=divergence / count, accuracy=correct / count)
