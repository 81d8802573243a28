"""Input arrays from a `.npz` file (a zip of numpy's `.npy` files), read no further than the samples that are used.

Format: numpy.lib.format (NEP 1). Pickled objects are never read.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.artifact import TensorSpec
from device_agent.contract.errors import InvalidRequest


def read_arrays(path: Path, name: str, specs: Sequence[TensorSpec]) -> dict[str, NDArray[np.generic]]:
    """Return the arrays named like the inputs, the first samples of each as far as the input's first dimension asks.

    A dynamic dimension other than the first takes its size from the data. `name` is what people call the file. InvalidRequest
    says which input was wanted how and what the file has. Arrays that no input is named like are left alone.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member[: -len(".npy")] for member in archive.namelist() if member.endswith(".npy")}
            missing = [spec.name for spec in specs if spec.name not in members]
            if missing:
                raise InvalidRequest(
                    f"data {name!r} has no array for input {', '.join(map(repr, missing))}; it has {sorted(members)}, and the"
                    f" model takes {sorted(spec.name for spec in specs)}"
                )
            found = {}
            for spec in specs:
                with archive.open(f"{spec.name}.npy") as member:
                    found[spec.name] = _read(member, name, spec)
            return found
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, RuntimeError) as error:
        raise InvalidRequest(
            f"data {name!r} is no .npz file that can be read: {error}; write it with numpy.savez"
        ) from error


def _read(file: IO[bytes], name: str, spec: TensorSpec) -> NDArray[np.generic]:
    version = np.lib.format.read_magic(file)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}.get(
        version
    )
    if read_header is None:
        raise ValueError(f"array {spec.name!r} has version {version} of the format, which named fields need")
    shape, by_columns, dtype = read_header(file)
    wanted = f"input {spec.name!r} wants {spec.dtype} {show_shape(spec.shape)}"
    given = f"data {name!r} has {dtype} {show_shape(shape)}"
    if dtype.hasobject:
        raise InvalidRequest(f"{wanted}, and {given}: Python objects, which are never read; save numbers")
    fits = len(shape) == len(spec.shape) and all(
        size in (None, has) or (axis == 0 and has > (size or 0))
        for axis, (size, has) in enumerate(zip(spec.shape, shape, strict=True))
    )
    if dtype.newbyteorder("=").name != spec.dtype or not fits:
        raise InvalidRequest(
            f"{wanted}, and {given}; of a longer first dimension the first samples are used, the rest must fit"
        )
    rows = shape if not shape else (spec.shape[0] or shape[0], *shape[1:])
    if by_columns:  # a sample is scattered over the whole array
        whole = _numbers(file, math.prod(shape), dtype).reshape(shape, order="F")
        return np.ascontiguousarray(whole[: rows[0]] if rows else whole, dtype.newbyteorder("="))
    return _numbers(file, math.prod(rows), dtype).reshape(rows).astype(dtype.newbyteorder("="), copy=False)


def _numbers(file: IO[bytes], count: int, dtype: np.dtype[np.generic]) -> NDArray[np.generic]:
    data = file.read(count * dtype.itemsize)
    if len(data) < count * dtype.itemsize:
        raise ValueError(f"it ends {count * dtype.itemsize - len(data)} bytes before its last value")
    return np.frombuffer(data, dtype)


def show_shape(shape: Sequence[int | None]) -> str:
    """Return a shape for people; `?` stands for a dynamic dimension."""
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"
