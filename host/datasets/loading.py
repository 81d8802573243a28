"""Data by name: `fashion-mnist`, `npz:FILE`, `folder:DIR` or `package.module:factory`."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from pathlib import Path

from device_agent.contract.errors import StableError
from host.datasets.arrays import from_mapping
from host.datasets.dataset import DataError, Dataset3, Normalisation
from host.user_code import is_factory, resolve

FORMS = "fashion-mnist, npz:FILE, folder:DIR or package.module:factory"


def load_data(
    spec: str, *, input_size: int | None = None, normalisation: Normalisation | None = None, seed: int = 0
) -> Dataset3:
    """The three splits of `spec`.

    `input_size` is the side in pixels that the images of a folder are resized to; other data keep their size.
    `normalisation` replaces the data's own, for a model trained with another one. `seed` picks the validation
    images where the data doesn't name them. Raises DataError, or UserCodeError for a factory that cannot be
    imported.
    """
    kind, _, rest = spec.partition(":")
    if spec == "fashion-mnist":
        from host.datasets import fashion_mnist

        return fashion_mnist.load(seed=seed, normalisation=normalisation)
    if kind in {"npz", "folder"}:
        if not rest:
            raise DataError(f"'{spec}' names no {'file' if kind == 'npz' else 'folder'}; write {kind}:PATH")
        path = Path(rest).expanduser()
        if kind == "npz":
            from host.datasets import npz_file

            return npz_file.load(path, seed=seed, normalisation=normalisation)
        from host.datasets import image_folder

        return image_folder.load(path, input_size=input_size, seed=seed, normalisation=normalisation)
    if is_factory(spec):
        return _call(spec, {"input_size": input_size, "seed": seed}, normalisation)
    close = difflib.get_close_matches(spec, ("fashion-mnist",), n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    raise DataError(f"there is no data '{spec}'.{hint} It is given as {FORMS}.")


def _call(spec: str, offered: dict[str, int | None], normalisation: Normalisation | None) -> Dataset3:
    """Call the user's factory with those of `input_size` and `seed` that it names."""
    factory = resolve(spec)
    parameters = inspect.signature(factory).parameters
    arguments = {key: value for key, value in offered.items() if key in parameters}
    try:
        made = factory(**arguments)
    except StableError:
        raise
    except Exception as error:
        raise DataError(f"'{spec}' failed when called with {arguments}: {type(error).__name__}: {error}") from error
    if isinstance(made, Mapping):
        return from_mapping(made, name=spec, source=f"'{spec}'", seed=offered["seed"] or 0, normalisation=normalisation)
    if not isinstance(made, Dataset3):
        raise DataError(
            f"'{spec}' returned {type(made).__name__}; it must return a host.datasets.dataset.Dataset3, "
            f"or a dict of arrays with the keys of an npz file"
        )
    return made if normalisation is None else made.renormalised(normalisation)
