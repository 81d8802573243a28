"""From a choice of channels to a network that can be trained on: cut, weights refitted, batch norm recalibrated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from host.compress.cuts import PrunableNetwork
from host.compress.evaluation import recalibrate_batch_norm
from host.compress.reconstruction import Reconstruction, images_for
from host.compress.sensitivity import calibration_batches
from host.compress.surgery import prune
from host.datasets.dataset import Split

#: Images that the weights are refitted on, and batches that batch norm is recalibrated on.
FITTED_IMAGES = 512
RECALIBRATION_BATCHES = 4


def cut_and_refit(
    network: PrunableNetwork, module: nn.Module, kept: Mapping[str, Sequence[int]], split: Split, *, seed: int
) -> nn.Module:
    """Return a copy of `module` with only the channels `kept` of each group, as near to it as its own weights can be brought.

    `split` are training images; their labels are not used.
    """
    cut = prune(network, module, kept)
    count = images_for(network, FITTED_IMAGES)
    images = calibration_batches(split, count, batch_size=count, seed=seed)[0][0]
    Reconstruction(network, module, images, seed=seed).fit(cut, kept)
    recalibrate_batch_norm(cut, split.images, RECALIBRATION_BATCHES)
    return cut
