"""The worker's own record of runs: 22 bytes each, so that it hardly shows in the peak memory of what is measured."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from typing import overload

from device_agent.contract.measurement import Run, RunKind

_KINDS = tuple(RunKind)
_NUMBER = {kind: number for number, kind in enumerate(_KINDS)}


class RunLog(Sequence[Run]):
    """An append-only sequence of runs, kept as numbers and made into `Run`s when they are asked for."""

    def __init__(self) -> None:
        self._starts = array("q")
        self._latencies = array("q")
        self._turns = array("I")
        self._artifacts = array("H")
        self._kinds = array("B")
        self._marks = array("B")

    def add(self, artifact: int, kind: RunKind, turn: int, start_ns: int, latency_ns: int, disturbed: bool) -> None:
        """Append a run."""
        self._starts.append(start_ns)
        self._latencies.append(latency_ns)
        self._turns.append(turn)
        self._artifacts.append(artifact)
        self._kinds.append(_NUMBER[kind])
        self._marks.append(disturbed)

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, place: int) -> Run: ...

    @overload
    def __getitem__(self, place: slice) -> list[Run]: ...

    def __getitem__(self, place: int | slice) -> Run | list[Run]:
        if isinstance(place, slice):
            return [self._at(i) for i in range(*place.indices(len(self)))]
        return self._at(place)

    def __iter__(self) -> Iterator[Run]:
        return map(self._at, range(len(self)))

    def _at(self, place: int) -> Run:
        return Run(
            artifact=self._artifacts[place],
            kind=_KINDS[self._kinds[place]],
            turn=self._turns[place],
            start_ns=self._starts[place],
            latency_ns=self._latencies[place],
            disturbed=bool(self._marks[place]),
        )
