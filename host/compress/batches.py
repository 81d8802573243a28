"""Augmented batches of the training images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from host.compress.distributed import World
from host.datasets.augment import Augmentation, apply_view
from host.datasets.dataset import Dataset3


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Images (N, C, H, W) and labels (N,). Mixed images belong by `share` (0 - 1) to `labels`, by the rest to `other_labels`."""

    images: Tensor
    labels: Tensor
    other_labels: Tensor | None = None
    share: float = 1.0

    @property
    def main_labels(self) -> Tensor:
        """The label of the larger part of each image."""
        return self.labels if self.other_labels is None or self.share >= 0.5 else self.other_labels


class Batches:
    """Makes this process's share of every batch. What is random is drawn for the whole batch, alike in every process."""

    def __init__(self, data: Dataset3, augmentation: Augmentation | None, device: torch.device, world: World) -> None:
        self.images, self.labels = torch.from_numpy(data.train.images), torch.from_numpy(data.train.labels)
        self.augmentation, self.device, self.world = augmentation, device, world
        channels = data.input_shape[0]
        self.fill = data.normalisation.black if data.normalisation is not None else (0.0,) * channels

    def __len__(self) -> int:
        return len(self.labels)

    def make(self, chosen: Tensor, generator: torch.Generator) -> Batch:
        """The share of the batch of the training images at `chosen`; every call draws from `generator` for the whole batch."""
        mine = self.world.share(len(chosen))
        labels = self.labels[chosen]
        augmentation = self.augmentation
        if augmentation is None:
            return Batch(images=self.images[chosen[mine]].to(self.device), labels=labels[mine].to(self.device))
        height, width = self.images.shape[2:]
        view = augmentation.draw_view(len(chosen), height, width, generator)
        mix = augmentation.draw_mix(len(chosen), height, width, generator)

        def viewed(rows: Tensor | slice) -> Tensor:
            return apply_view(self.images[chosen[rows]].to(self.device), view.of(rows), self.fill)

        images = viewed(mine)
        if mix is None:
            return Batch(images=images, labels=labels[mine].to(self.device))
        alone = self.world.size == 1  # then the partners are in the batch already
        partners = images[mix.partner.to(self.device)] if alone else viewed(mix.partner[mine])
        return Batch(
            images=mix.apply(images, partners),
            labels=labels[mine].to(self.device),
            other_labels=labels[mix.partner[mine]].to(self.device),
            share=mix.share,
        )
