"""ModelOpt's FastNAS (NVIDIA, Apache-2.0): accuracy lost per layer and width, then the largest loss that all layers may have.

It takes a budget of FLOPs only; the one that meets the latency is found by bisection. The accuracies are measured once, on
validation images, after its own recalibration of batch norm. Its divisor is set to 8 channels, from 32, wider than these nets.
"""

from __future__ import annotations

import contextlib
import copy
import io
import warnings

import torch
from torch import Tensor, nn

from benchmarks.rivals.meeting import bisect
from benchmarks.rivals.planned import STEP
from benchmarks.rivals.trial import Pruned, Trial, accuracy_of

SCORED_IMAGES = 512
RECALIBRATION_BATCHES = 4


class _Batches:
    """A data loader over what is in memory: batches of images and labels."""

    def __init__(self, batches: tuple[tuple[Tensor, Tensor], ...]) -> None:
        self._batches = batches

    def __iter__(self) -> object:
        return iter(self._batches)

    def __len__(self) -> int:
        return len(self._batches)


def fastnas(trial: Trial, target: float) -> Pruned:
    """The subnet of the FLOPs budget that meets the target."""
    import modelopt.torch.prune as mtp
    from modelopt.torch.prune.fastnas import FastNASConfig

    warnings.filterwarnings("ignore", module="modelopt")
    split = trial.data.validation.take(slice(0, SCORED_IMAGES))
    scored = tuple(
        zip(
            torch.split(torch.from_numpy(split.images), 128),
            torch.split(torch.from_numpy(split.labels), 128),
            strict=True,
        )
    )
    config = FastNASConfig().model_dump()
    for rule in config.values():
        for each in rule.values() if isinstance(rule, dict) else ():
            for name in ("channel_divisor", "feature_divisor"):
                if isinstance(each, dict) and name in each:
                    each[name] = STEP
    checkpoint = trial.folder / "fastnas.pt"
    checkpoint.unlink(missing_ok=True)

    def propose(share: float) -> nn.Module:
        module = copy.deepcopy(trial.baseline)
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            pruned: nn.Module = mtp.prune(
                module,
                mode=[("fastnas", config)],
                constraints={"flops": f"{100 * share:.3f}%"},
                dummy_input=trial.example[:1],
                config={
                    "data_loader": _Batches(trial.batches()),
                    "score_func": lambda net: accuracy_of(net, scored),
                    "checkpoint": str(checkpoint),
                    "max_iter_data_loader": RECALIBRATION_BATCHES,
                    "verbose": False,
                },
            )[0]
        return pruned

    met = bisect(trial, propose, target, low=_least(trial))
    return Pruned(module=met.module, notes={"flops_share": met.dial})


def _least(trial: Trial) -> float:
    """Return the share of MACs of its narrowest subnet, and a little: it leaves residual streams alone and refuses less."""
    network = trial.analysed.network
    full = network.full_plan().kept
    inner = {
        name: STEP if name.startswith("layer") and name.endswith("conv1") else width for name, width in full.items()
    }
    return network.macs(inner) / network.macs(full) + 0.01
