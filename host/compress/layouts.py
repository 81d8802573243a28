"""The memory layout in which a network trains faster on this machine."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

LAYOUTS = {"contiguous": torch.contiguous_format, "channels-last": torch.channels_last}


def lay_out(module: nn.Module, layout: str) -> None:
    """Put the weights of `module` into the layout of that name, in place."""
    module.to(memory_format=LAYOUTS[layout])  # type: ignore[call-overload]  # torch's stubs lack it


def fastest_layout(module: nn.Module, images: Tensor, clock: Callable[[], float]) -> str:
    """The layout with which forward and backward of `images` (N, C, H, W) took less time by `clock` (s), tried on copies."""
    seconds: dict[str, float] = {}
    for name, layout in LAYOUTS.items():
        trial = copy.deepcopy(module).train()
        lay_out(trial, name)
        turns = []
        for _ in range(4):
            began = clock()
            trial(images.contiguous(memory_format=layout)).sum().backward()
            if images.device.type == "cuda":
                torch.cuda.synchronize()
            turns.append(clock() - began)
        seconds[name] = min(turns)
    return min(seconds, key=lambda name: seconds[name])
