"""Random inputs for a model, from its own description of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.artifact import Tensor, TensorSpec
from device_agent.contract.errors import InvalidRequest, ModelRejected


def random_inputs(specs: Sequence[TensorSpec], seed: int) -> dict[str, NDArray[np.generic]]:
    """Return an array per input, the same for the same seed.

    Floats are standard normal; 8-bit integers use their whole range, as quantized images do; wider integers are 0 or 1, which
    is a valid index almost everywhere; booleans are fair coins. A dynamic first dimension becomes 1, one sample at
    a time; ModelRejected for any other dynamic dimension and for types that numpy cannot draw.
    """
    generator = np.random.default_rng(seed)
    return {spec.name: _draw(spec, generator) for spec in specs}


def _draw(spec: TensorSpec, generator: np.random.Generator) -> NDArray[np.generic]:
    for axis, size in enumerate(spec.shape):
        if size is None and axis > 0:
            raise ModelRejected(
                f"input {spec.name!r} has shape {_show(spec.shape)}: dimension {axis} is dynamic, and only the first may be;"
                " export the model with fixed sizes"
            )
    shape = tuple(1 if size is None else size for size in spec.shape)
    try:
        dtype = np.dtype(spec.dtype)
    except TypeError:
        dtype = np.dtype("O")
    if dtype.kind == "f":
        return generator.standard_normal(shape).astype(dtype)
    if dtype.kind == "b":
        return generator.integers(0, 2, shape).astype(dtype)
    if dtype.kind in "iu" and dtype.itemsize == 1:
        limits = np.iinfo(dtype)
        return generator.integers(limits.min, limits.max + 1, shape).astype(dtype)
    if dtype.kind in "iu":
        return generator.integers(0, 2, shape).astype(dtype)
    raise ModelRejected(f"input {spec.name!r} has type {spec.dtype!r}, for which there are no random values; use infer")


def arrays_of(tensors: Sequence[Tensor], specs: Sequence[TensorSpec]) -> dict[str, NDArray[np.generic]]:
    """Return the tensors as arrays, checked against the model's inputs. InvalidRequest names what differs."""
    given = {tensor.name: tensor for tensor in tensors}
    wanted = {spec.name: spec for spec in specs}
    if given.keys() != wanted.keys() or len(given) != len(tensors):
        raise InvalidRequest(f"inputs {sorted(t.name for t in tensors)} were sent; the model takes {sorted(wanted)}")
    return {name: _array(given[name], spec) for name, spec in wanted.items()}


def _array(tensor: Tensor, spec: TensorSpec) -> NDArray[np.generic]:
    fits = len(tensor.shape) == len(spec.shape) and all(
        size is None or size == got for size, got in zip(spec.shape, tensor.shape, strict=True)
    )
    if tensor.dtype != spec.dtype or not fits:
        raise InvalidRequest(
            f"input {spec.name!r} is {tensor.dtype} {_show(tensor.shape)}; the model takes {spec.dtype} {_show(spec.shape)}"
        )
    try:
        flat = np.frombuffer(tensor.data, np.dtype(tensor.dtype).newbyteorder("<"))
        return flat.reshape(tensor.shape).astype(tensor.dtype, copy=False)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidRequest(
            f"input {spec.name!r}: {len(tensor.data)} bytes are not {tensor.dtype} {_show(tensor.shape)}: {error}"
        ) from error


def tensor_of(name: str, array: NDArray[np.generic]) -> Tensor:
    """Return an array as a tensor of little-endian bytes."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return Tensor(name=name, dtype=array.dtype.name, shape=tuple(array.shape), data=little.tobytes())


def _show(shape: Sequence[int | None]) -> str:
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"
