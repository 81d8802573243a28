"""From uint8 arrays to a data set: layouts, measured normalisation, held-out splits."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from host.datasets.dataset import DataError, Dataset3, Labels, Normalisation, Split, stratified_holdout

CHANNEL_COUNTS = (1, 3, 4)
VALIDATION_FRACTION = 0.1
TEST_FRACTION = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class RawSplit:
    """uint8 images (N, C, H, W) and int64 labels (N,), not normalised yet."""

    images: npt.NDArray[np.uint8] = field(repr=False)
    labels: Labels = field(repr=False)

    def take(self, indices: Labels) -> "RawSplit":
        """A copy of the rows at `indices`."""
        return RawSplit(images=self.images[indices], labels=self.labels[indices])


def from_mapping(
    arrays: Mapping[str, npt.NDArray[np.generic]],
    *,
    name: str,
    source: str,
    seed: int,
    normalisation: Normalisation | None,
) -> Dataset3:
    """Build from the keys x_train, y_train, x_test, y_test and, optionally, x_val, y_val and class_names.

    Images are uint8, (N, H, W), (N, H, W, C) or (N, C, H, W) with 1, 3 or 4 channels. Labels are integers
    from 0 to classes - 1, (N,) or (N, 1). Without x_val a tenth of the training images is held out. `source`
    is for messages.
    """
    present = sorted(arrays)
    wanted = ["x_train", "y_train", "x_test", "y_test"]
    if "x_val" in present or "y_val" in present:
        wanted += ["x_val", "y_val"]
    missing = [key for key in wanted if key not in present]
    if missing:
        raise DataError(f"{source} lacks {', '.join(missing)}; it has {', '.join(present) or 'nothing'}")
    raw = {}
    for split, suffix in (("train", "train"), ("validation", "val"), ("test", "test")):
        if f"x_{suffix}" in wanted:
            images = to_nchw(np.asarray(arrays[f"x_{suffix}"]), key=f"x_{suffix}", source=source)
            labels = to_labels(np.asarray(arrays[f"y_{suffix}"]), key=f"y_{suffix}", source=source)
            if len(images) != len(labels):
                raise DataError(f"{source}: x_{suffix} has {len(images)} images but y_{suffix} {len(labels)} labels")
            raw[split] = RawSplit(images=images, labels=labels)
    class_names = tuple(map(str, np.asarray(arrays["class_names"]).astype(str))) if "class_names" in present else None
    return from_raw(raw, name=name, source=source, class_names=class_names, seed=seed, normalisation=normalisation)


def from_raw(
    raw: Mapping[str, RawSplit],
    *,
    name: str,
    source: str,
    class_names: tuple[str, ...] | None,
    seed: int,
    normalisation: Normalisation | None,
) -> Dataset3:
    """Hold out what is missing of validation and test, measure the normalisation on what is left of train,
    and apply it.
    """
    splits = dict(raw)
    num_classes = len(class_names) if class_names is not None else int(splits["train"].labels.max()) + 1
    for split, part in splits.items():
        _check_range(part.labels, num_classes, f"{source}, {split}")
    absent = np.setdiff1d(np.arange(num_classes), splits["train"].labels)
    if len(absent):
        shown = ", ".join(map(str, absent[:5]))
        hint = " Do the labels start at 1? They must start at 0." if absent[0] == 0 else ""
        raise DataError(f"{source}: no training image has label {shown}, though labels run to {num_classes - 1}.{hint}")
    for split, fraction in (("test", TEST_FRACTION), ("validation", VALIDATION_FRACTION)):
        if split not in splits:
            train = splits["train"]
            count = max(1, round(fraction * len(train.labels)))
            try:
                kept, held_out = stratified_holdout(train.labels, count, seed)
            except DataError as error:
                raise DataError(f"{source}: too few training images to hold out a {split} split ({error})") from error
            splits["train"], splits[split] = train.take(kept), train.take(held_out)
    scale = measure_normalisation(splits["train"].images) if normalisation is None else normalisation
    ready = {key: Split(images=scale.apply(part.images), labels=part.labels) for key, part in splits.items()}
    return Dataset3(
        name=name,
        num_classes=num_classes,
        train=ready["train"],
        validation=ready["validation"],
        test=ready["test"],
        normalisation=scale,
        class_names=class_names,
    )


def measure_normalisation(images: npt.NDArray[np.uint8]) -> Normalisation:
    """Mean and standard deviation per channel of pixels scaled to 0 - 1, exact, from the 256 counts."""
    levels = np.arange(256) / 255
    means, deviations = [], []
    for channel in range(images.shape[1]):
        counts = np.bincount(images[:, channel].ravel(), minlength=256)
        mean = float(counts @ levels / counts.sum())
        deviation = float(np.sqrt(counts @ (levels - mean) ** 2 / counts.sum()))
        means.append(mean)
        deviations.append(deviation or 1.0)  # a constant channel carries nothing and must not become infinite
    return Normalisation(mean=tuple(means), std=tuple(deviations))


def to_nchw(images: npt.NDArray[np.generic], *, key: str, source: str) -> npt.NDArray[np.uint8]:
    """uint8 (N, H, W), (N, H, W, C) or (N, C, H, W) to (N, C, H, W); C is the side of 1, 3 or 4."""
    if images.dtype != np.uint8:
        raise DataError(
            f"{source}: {key} is {images.dtype}; images must be uint8, 0 - 255. "
            f"Images in 0 - 1 become (images * 255).round().astype('uint8')."
        )
    pixels: npt.NDArray[np.uint8] = images.astype(np.uint8, copy=False)
    if not pixels.size:
        raise DataError(f"{source}: {key} has the shape {pixels.shape} and holds no pixels")
    if pixels.ndim == 3:
        return pixels[:, None]
    if pixels.ndim == 4:
        first, last = pixels.shape[1] in CHANNEL_COUNTS, pixels.shape[3] in CHANNEL_COUNTS
        if first and last:
            raise DataError(
                f"{source}: {key} has the shape {pixels.shape}, which reads as (N, H, W, C) and as "
                f"(N, C, H, W). Use images of other than 1, 3 or 4 pixels, or grey ones without a channel."
            )
        if last:
            return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
        if first:
            return pixels
    raise DataError(
        f"{source}: {key} has the shape {pixels.shape}; it must be (N, H, W), (N, H, W, C) or (N, C, H, W) "
        f"with 1, 3 or 4 channels"
    )


def to_labels(labels: npt.NDArray[np.generic], *, key: str, source: str) -> Labels:
    """Integers (N,) or (N, 1) to int64 (N,)."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise DataError(
            f"{source}: {key} is {labels.dtype} of shape {labels.shape}; labels must be integers, one per image"
        )
    return labels.astype(np.int64)


def _check_range(labels: Labels, num_classes: int, where: str) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(wrong):
        raise DataError(
            f"{where}: label {labels[wrong[0]]} at index {wrong[0]} ({len(wrong)} such) is out of range; "
            f"with {num_classes} classes labels must lie in 0 - {num_classes - 1}"
        )
