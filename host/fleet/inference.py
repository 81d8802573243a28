"""Streaming batches through a device: named numpy arrays in, named numpy arrays out, a bounded number on their way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from device_agent import codec
from device_agent.contract.artifact import Tensor
from device_agent.contract.errors import AgentInternalError, BoardfitError


def tensors_of(arrays: Mapping[str, np.ndarray]) -> tuple[Tensor, ...]:
    """Return the arrays as the contract's tensors: C-contiguous, little-endian."""
    return tuple(
        Tensor(
            name=name,
            dtype=array.dtype.name,
            shape=array.shape,
            data=np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes(),
        )
        for name, array in arrays.items()
    )


def arrays_of(tensors: Iterable[Tensor]) -> dict[str, np.ndarray]:
    """Return the tensors as arrays of their own memory, in the order in which they came."""
    return {
        tensor.name: np.frombuffer(tensor.data, dtype=np.dtype(tensor.dtype).newbyteorder("<"))
        .reshape(tensor.shape)
        .astype(tensor.dtype)
        for tensor in tensors
    }


def run_batches(
    header: Any,
    batches: Iterable[Mapping[str, np.ndarray]],
    call: Callable[[Iterator[Any]], Iterator[Any]],
    *,
    in_flight: int,
) -> Iterator[dict[str, np.ndarray]]:
    """Feed `batches` to `call` and yield its answers. gRPC reads requests from a thread; a semaphore holds it back."""
    room = threading.Semaphore(in_flight)
    ended = threading.Event()
    failure: list[BaseException] = []
    sent = 0

    def requests() -> Iterator[Any]:
        nonlocal sent
        yield header
        try:
            for arrays in batches:
                while not room.acquire(timeout=0.2):
                    if ended.is_set():
                        return
                sent += 1
                yield codec.infer_inputs_to_pb(tensors_of(arrays))
        except GeneratorExit:
            raise
        except BaseException as error:
            failure.append(error)
            raise

    answered = 0
    try:
        for response in call(requests()):
            answered += 1
            room.release()
            yield arrays_of(codec.infer_outputs_from_pb(response))
    except BoardfitError:
        if failure:
            raise failure[0] from None
        raise
    finally:
        ended.set()
    if failure:
        raise failure[0]
    if answered != sent:
        raise AgentInternalError(f"the agent answered {answered} of {sent} batches; see its log")
