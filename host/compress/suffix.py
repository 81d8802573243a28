"""Running only the part of a network that a change can reach: what ran before it is replayed from a
recording.

Measuring the loss of many small changes to one network repeats the unchanged front of it again and again.
Outputs of modules are recorded once per batch; in later runs a module that ends before the changed layer
begins returns its recorded output.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

BatchNorm = nn.modules.batchnorm._BatchNorm

#: What a module returned for one batch, by the module's name.
Recording = Mapping[str, Tensor]


class SuffixRunner:
    """A copy of a network in evaluation mode and channels-last layout, with batch norm that can be
    calibrated.

    Channels-last is 1.5 - 3 times as fast as the default layout for MobileNetV2 on x86.
    """

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        """`example` (N, C, H, W) is run once to learn the order of execution."""
        self.module = copy.deepcopy(module).cpu().eval()
        self.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stubs lack it
        self._norms = [
            layer for layer in self.module.modules() if isinstance(layer, BatchNorm) and layer.track_running_stats
        ]
        for layer in self._norms:
            layer.momentum = None  # torch: a cumulative average over the batches
        self._starts: dict[str, int] = {}
        self._ends: dict[str, int] = {}
        self._calls: dict[str, int] = {}
        #: Elements per image of each module's output, where it is a tensor.
        self._elements: dict[str, int] = {}
        self._learn_order(example)
        self._statistics: list[dict[str, Tensor]] = []
        self._recorded: Recording = {}
        self._skipped: frozenset[str] = frozenset()
        self._into: dict[str, Tensor] | None = None
        self._kept: frozenset[str] = frozenset()
        for name in self._elements:
            self._intercept(name)

    def keep_recordings(self, images: int, limit_bytes: int) -> None:
        """Record as many modules as fit `limit_bytes` for `images` float32 images.

        Outer modules first, then those of small outputs: blocks end in few channels and replace whole
        stretches.
        """
        kept, total = [], 0
        for name in sorted(self._elements, key=lambda key: (key.count("."), self._elements[key], self._ends[key])):
            inner = "." in name and not list(self.module.get_submodule(name).children())
            size = self._elements[name] * images * 4
            if not inner and total + size <= limit_bytes:
                total += size
                kept.append(name)
        self._kept = frozenset(kept)

    def first_of(self, layers: Sequence[str]) -> str:
        """The layer that begins first in a run."""
        return min(layers, key=lambda name: self._starts[name])

    @torch.no_grad()
    def record(self, images: Tensor) -> tuple[Tensor, Recording]:
        """Run everything and return (output, recording)."""
        self._into, self._skipped = {}, frozenset()
        try:
            return self.module(images), self._into
        finally:
            self._into = None

    @torch.no_grad()
    def run(self, images: Tensor, recording: Recording, changed: str) -> Tensor:
        """Run from about the layer named `changed` on, all before from the recording of the same images."""
        begin = self._starts[changed]
        self._recorded = recording
        self._skipped = frozenset(name for name in recording if self._ends[name] < begin)
        try:
            output: Tensor = self.module(images)
            return output
        finally:
            self._recorded, self._skipped = {}, frozenset()

    def calibrate(self, run: Callable[[Tensor], object], batches: Sequence[Tensor]) -> None:
        """Fit batch norm to `batches` of images by `run`, as plain averages. Does nothing without batch norm."""
        if not self._norms:
            return
        for layer in self._norms:
            layer.reset_running_stats()
            layer.train()
        try:
            for images in batches:
                run(images)
        finally:
            for layer in self._norms:
                layer.eval()

    def save_statistics(self) -> None:
        """Remember batch norm's statistics, for `restore_statistics`."""
        self._statistics = [
            {name: buffer.clone() for name, buffer in layer.named_buffers(recurse=False)} for layer in self._norms
        ]

    def restore_statistics(self) -> None:
        """Put back the remembered statistics."""
        for layer, saved in zip(self._norms, self._statistics, strict=True):
            for name, buffer in layer.named_buffers(recurse=False):
                buffer.copy_(saved[name])

    def twin(self) -> SuffixRunner:
        """Another runner on the same weights and statistics, for another thread; recordings can be shared."""
        other = copy.copy(self)
        other.module = copy.deepcopy(self.module)
        for name in self._elements:
            vars(other.module.get_submodule(name)).pop("forward", None)
        other._norms = [
            layer for layer in other.module.modules() if isinstance(layer, BatchNorm) and layer.track_running_stats
        ]
        for name in self._elements:
            other._intercept(name)
        return other

    @torch.no_grad()
    def _learn_order(self, example: Tensor) -> None:
        clock = 0
        names = {layer: name for name, layer in self.module.named_modules() if name}

        def begin(layer: nn.Module, _inputs: Any) -> None:
            nonlocal clock
            clock += 1
            self._starts.setdefault(names[layer], clock)
            self._calls[names[layer]] = self._calls.get(names[layer], 0) + 1

        def end(layer: nn.Module, _inputs: Any, output: Any) -> None:
            nonlocal clock
            clock += 1
            self._ends[names[layer]] = clock
            if isinstance(output, Tensor) and self._calls[names[layer]] == 1:
                self._elements[names[layer]] = output.numel() // len(example)
            else:
                self._elements.pop(names[layer], None)

        handles = [layer.register_forward_pre_hook(begin) for layer in names]
        handles += [layer.register_forward_hook(end) for layer in names]
        try:
            self.module(example)
        finally:
            for handle in handles:
                handle.remove()

    def _intercept(self, name: str) -> None:
        layer = self.module.get_submodule(name)
        forward = layer.forward

        def replayed(*args: Any, **kwargs: Any) -> Any:
            # Clones, since what follows may work in place.
            if name in self._skipped:
                return self._recorded[name].clone()
            output = forward(*args, **kwargs)
            if self._into is not None and name in self._kept:
                self._into[name] = output.clone()
            return output

        layer.forward = replayed


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute with one thread: two that share a busy core wait for each other, up to 30 times as
    long.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cross_entropy_sum(logits: Tensor, labels: Tensor) -> float:
    """The summed cross entropy (nats) of logits (N, classes) and labels (N,)."""
    return float(F.cross_entropy(logits, labels, reduction="sum"))
