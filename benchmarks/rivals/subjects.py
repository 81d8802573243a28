"""What is compressed: CIFAR ResNets and their images, both from the shared data folder, and the baseline made of them.

The published weights were trained on the original pixels and lose about ten points on the JPEG images, so the
baseline of a comparison is made first: fine-tuned for part of an epoch on the images that all methods train on.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.table import CannotMeasure
from host.compress.recipe import Recipe
from host.compress.training import train
from host.datasets.dataset import Dataset3, Images, Labels, Normalisation, Split, stratified_holdout
from host.files import write_whole
from host.zoo.cifar_resnet import CifarResNet

SHARED = Path(__file__).parents[3] / "shared" / "data"
SHAPE = (3, 32, 32)
CLASSES = 10
VALIDATION = 2_000
#: Of the statistics that the published weights were trained with.
NORMALISATION = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
EPOCHS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Net:
    """A net of the comparison. `baseline_images` are seen in the making of the baseline.

    Every method may train on `epochs` passes over `tuning_images` images, other ones for each seed.
    """

    name: str
    depth: int
    baseline_images: int
    tuning_images: int
    epochs: int = EPOCHS

    @property
    def budget(self) -> int:
        """Training images that a method may see per cell, all its trainings together."""
        return self.epochs * self.tuning_images

    def build(self) -> nn.Module:
        return CifarResNet(depth=self.depth)

    def weights(self) -> Path:
        """Return the file of the published weights. Raises CannotMeasure."""
        found = sorted((SHARED / "cifar_resnet").glob(f"{self.name}-*.th"))
        if not found:
            raise CannotMeasure(f"no weights of {self.name} in {SHARED / 'cifar_resnet'}")
        return found[0]


#: What two shared cores carry in three to six minutes per cell.
NETS = {
    net.name: net
    for net in (
        Net(name="resnet20", depth=20, baseline_images=30_000, tuning_images=6_000),
        Net(name="resnet56", depth=56, baseline_images=12_000, tuning_images=3_000),
    )
}


def images(state: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return uint8 (N, 3, 32, 32) and labels int64 by split, decoded once into `state`. Raises CannotMeasure."""
    cache = state / "cifar10.npz"
    if not cache.exists():
        pack_path = SHARED / "cifar10_jpeg.npz"
        if not pack_path.exists():
            raise CannotMeasure(f"no images in {pack_path}: the comparison trains on them")
        with np.load(pack_path) as pack:
            decoded = {f"{part}_{split}": array for split in ("train", "test") for part, array in _decode(pack, split)}
        packed = io.BytesIO()
        np.savez(packed, **decoded)  # type: ignore[arg-type]
        write_whole(cache, packed.getvalue())
    with np.load(cache) as stored:
        return {split: (stored[f"x_{split}"], stored[f"y_{split}"]) for split in ("train", "test")}


def _decode(pack: np.lib.npyio.NpzFile, split: str) -> list[tuple[str, np.ndarray]]:
    from PIL import Image

    header, body = pack["header"].tobytes(), pack[f"body_{split}"].tobytes()
    ends = np.cumsum(pack[f"len_{split}"].astype(np.int64))
    starts = np.concatenate([[0], ends[:-1]])
    pixels = np.stack(
        [
            np.asarray(Image.open(io.BytesIO(header + body[start:end])).convert("RGB"))
            for start, end in zip(starts, ends, strict=True)
        ]
    )
    return [("x", pixels.transpose(0, 3, 1, 2).copy()), ("y", pack[f"y_{split}"].astype(np.int64))]


def _split(pixels: np.ndarray, labels: Labels) -> Split:
    return Split(images=NORMALISATION.apply(pixels), labels=labels)


class Images10:
    """The CIFAR-10 images, and subsets of them for the trainings."""

    def __init__(self, state: Path) -> None:
        found = images(state)
        pixels, labels = found["train"]
        self._kept, held = stratified_holdout(labels, VALIDATION, seed=0)
        self._pixels, self._labels = pixels, labels
        self._validation = _split(pixels[held], labels[held])
        self._test = _split(*found["test"])

    def dataset(self, count: int, seed: int) -> Dataset3:
        """Return `count` training images drawn by `seed`, balanced; validation and test are always the same."""
        _, chosen = stratified_holdout(self._labels[self._kept], count, seed=1000 + seed)
        index = self._kept[chosen]
        return Dataset3(
            name=f"cifar10-jpeg-{count}-{seed}",
            num_classes=CLASSES,
            train=_split(self._pixels[index], self._labels[index]),
            validation=self._validation,
            test=self._test,
            normalisation=NORMALISATION,
        )


def baseline(net: Net, data: Images10, state: Path, say: Callable[[str], None], threads: int) -> nn.Module:
    """Return the net that all methods start from, made once and kept in `state`."""
    module = net.build()
    path = state / f"{net.name}-baseline.pt"
    if not path.exists():
        stored = torch.load(net.weights(), map_location="cpu", weights_only=True)["state_dict"]
        module.load_state_dict({name.removeprefix("module."): value for name, value in stored.items()})
        say(f"{net.name}: making the baseline, {net.baseline_images} images")
        recipe = Recipe(epochs=1, learning_rate=0.01, label_smoothing=0.0, warmup_epochs=0.1, threads=threads)
        train(module, data.dataset(net.baseline_images, seed=99), recipe)
        packed = io.BytesIO()
        torch.save(module.state_dict(), packed)
        write_whole(path, packed.getvalue())
    module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return module.eval()


@torch.no_grad()
def predictions(module: nn.Module, pixels: Images) -> np.ndarray:
    """Return the class of every image (N, C, H, W), int64 (N,)."""
    module.eval()
    return torch.cat([module(part).argmax(1) for part in torch.split(torch.from_numpy(pixels), 500)]).numpy()
