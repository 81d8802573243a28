"""`folder:DIR`: one folder of images per class, with or without folders `train`, `val` and `test` above them.

Classes are the folder names in alphabetical order. What is missing of test and validation is held out of
train.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
from PIL import Image, ImageOps

from host.datasets.arrays import RawSplit, from_raw
from host.datasets.dataset import DataError, Dataset3, Normalisation

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".tif", ".tiff"})
SPLIT_FOLDERS = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}
GREY_MODES = frozenset({"1", "L", "LA", "I;16", "I;16B", "I", "F"})


def load(
    folder: Path, *, input_size: int | None = None, seed: int = 0, normalisation: Normalisation | None = None
) -> Dataset3:
    """Read all images, grey (one channel) where all of them are grey, else RGB.

    With `input_size` the shorter side is scaled to it and the middle square kept; without, all must have one
    size. Raises DataError: absent or empty folders, classes that differ between splits, an image that cannot
    be read.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder {folder} (looked from {Path.cwd()})")
    roots = _split_roots(folder)
    files = {split: _files_by_class(root) for split, root in roots.items()}
    class_names = tuple(files["train"])
    for split, by_class in files.items():
        if tuple(by_class) != class_names:
            odd = sorted(set(by_class) ^ set(class_names))
            raise DataError(
                f"{roots[split]} and {roots['train']} must hold the same classes; only one has {', '.join(odd)}"
            )
    everything = [path for by_class in files.values() for paths in by_class.values() for path in paths]
    modes, size = _survey(everything, input_size)
    grey = modes <= GREY_MODES
    _check_memory(folder, len(everything) * size[0] * size[1] * (1 if grey else 3))
    raw = {split: _read_split(by_class, grey=grey, size=size) for split, by_class in files.items()}
    return from_raw(
        raw,
        name=f"folder:{folder.resolve().name}",
        source=str(folder),
        class_names=class_names,
        seed=seed,
        normalisation=normalisation,
    )


def _split_roots(folder: Path) -> dict[str, Path]:
    roots = {
        split: folder / name for split, options in SPLIT_FOLDERS.items() for name in options if (folder / name).is_dir()
    }
    if not roots:
        return {"train": folder}
    if "train" not in roots:
        raise DataError(f"{folder} has {', '.join(path.name for path in roots.values())} but no folder train")
    return roots


def _files_by_class(root: Path) -> dict[str, list[Path]]:
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(folders) < 2:
        raise DataError(f"{root} must hold one folder of images per class, at least two; it holds {len(folders)}")
    found = {}
    for path in folders:
        found[path.name] = sorted(
            # macOS leaves files such as ._photo.jpg, which are no images.
            file
            for file in path.iterdir()
            if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
        )
        if not found[path.name]:
            raise DataError(
                f"class folder {path} holds no image ({', '.join(sorted(SUFFIXES))}). Fill it, or remove it."
            )
    return found


def _survey(files: list[Path], input_size: int | None) -> tuple[set[str], tuple[int, int]]:
    """(colour modes, (width, height) to read at), mostly from the files' headers alone."""
    modes: set[str] = set()
    size, first = None, files[0]
    for path in files:
        mode, own = _header(path)
        modes.add(mode)
        if input_size is None:
            if size is not None and own != size:
                raise DataError(
                    f"images differ in size: {first} is {size[0]}x{size[1]}, {path} is {own[0]}x{own[1]}. "
                    f"Give an input size, and they are scaled to it."
                )
            size = own
    return modes, size if size is not None else (input_size or 0, input_size or 0)


def _header(path: Path) -> tuple[str, tuple[int, int]]:
    """Mode and (width, height) as it will be shown."""
    try:
        with Image.open(path) as image:
            # EXIF orientations 5 to 8 are the quarter turns.
            turned = image.getexif().get(0x0112, 1) >= 5
            return image.mode, image.size[::-1] if turned else image.size
    except Exception as error:
        raise _unreadable(path, error) from error


def _check_memory(folder: Path, values: int) -> None:
    # uint8 and float32 exist side by side for a moment.
    needed, free = values * 5, psutil.virtual_memory().available
    if needed > free:
        raise DataError(
            f"the images of {folder} need {needed / 2**30:.1f} GiB of memory as arrays, "
            f"{free / 2**30:.1f} GiB are free. Use fewer or smaller images."
        )


def _read_split(by_class: dict[str, list[Path]], *, grey: bool, size: tuple[int, int]) -> RawSplit:
    count = sum(map(len, by_class.values()))
    images = np.empty((count, 1 if grey else 3, size[1], size[0]), np.uint8)
    labels = np.empty(count, np.int64)
    for index, (label, path) in enumerate(_numbered(by_class)):
        images[index], labels[index] = _read(path, grey=grey, size=size), label
    return RawSplit(images=images, labels=labels)


def _numbered(by_class: dict[str, list[Path]]) -> Iterator[tuple[int, Path]]:
    for label, paths in enumerate(by_class.values()):
        for path in paths:
            yield label, path


def _read(path: Path, *, grey: bool, size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """(C, H, W)."""
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith(("I", "F")):
                image = _to_8_bits(image)
            image = image.convert("L" if grey else "RGB")
            if image.size != size:
                image = ImageOps.fit(image, size, Image.Resampling.BILINEAR)
            pixels = np.asarray(image, np.uint8)
    except Exception as error:
        raise _unreadable(path, error) from error
    return pixels[None] if grey else pixels.transpose(2, 0, 1)


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Pillow clips 16-bit grey at 255 when it converts, so the upper byte is taken here."""
    values = np.asarray(image)
    if values.dtype.kind == "f" or values.min() < 0 or values.max() > 65535:
        raise ValueError(f"mode {image.mode} with values from {values.min()} to {values.max()} is not supported")
    return Image.fromarray((values.astype(np.uint16) >> 8).astype(np.uint8))


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} cannot be read as an image ({type(error).__name__}: {error}). Replace or remove it.")
