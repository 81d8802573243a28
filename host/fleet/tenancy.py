"""A lease for work that uses its device in bursts: held while calls follow one another, given up in the pauses between."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Protocol, TypeVar

from device_agent.contract.errors import LeaseLost
from device_agent.contract.lease import Lease, Place

#: Longer than what lies between two measurements of a search, shorter than an epoch of any training that lasts.
PAUSE_S = 15.0
#: How often in a row a call is repeated after its lease was lost: an agent that restarts at every attempt is broken.
REPEATS = 5

_T = TypeVar("_T")


class Leasing(Protocol):
    """What a tenancy needs of a client."""

    def lease(
        self,
        holder: str | None,
        reason: str,
        *,
        wait_s: float | None = None,
        on_wait: Callable[[Place], None] | None = None,
    ) -> AbstractContextManager[Lease]:
        """See AgentClient.lease."""


class Tenancy:
    """Runs calls under a lease. Enter it to take the lease for the first time, leave it to give it up for good.

    For the first lease it waits `wait_s` (see AgentClient.lease; DeviceBusy), for the later ones as long as it takes: half done
    work is worth it. A call whose lease was lost is repeated under a new one. `on_lost(why)` hears of that. One thread calls.
    """

    def __init__(
        self,
        client: Leasing,
        reason: str,
        *,
        holder: str | None = None,
        wait_s: float | None = None,
        on_wait: Callable[[Place], None] | None = None,
        on_lost: Callable[[str], None] | None = None,
        pause_s: float = PAUSE_S,
    ) -> None:
        self._client = client
        self._reason = reason
        self._holder = holder
        self._wait_s = wait_s
        self._on_wait = on_wait
        self._on_lost = on_lost
        self._pause_s = pause_s
        #: What was spent on waiting for leases so far.
        self.waited_s = 0.0
        self._lock = threading.Lock()
        self._held: ExitStack | None = None
        self._timer: threading.Timer | None = None

    def __enter__(self) -> Tenancy:
        self._take(self._wait_s)
        self._pause()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._resume()
        with self._lock:
            self._give_up()

    def run(self, call: Callable[[], _T]) -> _T:
        """Return what the call gives under the lease. Raises what it raises, LeaseLost only after REPEATS repetitions."""
        self._resume()
        try:
            for _ in range(REPEATS):
                self._take(math.inf)
                try:
                    return call()
                except LeaseLost as error:
                    with self._lock:
                        self._give_up()
                    if self._on_lost is not None:
                        self._on_lost(str(error))
            self._take(math.inf)
            return call()
        finally:
            self._pause()

    def _take(self, wait_s: float | None) -> None:
        with self._lock:
            if self._held is not None:
                return
            start_s = time.monotonic()
            with ExitStack() as stack:
                lease = self._client.lease(self._holder, self._reason, wait_s=wait_s, on_wait=self._on_wait)
                stack.enter_context(lease)
                self._held = stack.pop_all()
            self.waited_s += time.monotonic() - start_s

    def _give_up(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            held.close()

    def _pause(self) -> None:
        """Give the lease up after a while without a call."""
        timer = threading.Timer(self._pause_s, lambda: self._end_pause(timer))
        timer.name, timer.daemon = "lease-pause", True
        self._timer = timer
        timer.start()

    def _resume(self) -> None:
        with self._lock:
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _end_pause(self, timer: threading.Timer) -> None:
        with self._lock:
            if self._timer is timer:  # no call has come meanwhile
                self._give_up()
