"""What a method gets to work with in one cell: the baseline, the images, the device, and a fine-tuning budget. All is counted."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.rivals.subjects import SHAPE, Net
from benchmarks.rivals.teacher import RememberedTeacher
from device_agent.contract.measurement import Measurement
from host.compress.cuts import PrunableNetwork
from host.compress.export import export_onnx
from host.compress.groups import analyse
from host.compress.measuring import Measuring
from host.compress.nodes import ExportedModel
from host.compress.recipe import Distillation, Recipe
from host.compress.sensitivity import calibration_batches
from host.compress.training import train
from host.datasets.dataset import Dataset3

CALIBRATION_IMAGES = 256
BATCH = 64
#: Of 0.01 and 0.02 what served better: ResNet-20 at 0.5x, uniform widths, ended at 77.3 % with this, at 76.0 % with half.
LEARNING_RATE = 0.02
OPSET, IR_VERSION = 17, 8


class OutOfReach(Exception):
    """The method has no plan at or under the target; the message says how near it came. `nearest` is its fastest plan."""

    def __init__(self, reason: str, nearest: nn.Module | None = None) -> None:
        super().__init__(reason)
        self.nearest = nearest


class CountingMeasuring(Measuring):
    """Counts what is measured: one for every artifact but the one that the others are compared with."""

    count = 0

    def _measure(self, hashes: tuple[str, ...], *arguments: Any, **more: Any) -> Measurement:
        self.count += max(1, len(hashes) - 1)
        return super()._measure(hashes, *arguments, **more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """A pruned module's latency over the baseline's, from one paired measurement, with its interval."""

    ratio: float
    low: float | None
    high: float | None

    def to_dict(self) -> dict[str, float | None]:
        return {"ratio": self.ratio, "low": self.low, "high": self.high}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """What a method hands back. `notes` are kept in the cell's file.

    `shot` is the long measurement by which the plan was accepted, where the trial doesn't know it.
    """

    module: nn.Module
    shot: Shot | None = None
    notes: dict[str, Any] = field(default_factory=dict)


class Trial:
    """One cell at work. `baseline` is not changed by anybody; `data.train` are the images that may be trained on."""

    def __init__(
        self,
        *,
        net: Net,
        baseline: nn.Module,
        data: Dataset3,
        measuring: CountingMeasuring,
        folder: Path,
        shared: Path,
        seed: int,
        threads: int,
        say: Callable[[str], None],
    ) -> None:
        self.net, self.baseline, self.data, self.measuring = net, baseline, data, measuring
        self.folder, self.shared, self.seed, self.threads, self.say = folder, shared, seed, threads, say
        folder.mkdir(parents=True, exist_ok=True)
        self.images_seen = 0
        #: Work of a look-up table that an earlier cell measured is charged to every method that reads it.
        self.charged_count, self.charged_device_s = 0, 0.0
        self.tuning_s = 0.0
        self._measuring_s = 0.0
        self._shots: dict[str, Shot] = {}

    @cached_property
    def analysed(self) -> PrunableNetwork:
        return analyse(self.baseline, self.example)

    @cached_property
    def exported(self) -> ExportedModel:
        return self.export(self.baseline, "baseline")

    @property
    def example(self) -> Tensor:
        return torch.from_numpy(self.data.train.images[:2].copy())

    def batches(self, count: int = CALIBRATION_IMAGES) -> tuple[tuple[Tensor, Tensor], ...]:
        """Return calibration batches of training images and labels."""
        return calibration_batches(self.data.train, count, seed=self.seed)

    def export(self, module: nn.Module, name: str) -> ExportedModel:
        return export_onnx(module, SHAPE, self.folder / f"{name}.onnx", opset=OPSET, ir_version=IR_VERSION)

    def measure(self, module: nn.Module, *, final: bool = False) -> Shot:
        """Measure `module` in turns with the baseline; the same shapes are measured once, and once more for `final`."""
        key = f"{signature(module)}{' final' if final else ''}"
        if key not in self._shots:
            candidate = self.export(module, "candidate")
            with self.timed("_measuring_s"):
                found = self.measuring.compare(self.exported, candidate, "candidate", final=final).ratio
            self._shots[key] = Shot(ratio=found.ratio, low=found.low, high=found.high)
            self.say(f"measured {found.ratio:.3f}x")
        return self._shots[key]

    def recipe(self, epochs: int) -> Recipe:
        """Return how every method fine-tunes: `host compress`'s own recipe."""
        return Recipe(
            epochs=epochs,
            batch_size=BATCH,
            learning_rate=LEARNING_RATE,
            label_smoothing=0.0,
            warmup_epochs=0.5,
            seed=self.seed,
            distillation=Distillation(),
            threads=self.threads,
        )

    def tune(self, module: nn.Module, epochs: int, data: Dataset3 | None = None) -> nn.Module:
        """Fine-tune `module` in place with the baseline as its teacher, and count the images."""
        data = data or self.data
        with self.timed("tuning_s"):
            teacher = RememberedTeacher(self.baseline, self.shared / "teachers" / f"{self.net.name}-{data.name}.pt")
            train(
                module,
                data,
                self.recipe(epochs),
                teacher=teacher,
                on_epoch=lambda record: self.say(
                    f"epoch {record.epoch} of {epochs}: validation accuracy {record.validation_accuracy:.1%}"
                ),
            )
            teacher.store()
        self.images_seen += epochs * (len(data.train) // BATCH) * BATCH
        return module

    @property
    def measurements(self) -> int:
        return self.measuring.count + self.charged_count

    @property
    def device_s(self) -> float:
        return self.measuring.device_ns / 1e9 + self.charged_device_s

    @property
    def measuring_s(self) -> float:
        """Seconds of the host spent in waiting for the device."""
        return self._measuring_s

    @contextmanager
    def timed(self, field_name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, field_name, getattr(self, field_name) + time.perf_counter() - began)


def shapes(module: nn.Module) -> dict[str, list[int]]:
    """Return [input width, output width] of every convolution and linear layer."""
    return {
        name: [layer.weight.shape[1], layer.weight.shape[0]]
        for name, layer in module.named_modules()
        if isinstance(layer, (nn.Conv2d, nn.Linear))
    }


def signature(module: nn.Module) -> str:
    """Return a short name for the shapes of `module`'s weights; latency depends on nothing else of it."""
    return hashlib.sha256(repr(sorted(shapes(module).items())).encode()).hexdigest()[:12]


def accuracy_of(module: nn.Module, batches: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Return the share of right answers over batches, in evaluation mode."""
    module.eval()
    with torch.no_grad():
        right = sum(int((module(images).argmax(1) == labels).sum()) for images, labels in batches)
    return right / sum(len(labels) for _, labels in batches)
