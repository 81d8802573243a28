"""Augmentation of whole batches, in torch: crops, flips, erased rectangles, and images mixed with others of their batch.

What is random is drawn first, for the whole batch, and then applied to any rows of it. So the processes of a distributed
training, each with some rows, make together exactly the batch that one process would make.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

#: Share of the image and height to width of an erased rectangle (Zhong et al. 2017).
ERASED_AREA = (0.02, 0.33)
ERASED_ASPECT = (0.3, 1 / 0.3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Values of zero turn their part off.

    `padding`: a crop of the original size out of the image padded by so many pixels. `flip`: left-right with probability 1/2.
    `erase`: the probability that a rectangle of 2 - 33 % of the image is erased (random erasing, Zhong et al. 2017, arXiv
    1708.04896). `cutout`: side in pixels of a square that is erased at a random place in every image, partly outside
    at times (DeVries and Taylor 2017, arXiv 1708.04552). What is erased becomes 0, the mean of normalised images.

    `mixup` and `cutmix` are the alpha of the Beta(alpha, alpha) that the share of an image is drawn from, once per batch: mixup
    adds two images (Zhang et al. 2018, arXiv 1710.09412), CutMix puts a rectangle of one into the other (Yun et al. 2019, arXiv
    1905.04899). Given both, each batch takes one with equal odds; `mix_probability` is the share of batches that are mixed.
    """

    padding: int = 4
    flip: bool = True
    erase: float = 0.0
    cutout: int = 0
    mixup: float = 0.0
    cutmix: float = 0.0
    mix_probability: float = 1.0

    def __post_init__(self) -> None:
        for name in ("padding", "cutout"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0 pixels, got {getattr(self, name)}")
        for name in ("erase", "mix_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is a probability and must lie in 0 - 1, got {getattr(self, name)}")
        for name in ("mixup", "cutmix"):
            if not (getattr(self, name) >= 0 and math.isfinite(getattr(self, name))):
                raise ValueError(f"{name} must be 0 (off) or a positive alpha, got {getattr(self, name)}")

    @property
    def mixes(self) -> bool:
        """Whether images are mixed at all."""
        return self.mix_probability > 0 and (self.mixup > 0 or self.cutmix > 0)

    def apply(self, images: Tensor, generator: torch.Generator, fill: tuple[float, ...]) -> Tensor:
        """All but the mixing, (N, C, H, W) to the same; `fill` is the padding's value per channel, `generator` a CPU one."""
        count, _, height, width = images.shape
        return apply_view(images, self.draw_view(count, height, width, generator), fill)

    def draw_view(self, count: int, height: int, width: int, generator: torch.Generator) -> View:
        """Draw how each of `count` images is cropped, flipped and erased."""
        pad = self.padding
        rows = torch.arange(height).expand(count, height)
        columns = torch.arange(width).expand(count, width)
        if self.flip:
            flipped = torch.rand(count, 1, generator=generator) < 0.5
            columns = torch.where(flipped, columns.flip(1), columns)
        if pad:
            offsets = torch.randint(0, 2 * pad + 1, (2, count, 1), generator=generator)
            rows, columns = rows + offsets[0], columns + offsets[1]
        boxes = []
        if self.erase:
            boxes.append(_erased(self.erase, count, height, width, generator))
        if self.cutout:
            middle = torch.rand(count, 2, generator=generator) * torch.tensor([height, width])
            top_left = middle.floor().long() - self.cutout // 2
            boxes.append(torch.cat([top_left, top_left + self.cutout], 1))
        return View(padding=pad, rows=rows, columns=columns, erased=tuple(boxes))

    def draw_mix(self, count: int, height: int, width: int, generator: torch.Generator) -> Mix | None:
        """Draw how a batch is mixed, None where it is not."""
        if not self.mixes or float(torch.rand(1, generator=generator)) >= self.mix_probability:
            return None
        cut = self.cutmix > 0 and (not self.mixup or float(torch.rand(1, generator=generator)) < 0.5)
        partner = torch.randperm(count, generator=generator)
        alpha = self.cutmix if cut else self.mixup
        # torch draws from a Beta without taking a generator.
        seed = int(torch.randint(0, 2**62, (1,), generator=generator))
        share = float(np.random.default_rng(seed).beta(alpha, alpha))
        if not cut:
            return Mix(partner=partner, share=share, box=None)
        side = math.sqrt(1 - share)
        row, column = (torch.rand(2, generator=generator) * torch.tensor([height, width])).floor().long().tolist()
        top, left = max(0, row - round(side * height / 2)), max(0, column - round(side * width / 2))
        bottom, right = min(height, row + round(side * height / 2)), min(width, column + round(side * width / 2))
        covered = (bottom - top) * (right - left) / (height * width)
        return Mix(partner=partner, share=1 - covered, box=(top, left, bottom, right))


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How each image of a batch is looked at: pixel rows (N, H) and columns (N, W) of the padded image, and erased boxes.

    A tensor of `erased` holds (top, left, bottom, right) in pixels, the last two excluded, of one box per image (N, 4).
    """

    padding: int
    rows: Tensor
    columns: Tensor
    erased: tuple[Tensor, ...]

    def of(self, chosen: Tensor | slice) -> View:
        """The views of some images of the batch."""
        erased = tuple(boxes[chosen] for boxes in self.erased)
        return View(padding=self.padding, rows=self.rows[chosen], columns=self.columns[chosen], erased=erased)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mix:
    """Image i is mixed with image `partner`[i] (N,), and keeps the `share` (0 - 1) of its label.

    With a `box` (top, left, bottom, right; the last two excluded) the partner's pixels stand there; without, both are added.
    """

    partner: Tensor
    share: float
    box: tuple[int, int, int, int] | None

    def apply(self, images: Tensor, partners: Tensor) -> Tensor:
        """Images and their partners, both (N, C, H, W), to mixed images of that shape."""
        if self.box is None:
            return torch.lerp(partners, images, self.share)
        top, left, bottom, right = self.box
        mixed = images.clone()
        mixed[:, :, top:bottom, left:right] = partners[:, :, top:bottom, left:right]
        return mixed


def apply_view(images: Tensor, view: View, fill: tuple[float, ...]) -> Tensor:
    """(N, C, H, W) to the same shape; `fill` is the value of the padding per channel."""
    count, channels, height, width = images.shape
    pad, device = view.padding, images.device
    if pad:
        padded = images.new_tensor(fill).reshape(1, channels, 1, 1).repeat(count, 1, height + 2 * pad, width + 2 * pad)
        padded[:, :, pad : pad + height, pad : pad + width] = images
        images = padded
    index = torch.arange(count, device=device)[:, None, None]
    picked = images[index, :, view.rows.to(device)[:, :, None], view.columns.to(device)[:, None, :]]
    for boxes in view.erased:
        top, left, bottom, right = (side[:, None] for side in boxes.unbind(1))
        y, x = torch.arange(height), torch.arange(width)
        inside = ((y >= top) & (y < bottom))[:, :, None] & ((x >= left) & (x < right))[:, None, :]
        picked.masked_fill_(inside.to(device)[..., None], 0.0)
    return picked.permute(0, 3, 1, 2)  # advanced indices come first: (N, H, W, C)


def _erased(probability: float, count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    """Boxes (N, 4) of random erasing, empty where an image is spared. A box that would not fit is cut to the image."""
    chance, area, aspect, down, across = torch.rand(5, count, generator=generator)
    area = (ERASED_AREA[0] + (ERASED_AREA[1] - ERASED_AREA[0]) * area) * height * width
    low, high = math.log(ERASED_ASPECT[0]), math.log(ERASED_ASPECT[1])
    aspect = torch.exp(low + (high - low) * aspect)
    tall = torch.sqrt(area * aspect).round().clamp(1, height)
    wide = torch.sqrt(area / aspect).round().clamp(1, width)
    tall, wide = (torch.where(chance < probability, side, torch.zeros(())) for side in (tall, wide))
    top, left = (down * (height - tall + 1)).floor(), (across * (width - wide + 1)).floor()
    return torch.stack([top, left, top + tall, left + wide], 1).long()
