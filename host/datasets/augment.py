"""Random crops and flips of a whole batch at once, in torch."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Crop of the original size out of the image padded by `padding` pixels; `flip`: left-right with
    probability 1/2.
    """

    padding: int = 4
    flip: bool = True

    def __post_init__(self) -> None:
        if self.padding < 0:
            raise ValueError(f"padding must be at least 0 pixels, got {self.padding}")

    def apply(self, images: Tensor, generator: torch.Generator, fill: tuple[float, ...]) -> Tensor:
        """(N, C, H, W) to the same shape; `fill` is the value of the padding per channel, `generator` a CPU
        one.
        """
        count, channels, height, width = images.shape
        pad, device = self.padding, images.device
        rows = torch.arange(height).expand(count, height)
        columns = torch.arange(width).expand(count, width)
        if self.flip:
            flipped = torch.rand(count, 1, generator=generator) < 0.5
            columns = torch.where(flipped, columns.flip(1), columns)
        if pad:
            offsets = torch.randint(0, 2 * pad + 1, (2, count, 1), generator=generator)
            rows, columns = rows + offsets[0], columns + offsets[1]
            padded = (
                images.new_tensor(fill).reshape(1, channels, 1, 1).repeat(count, 1, height + 2 * pad, width + 2 * pad)
            )
            padded[:, :, pad : pad + height, pad : pad + width] = images
            images = padded
        index = torch.arange(count, device=device)[:, None, None]
        picked = images[index, :, rows.to(device)[:, :, None], columns.to(device)[:, None, :]]
        return picked.permute(0, 3, 1, 2)  # advanced indices come first: (N, H, W, C)
