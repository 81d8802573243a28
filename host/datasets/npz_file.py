"""`npz:FILE`: arrays saved by numpy.savez or savez_compressed; the keys are described at
`arrays.from_mapping`.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from host.datasets.arrays import from_mapping
from host.datasets.dataset import DataError, Dataset3, Normalisation

KEYS = ("x_train", "y_train", "x_val", "y_val", "x_test", "y_test", "class_names")


def load(path: Path, *, seed: int = 0, normalisation: Normalisation | None = None) -> Dataset3:
    """Read `path`. Raises DataError when it is absent, no npz, damaged, or its arrays don't fit together."""
    if not path.is_file():
        raise DataError(f"there is no file {path} (looked from {Path.cwd()})")
    try:
        # Pickled objects are refused: they would run code.
        pack = np.load(path, allow_pickle=False)
    except Exception as error:
        # numpy's own words for a text file advise to load it as a pickle, which would run code.
        raise DataError(f"{path} is no npz file, or is damaged. Write it with numpy.savez.") from error
    if not isinstance(pack, np.lib.npyio.NpzFile):
        raise DataError(f"{path} holds a single array; save several with numpy.savez(path, x_train=..., y_train=...)")
    arrays: dict[str, npt.NDArray[np.generic]] = {}
    with pack:
        for key in pack.files:
            try:
                # Keys that we have no use for are named in messages but not read.
                arrays[key] = pack[key] if key in KEYS else np.empty(0)
            except Exception as error:
                raise DataError(f"{path}: {key} cannot be read ({error}); the file may be cut short") from error
    return from_mapping(arrays, name=f"npz:{path.stem}", source=str(path), seed=seed, normalisation=normalisation)
