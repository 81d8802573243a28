"""A tiny net and data that it learns in a second, and what processes of a shared training run in tests."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from host.compress.distributed import World, joined
from host.compress.losses import StepContext
from host.compress.recipe import Recipe
from host.compress.training import EpochRecord, train
from host.datasets.augment import Augmentation
from host.datasets.dataset import Dataset3, Split

RECIPE = Recipe(epochs=4, batch_size=16, augmentation=Augmentation(padding=0), threads=1)


def striped(count: int, seed: int) -> Split:
    """Class 0 has horizontal stripes, class 1 vertical ones, both in noise: (N, 1, 8, 8)."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(count) % 2).astype(np.int64)
    images = random.normal(0, 0.4, (count, 1, 8, 8)).astype(np.float32)
    images[labels == 0, :, ::2] += 1
    images[labels == 1, :, :, ::2] += 1
    return Split(images=images, labels=labels)


def stripes() -> Dataset3:
    return Dataset3(
        name="stripes", num_classes=2, train=striped(200, 0), validation=striped(60, 1), test=striped(40, 2)
    )


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )


def plain_net(seed: int = 0) -> nn.Module:
    """Nothing in it looks at the other images of a batch or draws."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )


def same_weights(first: nn.Module, second: nn.Module) -> bool:
    return all(torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items())


class Stop(Exception):
    pass


def stop_after(epoch: int) -> Callable[[EpochRecord], None]:
    def look(record: EpochRecord) -> None:
        if record.epoch == epoch:
            raise Stop

    return look


# What a recipe may name.

steps: list[tuple[int, int, int]] = []


def counted_step(context: StepContext) -> Tensor:
    """The usual loss; (epoch, step, images) go to `steps`."""
    steps.append((context.epoch, context.step, len(context.images)))
    return context.usual_loss(context.module(context.images))


def broken_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return logits[:, labels.max() + 7].mean()


def squared_error(logits: Tensor, labels: Tensor) -> Tensor:
    return ((logits.softmax(1) - nn.functional.one_hot(labels, 2)) ** 2).sum(1).mean()


def to_the_teacher(logits: Tensor, labels: Tensor, teacher_logits: Tensor) -> Tensor:
    return (logits - teacher_logits).square().mean()


def one_of_two(rank: int, folder: Path, recipe: Recipe) -> None:
    """A process of two: what it did and ended with goes to RANK.json."""
    with joined(World(rank=rank, size=2, local_rank=rank), meeting_file=folder / "meeting") as world:
        module, told = net(seed=rank), []
        history = train(module, stripes(), recipe, on_epoch=told.append, state_file=folder / "state", world=world)
        weights = {key: value.tolist() for key, value in module.state_dict().items()}
    _write(folder / f"{rank}.json", steps=steps, told=len(told), weights=weights, best=history.best_epoch)


def under_torchrun(rank: int, folder: Path, port: int, arguments: list[str]) -> None:
    """`host train` with the environment that torchrun gives; what it printed goes to RANK.json."""
    from click.testing import CliRunner

    from host.cli.train import command

    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    done = CliRunner().invoke(command, arguments, catch_exceptions=False)
    _write(folder / f"{rank}.json", code=done.exit_code, out=done.stdout, err=done.stderr)


def _write(path: Path, **content: Any) -> None:
    path.write_text(json.dumps(content))
