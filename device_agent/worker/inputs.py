"""What a model is fed: random values, zeros, or arrays from a file, from its own description of its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from device_agent.contract.artifact import Tensor, TensorSpec
from device_agent.contract.errors import InvalidRequest, ModelRejected
from device_agent.contract.settings import InputKind, Settings
from device_agent.worker.data import read_arrays, show_shape


def make_inputs(
    specs: Sequence[TensorSpec], settings: Settings, seed: int, data: tuple[Path, str] | None
) -> dict[str, NDArray[np.generic]]:
    """Return an array per input as the settings ask. `data` is the file of DATA inputs and what to call it.

    InvalidRequest for a batch or data that do not fit, ModelRejected for inputs that have no such values.
    """
    if settings.inputs is InputKind.DATA:
        if data is None:
            raise InvalidRequest("inputs=data needs the file of the inputs")
        return read_arrays(*data, with_batch(specs, settings.batch))
    if settings.inputs is InputKind.ZEROS:
        return {spec.name: _zeros(spec) for spec in with_batch(specs, settings.batch)}
    return random_inputs(with_batch(specs, settings.batch), seed)


def with_batch(specs: Sequence[TensorSpec], batch: int | None) -> tuple[TensorSpec, ...]:
    """Return the specs with their dynamic first dimensions fixed: to the batch, or to 1, one sample at a time.

    InvalidRequest for a batch other than a first dimension that the model has fixed.
    """
    for spec in specs:
        if batch is not None and spec.shape and spec.shape[0] not in (None, batch):
            raise InvalidRequest(
                f"batch={batch}: input {spec.name!r} has shape {show_shape(spec.shape)}, whose first dimension is fixed; leave"
                " the batch out, or export the model with a dynamic first dimension"
            )
    return tuple(
        TensorSpec(name=spec.name, dtype=spec.dtype, shape=(batch or 1, *spec.shape[1:]))
        if spec.shape and spec.shape[0] is None
        else spec
        for spec in specs
    )


def random_inputs(specs: Sequence[TensorSpec], seed: int) -> dict[str, NDArray[np.generic]]:
    """Return an array per input, the same for the same seed.

    Floats are standard normal; 8-bit integers use their whole range, as quantized images do; wider integers are 0 or 1, which
    is a valid index almost everywhere; booleans are fair coins. A dynamic first dimension becomes 1, one sample at
    a time; ModelRejected for any other dynamic dimension and for types that numpy cannot draw.
    """
    generator = np.random.default_rng(seed)
    return {spec.name: _draw(spec, generator) for spec in specs}


def _fixed(spec: TensorSpec) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    """Return shape and type. ModelRejected for dynamic dimensions but the first, and for types that are no numbers."""
    for axis, size in enumerate(spec.shape):
        if size is None and axis > 0:
            raise ModelRejected(
                f"input {spec.name!r} has shape {show_shape(spec.shape)}: dimension {axis} is dynamic, and only the first may be;"
                " export the model with fixed sizes, or measure it with data inputs"
            )
    try:
        dtype = np.dtype(spec.dtype)
    except TypeError:
        dtype = np.dtype("O")
    if dtype.kind not in "fbiu":
        raise ModelRejected(
            f"input {spec.name!r} has type {spec.dtype!r}, for which there are no such values; use infer"
        )
    return tuple(1 if size is None else size for size in spec.shape), dtype


def _zeros(spec: TensorSpec) -> NDArray[np.generic]:
    shape, dtype = _fixed(spec)
    return np.zeros(shape, dtype)


def _draw(spec: TensorSpec, generator: np.random.Generator) -> NDArray[np.generic]:
    shape, dtype = _fixed(spec)
    if dtype.kind == "f":
        return generator.standard_normal(shape).astype(dtype)
    if dtype.kind in "iu" and dtype.itemsize == 1:
        limits = np.iinfo(dtype)  # type: ignore[type-var]  # the kind says that it is an integer
        return generator.integers(limits.min, limits.max + 1, shape).astype(dtype)
    return generator.integers(0, 2, shape).astype(dtype)


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
            f"input {spec.name!r} is {tensor.dtype} {show_shape(tensor.shape)}; the model takes {spec.dtype}"
            f" {show_shape(spec.shape)}"
        )
    try:
        flat = np.frombuffer(tensor.data, np.dtype(tensor.dtype).newbyteorder("<"))
        return flat.reshape(tensor.shape).astype(tensor.dtype, copy=False)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidRequest(
            f"input {spec.name!r}: {len(tensor.data)} bytes are not {tensor.dtype} {show_shape(tensor.shape)}: {error}"
        ) from error


def tensor_of(name: str, array: NDArray[np.generic]) -> Tensor:
    """Return an array as a tensor of little-endian bytes."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return Tensor(name=name, dtype=array.dtype.name, shape=tuple(array.shape), data=little.tobytes())
