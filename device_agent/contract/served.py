"""A record of served requests in columns: 30 bytes each, where a tuple of values takes ten times as much."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from device_agent.contract.load import ServedRequest

#: Trial, stream, arrival, start and end.
_CODES = "IHqqq"
_ROW_BYTES = sum(array(code).itemsize for code in _CODES)


class ServedLog(Sequence[ServedRequest]):
    """An append-only sequence of requests, kept as numbers and made into `ServedRequest`s when they are asked for.

    It equals any sequence of the same requests. One thread may append while others read what was there before.
    """

    def __init__(self, requests: Iterable[ServedRequest] = ()) -> None:
        self.trials = array("I")
        self.streams = array("H")
        self.arrivals = array("q")
        self.starts = array("q")
        self.ends = array("q")
        self.extend(requests)

    def add(self, trial: int, stream: int, arrival_ns: int, start_ns: int, end_ns: int) -> None:
        """Append a request."""
        self.trials.append(trial)
        self.streams.append(stream)
        self.arrivals.append(arrival_ns)
        self.starts.append(start_ns)
        self.ends.append(end_ns)  # last: the length is that of this column

    def extend(self, requests: Iterable[ServedRequest]) -> None:
        """Append several."""
        for one in requests:
            self.add(one.trial, one.stream, one.arrival_ns, one.start_ns, one.end_ns)

    def packed(self, first: int, last: int) -> bytes:
        """Return the requests from `first` up to `last` as little-endian columns, for `unpacked`."""
        return b"".join(_little(column[first:last]).tobytes() for column in self._columns())

    @classmethod
    def unpacked(cls, data: bytes) -> ServedLog:
        """Return the requests of `packed`. ValueError if the bytes are not whole requests."""
        count, rest = divmod(len(data), _ROW_BYTES)
        if rest:
            raise ValueError(f"{len(data)} bytes are not whole requests of {_ROW_BYTES} bytes")
        made = cls()
        place = 0
        for column in made._columns():
            size = count * column.itemsize
            column.frombytes(data[place : place + size])
            if sys.byteorder == "big":
                column.byteswap()
            place += size
        return made

    def _columns(self) -> tuple[array[int], ...]:
        return self.trials, self.streams, self.arrivals, self.starts, self.ends

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, place: int) -> ServedRequest: ...

    @overload
    def __getitem__(self, place: slice) -> list[ServedRequest]: ...

    def __getitem__(self, place: int | slice) -> ServedRequest | list[ServedRequest]:
        if isinstance(place, slice):
            return [self._at(i) for i in range(*place.indices(len(self)))]
        return self._at(place)

    def __iter__(self) -> Iterator[ServedRequest]:
        return map(self._at, range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(one == another for one, another in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # it grows

    def _at(self, place: int) -> ServedRequest:
        return ServedRequest(
            trial=self.trials[place],
            stream=self.streams[place],
            arrival_ns=self.arrivals[place],
            start_ns=self.starts[place],
            end_ns=self.ends[place],
        )


def _little(column: array[int]) -> array[int]:
    if sys.byteorder == "big":
        column.byteswap()  # a slice is a copy
    return column
