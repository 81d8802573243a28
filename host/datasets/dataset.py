"""A data set in memory: three splits, their normalisation, and the check that a model fits it."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from device_agent.contract.errors import StableError

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


class DataError(StableError):
    """The data cannot be used; the message says what, where and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalisation:
    """Pixels in 0 - 1 become (pixel - mean) / std, one pair per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean:
            raise ValueError(f"mean and std need one number per channel, got {self.mean} and {self.std}")
        if not all(value > 0 and np.isfinite(value) for value in self.std):
            raise ValueError(f"std must be positive, got {self.std}")

    @property
    def black(self) -> tuple[float, ...]:
        """What a black pixel becomes, per channel."""
        return tuple(-mean / std for mean, std in zip(self.mean, self.std, strict=True))

    def apply(self, images: npt.NDArray[np.uint8]) -> Images:
        """uint8 (N, C, H, W) to float32 of the same shape."""
        if images.shape[1] != len(self.mean):
            raise DataError(f"the images have {images.shape[1]} channels, the normalisation is for {len(self.mean)}")
        mean = np.asarray(self.mean, np.float32).reshape(1, -1, 1, 1)
        std = np.asarray(self.std, np.float32).reshape(1, -1, 1, 1)
        out = images.astype(np.float32)
        out /= 255
        out -= mean
        out /= std
        return out


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Images float32 (N, C, H, W), normalised, and labels int64 (N,)."""

    images: Images = field(repr=False)
    labels: Labels = field(repr=False)

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != np.float32:
            raise DataError(
                f"images must be float32 (N, C, H, W), got {self.images.dtype} of shape {self.images.shape}"
            )
        if self.labels.shape != self.images.shape[:1] or self.labels.dtype != np.int64:
            raise DataError(
                f"labels must be int64 ({len(self.images)},) like the images, "
                f"got {self.labels.dtype} of shape {self.labels.shape}"
            )
        if not len(self.images):
            raise DataError("a split holds no images")

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: npt.NDArray[np.int64] | slice) -> "Split":
        """The rows at `indices`, as a copy or a view as numpy sees fit."""
        return Split(images=self.images[indices], labels=self.labels[indices])


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset3:
    """Training, validation and test. Planning sees the first two; test is touched once, for the report."""

    name: str
    num_classes: int
    train: Split
    validation: Split
    test: Split
    normalisation: Normalisation | None = None
    class_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            raise DataError(f"data '{self.name}' has {self.num_classes} class, and a classifier needs at least two")
        for split_name, split in self.splits().items():
            if split.images.shape[1:] != self.train.images.shape[1:]:
                raise DataError(
                    f"data '{self.name}': {split_name} images are {split.images.shape[1:]}, "
                    f"training images {self.train.images.shape[1:]} (C, H, W)"
                )
            low, high = int(split.labels.min()), int(split.labels.max())
            if low < 0 or high >= self.num_classes:
                raise DataError(
                    f"data '{self.name}': {split_name} labels run from {low} to {high}, but with "
                    f"{self.num_classes} classes they must lie in 0 - {self.num_classes - 1}"
                )

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        channels, height, width = self.train.images.shape[1:]
        return channels, height, width

    def splits(self) -> dict[str, Split]:
        """The three by name."""
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def renormalised(self, normalisation: Normalisation) -> "Dataset3":
        """The same images for a model that was trained with `normalisation`."""
        if normalisation == self.normalisation:
            return self
        if self.normalisation is None:
            raise DataError(
                f"the model expects images with {normalisation}, but data '{self.name}' doesn't say how its "
                f"images are normalised: set Dataset3.normalisation"
            )
        old, shape = self.normalisation, (1, -1, 1, 1)
        if len(old.mean) != len(normalisation.mean):
            raise DataError(
                f"the model was trained with {len(normalisation.mean)} channels, data '{self.name}' has {len(old.mean)}"
            )
        scale = (np.asarray(old.std) / np.asarray(normalisation.std)).reshape(shape).astype(np.float32)
        difference = (np.asarray(old.mean) - np.asarray(normalisation.mean)) / np.asarray(normalisation.std)
        shift = difference.reshape(shape).astype(np.float32)
        changed = {
            key: Split(images=split.images * scale + shift, labels=split.labels) for key, split in self.splits().items()
        }
        return dataclasses.replace(
            self,
            train=changed["train"],
            validation=changed["validation"],
            test=changed["test"],
            normalisation=normalisation,
        )


def stratified_holdout(labels: Labels, count: int, seed: int) -> tuple[Labels, Labels]:
    """Indices (kept, held out), both ascending; `count` are held out, shared among the classes by their size.

    The largest remainders get the odd images, and a class of two or more always keeps one. The same seed
    gives the same split.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    room = np.maximum(sizes - 1, 0)
    if not 0 < count <= room.sum():
        raise DataError(
            f"cannot hold out {count} of {len(labels)} images in {len(classes)} classes: "
            f"each class must keep one, which leaves {room.sum()}"
        )
    exact = sizes * (count / len(labels))
    quota = np.minimum(np.floor(exact).astype(np.int64), room)
    order = np.argsort(-(exact - quota), kind="stable")
    while quota.sum() < count:
        for index in order:
            if quota.sum() < count and quota[index] < room[index]:
                quota[index] += 1
    generator = np.random.default_rng(seed)
    held = [
        generator.permutation(np.flatnonzero(labels == value))[:take]
        for value, take in zip(classes, quota, strict=True)
    ]
    held_out = np.sort(np.concatenate(held)).astype(np.int64)
    kept = np.setdiff1d(np.arange(len(labels), dtype=np.int64), held_out)
    return kept, held_out


def check_fits(data: Dataset3, input_shape: Sequence[int], num_classes: int, *, model: str = "the model") -> None:
    """Raise DataError unless a model of this (C, H, W) and number of outputs can be run on `data`."""
    problems, remedies = [], []
    channels, height, width = data.input_shape
    if tuple(input_shape) != data.input_shape:
        wanted = "x".join(map(str, input_shape))
        problems.append(
            f"{model} takes images of {wanted} (C x H x W), data '{data.name}' has {channels}x{height}x{width}"
        )
        if input_shape[0] != channels:
            remedies.append(f"build the model with in_channels={channels}, or give data with {input_shape[0]}")
        if tuple(input_shape[1:]) != (height, width):
            remedies.append(
                f"build the model for {height}x{width} images, or resize the data to {input_shape[1]}x{input_shape[2]}"
            )
    if num_classes != data.num_classes:
        problems.append(f"{model} has {num_classes} outputs, data '{data.name}' has {data.num_classes} classes")
        remedies.append(f"build the model with num_classes={data.num_classes}")
    if problems:
        raise DataError(f"{'; '.join(problems)}. What to do: {'; '.join(remedies)}.")
