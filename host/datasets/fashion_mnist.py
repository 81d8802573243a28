"""Fashion-MNIST (Xiao et al., 2017, arXiv 1708.07747; MIT, Zalando SE): a balanced slice that ships with the
package.

10,000 training images, of which 1,000 are held out for validation, and 2,000 test images. 28x28 grey, padded
with black to 32x32.
"""

from pathlib import Path

import numpy as np

from host.datasets.dataset import DataError, Dataset3, Normalisation, Split, stratified_holdout

FILE = Path(__file__).parent / "data" / "fashion_mnist_12k.npz"
VALIDATION_IMAGES = 1_000
# Of the 10,000 training images, as padded. A constant, so that no seed changes what a trained model expects.
NORMALISATION = Normalisation(mean=(0.2197,), std=(0.3320,))
CLASS_NAMES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


def load(*, seed: int = 0, normalisation: Normalisation | None = None, file: Path = FILE) -> Dataset3:
    """Images (N, 1, 32, 32). Raises DataError when the packaged file is absent or damaged."""
    try:
        with np.load(file) as pack:
            arrays = {key: pack[key] for key in ("x_train", "y_train", "x_test", "y_test")}
    except Exception as error:
        raise DataError(
            f"the Fashion-MNIST file of the package cannot be read ({file}: {error}). Reinstall boardfit."
        ) from error
    scale = NORMALISATION if normalisation is None else normalisation
    pad = ((0, 0), (0, 0), (2, 2), (2, 2))
    images = {key: scale.apply(np.pad(arrays[f"x_{key}"][:, None], pad)) for key in ("train", "test")}
    labels = {key: arrays[f"y_{key}"].astype(np.int64) for key in ("train", "test")}
    whole = Split(images=images["train"], labels=labels["train"])
    kept, held_out = stratified_holdout(whole.labels, VALIDATION_IMAGES, seed)
    return Dataset3(
        name="fashion-mnist",
        num_classes=len(CLASS_NAMES),
        train=whole.take(kept),
        validation=whole.take(held_out),
        test=Split(images=images["test"], labels=labels["test"]),
        normalisation=scale,
        class_names=CLASS_NAMES,
    )
