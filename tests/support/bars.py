"""Images that a tiny network learns in a few steps: noise with a bright bar that is upright, level, or missing."""

import numpy as np

from host.datasets.dataset import Split


def bars(shape: tuple[int, int, int], count: int, seed: int) -> Split:
    """Return `count` images of `shape` (1, H, W), 9 pixels or more each way, and their classes in turns."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % 3
    images = rng.normal(0, 0.5, (count, *shape)).astype(np.float32)
    images[labels == 0, :, :, 6:9] += 2
    images[labels == 1, :, 6:9, :] += 2
    return Split(images=images, labels=labels)
