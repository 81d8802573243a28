"""Runs during which the kernel preempted the worker: when they may be left out, and when their marks tell nothing.

The statistics of a measurement are given over all runs and over the undisturbed ones. Standard library only.
"""

from __future__ import annotations

from collections.abc import Sequence

from device_agent.contract.measurement import Run, RunKind
from device_agent.contract.runs import KINDS, RunColumns
from device_agent.contract.statistics import median

#: A task that shares a processor is given it for 3 to 9 ms at a time (Linux's EEVDF and CFS, by version and processors). A longer
#: run never escapes a neighbour, and on a quiet machine often meets some kernel thread that costs it microseconds.
TIME_SLICE_NS = 10_000_000
#: Statistics of undisturbed runs need this many of them, and this share of all.
FEWEST_UNDISTURBED = 30
UNDISTURBED_SHARE = 0.2
_TIMED = KINDS.index(RunKind.TIMED)


def enough_undisturbed(undisturbed: int, total: int) -> bool:
    """Say whether statistics over the undisturbed runs may be given: 30 such runs and 20 % of all."""
    return undisturbed >= FEWEST_UNDISTURBED and undisturbed >= UNDISTURBED_SHARE * total


def marks_are_void(runs: Sequence[Run]) -> bool:
    """Say whether the marks of disturbed runs tell nothing, because a run is longer than the scheduler's time slice."""
    every, clean = _latencies(runs)
    return _longer_than_a_slice(every, clean)


def steadiest(runs: Sequence[Run]) -> list[int]:
    """Return the latencies to judge precision on: those of undisturbed runs where there are enough and marks tell, else all."""
    every, clean = _latencies(runs)
    return clean if enough_undisturbed(len(clean), len(every)) and not _longer_than_a_slice(every, clean) else every


def _latencies(runs: Sequence[Run]) -> tuple[list[int], list[int]]:
    """Return the latencies of all timed runs and of the undisturbed ones. No `Run` is made of columns, which may hold many."""
    if isinstance(runs, RunColumns):
        rows = zip(runs.kinds, runs.latencies, runs.marks, strict=True)
        pairs = [(latency, mark) for kind, latency, mark in rows if kind == _TIMED]
    else:
        pairs = [(run.latency_ns, int(run.disturbed)) for run in runs if run.kind is RunKind.TIMED]
    return [latency for latency, _ in pairs], [latency for latency, mark in pairs if not mark]


def _longer_than_a_slice(every: Sequence[int], clean: Sequence[int]) -> bool:
    """A preempted run takes long whatever it is, so undisturbed ones say how long a run takes, if there are any."""
    return bool(every) and median(clean or every) > TIME_SLICE_NS
