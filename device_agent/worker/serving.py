"""Streams at work: threads that take requests from one queue, each with a model of its own, and the record of what they did.

A runtime's run releases the interpreter's lock, so streams compute at the same time. Per request a stream holds that lock for
some microseconds; the thread that watches sleeps, and copies columns, so that it holds the lock for no longer than that.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from time import perf_counter_ns

from device_agent.contract.load import MAX_REQUESTS
from device_agent.contract.served import ServedLog

_PR_SET_TIMERSLACK = 29
#: Sleeping threads wake up this often to see whether the trial was given up.
_NAP_S = 0.2
_POLL_S = 0.25
#: How long a thread may keep the interpreter's lock when another wants it; the default of 5 ms would be a visible wait.
_SWITCH_S = 0.0001
#: Threads need a moment to start before the first request may arrive.
_LEAD_NS = 20_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLoop:
    """How a trial of an open loop went. `unserved` had arrived and were not taken when it was given up, or ended by `stop`."""

    start_ns: int
    unserved: int
    given_up: bool


class Streams:
    """Serves trials with `runners`, one stream each. `watch` is called a few times a second, in the caller's thread.

    What a runner raises ends the trial and is raised to its caller, inside the context `blaming`. Requests of all trials are in
    `log`, in the order in which they were done.
    """

    def __init__(
        self,
        runners: Sequence[Callable[[], object]],
        watch: Callable[[], None],
        blaming: AbstractContextManager[object],
    ) -> None:
        self._runners = runners
        self._watch = watch
        self._blaming = blaming
        self.log = ServedLog()
        self._recording = threading.Lock()
        self._stop = False
        self._stopped_ns: int | None = None
        self._failure: BaseException | None = None

    def closed_loop(self, trial: int, *, duration_s: float, min_requests: int) -> None:
        """Let every stream take its next request as soon as it is done with the last, which is when it arrives.

        Ends after the duration and `min_requests`, or MAX_REQUESTS.
        """
        first = len(self.log)
        end_ns = perf_counter_ns() + round(duration_s * 1e9)

        def serve(stream: int, run: Callable[[], object]) -> None:
            clock = perf_counter_ns
            while not self._stop:
                start = clock()
                done = len(self.log) - first
                if (start >= end_ns and done >= min_requests) or done >= MAX_REQUESTS:
                    return
                run()
                self._record(trial, stream, start, start)

        self._run(serve)

    def stop(self) -> None:
        """End the trial: no stream takes another request. May be called by whoever watches."""
        self._stopped_ns = perf_counter_ns()
        self._stop = True

    def open_loop(self, trial: int, arrivals: array[int], *, give_up_ns: float) -> OpenLoop:
        """Serve requests that arrive at the given times (ns from the trial's start), first come, first served.

        The trial is given up when the next in the queue has waited for `give_up_ns`.
        """
        begin = perf_counter_ns() + _LEAD_NS
        due = array("q", (begin + at for at in arrivals))
        turn = threading.Lock()
        taken = 0
        given_up = False

        def serve(stream: int, run: Callable[[], object]) -> None:
            nonlocal taken, given_up
            clock = perf_counter_ns
            while True:
                # Who has the turn waits for the next arrival, asleep; the other idle streams wait for the turn.
                with turn:
                    if self._stop or taken == len(due):
                        return
                    arrival = due[taken]
                    while (start := clock()) < arrival:
                        time.sleep(min((arrival - start) / 1e9, _NAP_S))
                        if self._stop:
                            return
                    if start - arrival > give_up_ns:
                        given_up = True
                        self.stop()
                        return
                    taken += 1
                run()
                self._record(trial, stream, arrival, start)

        self._run(serve)
        unserved = 0 if self._stopped_ns is None else max(0, bisect_right(due, self._stopped_ns) - taken)
        return OpenLoop(start_ns=begin, unserved=unserved, given_up=given_up)

    def _record(self, trial: int, stream: int, arrival_ns: int, start_ns: int) -> None:
        with self._recording:
            self.log.add(trial, stream, arrival_ns, start_ns, perf_counter_ns())

    def _run(self, serve: Callable[[int, Callable[[], object]], None]) -> None:
        self._stop, self._stopped_ns = False, None
        working = threading.Semaphore(0)

        def stream(number: int, run: Callable[[], object]) -> None:
            try:
                serve(number, run)
            except BaseException as error:
                self._failure = self._failure or error
                self._stop = True
            finally:
                working.release()

        switch_s = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_S)
        wake_punctually()
        threads = [
            threading.Thread(target=stream, args=(number, run), name=f"stream-{number}", daemon=True)
            for number, run in enumerate(self._runners)
        ]
        try:
            for thread in threads:
                thread.start()
            for _ in threads:
                while not working.acquire(timeout=_POLL_S):
                    self._watch()
        finally:
            self._stop = True
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
            sys.setswitchinterval(switch_s)
        if self._failure is not None:
            with self._blaming:
                raise self._failure


def wake_punctually() -> None:
    """Ask the kernel to wake this thread, and those that it starts, on time; by default it may be 50 us late (timer slack)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
