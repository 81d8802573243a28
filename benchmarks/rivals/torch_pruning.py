"""Torch-Pruning 1.6.1 (Fang et al. 2023, arXiv 2301.12900): one pruning ratio, or one ranking over the whole net.

Its graph fails on shortcuts padded with zeros, so layers whose outputs are on the residual stream are left alone, as are the
last layer's. The ratio that meets the target is found by bisection on measured latency. Its `round_to` rounds down, and a
layer that would be rounded to nothing keeps all its channels; so each layer is made to keep at least one step.
"""

from __future__ import annotations

import copy
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.rivals.meeting import bisect
from benchmarks.rivals.planned import STEP
from benchmarks.rivals.trial import Pruned, Trial


def on_stream(module: nn.Module) -> list[nn.Module]:
    """Return the layers of a CIFAR ResNet whose outputs are on the residual stream, and the classifier."""
    return [
        layer
        for name, layer in module.named_modules()
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and (name in ("conv1", "linear") or name.endswith("conv2"))
    ]


class _Floored:
    """An importance whose STEP highest scores per group are out of every ranking's reach."""

    def __init__(self, importance: Any) -> None:
        self._importance = importance

    def __call__(self, group: Any, **more: Any) -> Tensor | None:
        scores: Tensor | None = self._importance(group, **more)
        if scores is None or len(scores) <= STEP:
            return scores
        scores = scores.clone()
        scores[scores.topk(STEP).indices] += 1e9
        return scores


def torch_pruning(trial: Trial, target: float, *, criterion: str, everywhere: bool) -> Pruned:
    """`criterion` is l2 or taylor; `everywhere` ranks all layers' channels together, else each layer loses the same share."""
    import torch_pruning as tp

    gradients = _gradients(trial) if criterion == "taylor" else None

    def propose(keep: float) -> nn.Module:
        module = copy.deepcopy(trial.baseline).eval()
        importance = (
            tp.importance.GroupTaylorImportance()
            if criterion == "taylor"
            else tp.importance.GroupMagnitudeImportance(p=2)
        )
        kept_apart = on_stream(module)
        prunable = [layer for layer in module.modules() if isinstance(layer, nn.Conv2d) and layer not in kept_apart]
        shares = {layer: min(1 - keep, 1 - STEP / layer.out_channels) for layer in prunable}
        pruner = tp.pruner.BasePruner(
            module,
            trial.example,
            importance=_Floored(importance),
            global_pruning=everywhere,
            pruning_ratio=1 - keep,
            pruning_ratio_dict=None if everywhere else shares,
            ignored_layers=kept_apart,
            round_to=STEP,
        )
        for parameter, gradient in zip(module.parameters(), gradients or (), strict=False):
            parameter.grad = gradient.clone()
        pruner.step()
        for parameter in module.parameters():
            parameter.grad = None
        return module

    channels = [layer.out_channels for layer in trial.baseline.modules() if isinstance(layer, nn.Conv2d)]
    streams = [layer.out_channels for layer in on_stream(trial.baseline) if isinstance(layer, nn.Conv2d)]
    prunable_layers = len(channels) - len(streams)
    narrowest = (STEP * prunable_layers + 0.5) / (sum(channels) - sum(streams)) if everywhere else STEP / max(channels)
    met = bisect(trial, propose, target, low=narrowest)
    return Pruned(module=met.module, notes={"pruning_ratio": 1 - met.dial})


def _gradients(trial: Trial) -> list[Tensor]:
    """Return the gradients of the baseline's parameters, summed over the calibration batches."""
    module = copy.deepcopy(trial.baseline).eval()
    for images, labels in trial.batches():
        F.cross_entropy(module(images), labels).backward()  # type: ignore[no-untyped-call]
    return [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
