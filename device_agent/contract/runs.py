"""Runs as columns of numbers: 22 bytes each instead of some 200, made into `Run`s only when they are asked for.

Measuring a fast model makes a hundred thousand runs; a board's agent passes them on without touching each. Standard library only.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import compress
from typing import overload

from device_agent.contract.measurement import Run, RunKind

#: A kind is stored as its place here.
KINDS = tuple(RunKind)
_NUMBER = {kind: number for number, kind in enumerate(KINDS)}
#: Type codes of `array`, in the order of the columns.
_CODES = ("q", "q", "I", "H", "B", "B")
_RUN_BYTES = sum(array(code).itemsize for code in _CODES)


class RunColumns(Sequence[Run]):
    """A sequence of runs that grows at its end. `kinds` are places in KINDS, `marks` say 1 for a disturbed run."""

    __slots__ = ("artifacts", "kinds", "latencies", "marks", "starts", "turns")

    def __init__(self) -> None:
        self.starts = array("q")
        self.latencies = array("q")
        self.turns = array("I")
        self.artifacts = array("H")
        self.kinds = array("B")
        self.marks = array("B")

    def add(self, artifact: int, kind: RunKind, turn: int, start_ns: int, latency_ns: int, disturbed: bool) -> None:
        """Append a run."""
        self.starts.append(start_ns)
        self.latencies.append(latency_ns)
        self.turns.append(turn)
        self.artifacts.append(artifact)
        self.kinds.append(_NUMBER[kind])
        self.marks.append(disturbed)

    def extend(self, others: RunColumns) -> None:
        """Append runs."""
        for own, other in zip(self._columns(), others._columns(), strict=True):
            own.extend(other)

    def has(self, kind: RunKind) -> bool:
        """Say whether there are runs of this kind."""
        return _NUMBER[kind] in self.kinds

    def timed(self, artifact: int) -> RunColumns:
        """Return one artifact's timed runs, in their order."""
        wanted = _NUMBER[RunKind.TIMED]
        chosen = bytes(kind == wanted and own == artifact for kind, own in zip(self.kinds, self.artifacts, strict=True))
        return self._made(lambda column: array(column.typecode, compress(column, chosen)))

    def of(self, kind: RunKind) -> Iterator[Run]:
        """Return the runs of a kind, in their order."""
        wanted = _NUMBER[kind]
        return (self._at(place) for place, number in enumerate(self.kinds) if number == wanted)

    def to_bytes(self) -> bytes:
        """Return the columns one after the other, in this machine's byte order."""
        return b"".join(column.tobytes() for column in self._columns())

    @classmethod
    def from_bytes(cls, data: bytes) -> RunColumns:
        """Return the runs that `to_bytes` wrote on this machine. ValueError for another length."""
        count, rest = divmod(len(data), _RUN_BYTES)
        if rest:
            raise ValueError(f"{len(data)} bytes are no whole number of runs of {_RUN_BYTES} bytes")
        made = cls()
        offset = 0
        for column in made._columns():
            size = count * column.itemsize
            column.frombytes(data[offset : offset + size])
            offset += size
        return made

    def __len__(self) -> int:
        return len(self.starts)

    @overload
    def __getitem__(self, place: int) -> Run: ...

    @overload
    def __getitem__(self, place: slice) -> RunColumns: ...

    def __getitem__(self, place: int | slice) -> Run | RunColumns:
        if isinstance(place, slice):
            return self._made(lambda column: column[place])
        return self._at(place)

    def __iter__(self) -> Iterator[Run]:
        return map(self._at, range(len(self)))

    def _at(self, place: int) -> Run:
        return Run(
            artifact=self.artifacts[place],
            kind=KINDS[self.kinds[place]],
            turn=self.turns[place],
            start_ns=self.starts[place],
            latency_ns=self.latencies[place],
            disturbed=bool(self.marks[place]),
        )

    def _columns(self) -> tuple[array[int], ...]:
        return (self.starts, self.latencies, self.turns, self.artifacts, self.kinds, self.marks)

    def _made(self, of: Callable[[array[int]], array[int]]) -> RunColumns:
        made = RunColumns()
        made.starts, made.latencies, made.turns, made.artifacts, made.kinds, made.marks = map(of, self._columns())
        return made
