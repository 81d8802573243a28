"""From values per index of a layer to values per channel of a group."""

from __future__ import annotations

import torch
from torch import Tensor

from host.compress.cuts import Cut


def per_channel(cut: Cut, values: Tensor) -> Tensor:
    """Gather values per index of a layer (width, ...) to sums per channel of the group (channels, ...)."""
    sums = torch.zeros(len(cut.indices), *values.shape[1:], dtype=values.dtype, device=values.device)
    # Channels may have different numbers of indices here.
    channels = [channel for channel, indices in enumerate(cut.indices) for _ in indices]
    at = torch.as_tensor([index for indices in cut.indices for index in indices], device=values.device)
    return sums.index_add(0, torch.as_tensor(channels, device=values.device), values[at])
