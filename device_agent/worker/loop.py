"""The timed loop: the few lines whose cost is part of every measurement.

Per run it reads the clock twice and, outside the timed interval, the count of involuntary context switches once. Garbage
collection is off and nothing but those integers is allocated. Sending happens between turns.
"""

from __future__ import annotations

import gc
import resource
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter_ns


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Collect now, then keep the collector off until the block ends."""
    gc.collect()
    gc.freeze()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class TurnTimer:
    """Times turns of runs into arrays made once.

    `threads` is the number of threads that compute: with one, the calling thread's context switches count, else the process's.
    """

    def __init__(self, *, threads: int, capacity: int) -> None:
        self._who = resource.RUSAGE_THREAD if threads == 1 else resource.RUSAGE_SELF
        self._capacity = capacity
        self.starts = array("q", bytes(8 * capacity))
        self.ends = array("q", bytes(8 * capacity))
        self.switches = array("q", bytes(8 * (capacity + 1)))
        self._after_disturbance = False

    def turn(self, run: Callable[[], object], count: int) -> None:
        """Run `count` times (at most the capacity). Results are in the first `count` places of the arrays."""
        if count > self._capacity:
            raise ValueError(f"{count} runs are over the timer's capacity of {self._capacity}")
        starts, ends, switches, who = self.starts, self.ends, self.switches, self._who
        getrusage, clock = resource.getrusage, perf_counter_ns
        switches[0] = getrusage(who).ru_nivcsw
        for place in range(count):
            start = clock()
            run()
            ends[place] = clock()
            starts[place] = start
            switches[place + 1] = getrusage(who).ru_nivcsw

    def disturbed(self, count: int) -> list[bool]:
        """Return the mark of each run of the last turn: switched out during it or during the run before it.

        Call once per turn, in order: the mark carries over from the end of one turn to the next.
        """
        marks: list[bool] = []
        for place in range(count):
            switched = self.switches[place + 1] > self.switches[place]
            marks.append(switched or self._after_disturbance)
            self._after_disturbance = switched
        return marks
