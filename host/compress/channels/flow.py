"""What a run read and made, operation by operation: which value comes from which, and when it is read last.

Only values that come from the network's input are kept; weights and constants are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

Key = tuple[int, int, tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An operation: its name without overload, the module that ran, and the numbers of the values that it read and made.

    `pointwise` results may take the place of an operand. What was written in place is another value from then on.
    """

    name: str
    module: str
    pointwise: bool
    reads: tuple[int, ...]
    makes: tuple[int, ...]


@dataclass(slots=True, kw_only=True)
class Value:
    """A tensor: its shape, and labels of as many dimensions, each of full size or 1 (`atoms`)."""

    shape: torch.Size
    labels: Tensor = field(repr=False)


class Flow:
    """The events of a run in their order. The first value is the network's input."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.values: list[Value] = []
        self.outputs: list[int] = []
        self._numbers: dict[Key, int] = {}

    def number(self, value: Tensor, labels: Tensor, *, written: bool = False) -> int:
        """Return the number of a tensor, a new one where it was not seen before or has just been `written` over."""
        key = key_of(value)
        if written or key not in self._numbers:
            self._numbers[key] = len(self.values)
            self.values.append(Value(shape=value.shape, labels=labels))
        number = self._numbers[key]
        self.values[number].labels = labels
        return number

    def readers(self, value: int) -> list[Event]:
        """Return the operations that read a value, without those that only look at it again as it is."""
        return [event for event in self.events if value in event.reads and event.makes != (value,)]

    def results(self, module: str) -> list[int]:
        """Return the values that a module made and did not read itself."""
        events = [event for event in self.events if event.module == module]
        read = {value for event in events for value in event.reads}
        return [event.makes[0] for event in events if event.makes[0] not in read]

    def downstream(self, values: Sequence[int]) -> set[int]:
        """Return these values and all that is computed from them."""
        found = set(values)
        for event in self.events:
            if found.intersection(event.reads):
                found.update(event.makes)
        return found


def key_of(value: Tensor) -> Key:
    """Where a tensor lies in memory, which views and aliases share."""
    # Strides along a single place say nothing, and differ between memory formats.
    strides = tuple(0 if size == 1 else step for size, step in zip(value.shape, value.stride(), strict=True))
    return value.untyped_storage().data_ptr(), int(value.storage_offset()), tuple(value.shape), strides
