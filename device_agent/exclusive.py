"""The keeper in an event loop: jobs end when their lease does, and whoever waits is woken when something changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from device_agent.contract.errors import AgentStopping, DeviceBusy, InvalidRequest, LeaseLost
from device_agent.contract.lease import DeviceUse, Lease, Place
from device_agent.lease import LeaseKeeper, Use

#: Before Python 3.12 asyncio.wait_for loses a cancellation that comes together with its result.
CANCEL_AGAIN_S = 1.0
#: How long a call is held back for a job that is being ended: a worker is killed at once, and reaped in a moment.
ENDING_S = 5.0
MAX_HOLD_S = 10.0
#: How long a place is kept for an owner of whom nothing is heard; a host notices a pulled cable within 5 s.
PLACE_S = 15.0
#: The same where the owner's connection broke, which a cable doesn't do for long: most likely the host was killed.
BROKEN_S = 3.0


@dataclass(slots=True)
class _Running:
    use: Use
    task: asyncio.Task[object]
    cancelled_s: float | None = None


class ExclusiveUse:
    """Lease, queue and jobs of one device. Used from one event loop."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._keeper = LeaseKeeper(clock=clock)
        self._running: list[_Running] = []
        self._changed: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.stopping = False

    def check(self, token: str | None) -> None:
        """Let a short call pass, or raise the errors of LeaseKeeper.check."""
        self._keeper.check(token)

    @contextmanager
    def job(self, what: str, token: str | None, caller: str, *, exclusive: bool = True) -> Iterator[None]:
        """Let the current task use the device until the block ends, by when all of it is over, down to the last process.

        If the lease ends before, the task is cancelled, and the block raises LeaseLost. An upload is not exclusive: it may run
        beside a job. Raises AgentStopping, and the errors of LeaseKeeper.begin.
        """
        if self.stopping:
            raise AgentStopping("the agent is shutting down and takes no new jobs; try again when it is back")
        task = asyncio.current_task()
        assert task is not None
        running = _Running(self._keeper.begin(what, token, caller, exclusive=exclusive), task)
        self._running.append(running)
        try:
            yield
        except BaseException as error:
            if running.use.lost is not None:
                raise LeaseLost(f"{what} was ended on the device: {running.use.lost}") from error
            raise
        finally:
            self._running.remove(running)
            self._keeper.end(running.use)
            self._settle()

    async def acquire(self, holder: str, reason: str, ttl_s: float, ticket: str | None = None) -> Lease:
        """Return a lease, see LeaseKeeper.acquire. A job that is being ended is waited for."""
        end_s = self._clock() + ENDING_S
        while True:
            self._refuse_when_stopping()
            try:
                lease = self._keeper.acquire(holder, reason, ttl_s, ticket)
            except DeviceBusy:
                ending = self._keeper.overdue()
                if not ending or self._clock() >= end_s:
                    raise
                await self._change(end_s - self._clock())
            else:
                self._settle()
                return lease

    async def queue(self, ticket: str, holder: str, reason: str, ttl_s: float, hold_s: float) -> Lease | Place:
        """Return the lease, or the ticket's place when it changes or `hold_s` seconds are over.

        Raises the errors of LeaseKeeper.queue, AgentStopping, and JobAborted if the place is given up meanwhile.
        """
        if not 0 <= hold_s <= MAX_HOLD_S:
            raise InvalidRequest(f"hold_s={hold_s} is not in 0..{MAX_HOLD_S:.0f} seconds")
        self._refuse_when_stopping()
        waiting = len(self._keeper.use().waiting)
        answer = self._keeper.queue(ticket, holder, reason, ttl_s, life_s=hold_s + min(ttl_s, PLACE_S))
        kept_until_s = self._keeper.kept_until_s(ticket)
        # Those who ask again change nothing for the others, and wake nobody: somebody may be measuring.
        self._settle(wake=isinstance(answer, Lease) or len(self._keeper.use().waiting) != waiting)
        end_s = self._clock() + hold_s
        before = answer
        while not _worth_telling(answer, before) and self._clock() < end_s:
            try:
                await self._change(end_s - self._clock())
            except asyncio.CancelledError:
                if self._keeper.kept_until_s(ticket) == kept_until_s:
                    self._keeper.doubt(ticket, BROKEN_S)
                    self._settle(wake=False)
                raise
            self._refuse_when_stopping()
            answer = self._keeper.claim(ticket)
        if isinstance(answer, Lease):
            self._settle()
        return answer

    def leave(self, ticket: str) -> None:
        """End the ticket's place, or its lease."""
        self._keeper.leave(ticket)
        self._settle()

    def renew(self, token: str, ttl_s: float) -> Lease:
        """Return the lease, see LeaseKeeper.renew."""
        return self._keeper.renew(token, ttl_s)

    def release(self, token: str) -> None:
        """End the lease, see LeaseKeeper.release, and what runs under it."""
        self._keeper.release(token)
        self._settle()

    def use(self) -> DeviceUse:
        """Return who uses the device."""
        return self._keeper.use()

    async def end_use(self) -> DeviceUse:
        """End whatever uses the device and return it, when it is over."""
        was = self._keeper.end_use()
        self._settle()
        end_s = self._clock() + ENDING_S
        while self._keeper.overdue() and self._clock() < end_s:
            await self._change(end_s - self._clock())
        return was

    async def stop(self) -> None:
        """End all jobs, wait until the last worker is gone, and take no further ones; whoever waits is told."""
        self.stopping = True
        self._settle()
        while self._running:
            await self._change(CANCEL_AGAIN_S)
            self._settle()
        if self._timer is not None:
            self._timer.cancel()

    def _refuse_when_stopping(self) -> None:
        if self.stopping:
            raise AgentStopping("the agent is shutting down and gives no leases; ask again when it is back")

    async def _change(self, timeout_s: float) -> None:
        """Wait until something changes, or for so long."""
        if self._changed is None:
            self._changed = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._changed], timeout=max(0.0, timeout_s))

    def _settle(self, *, wake: bool = True) -> None:
        """Cancel what has to end, wake whoever waits, and come back when the next thing ends by itself."""
        overdue, now_s = self._keeper.overdue(), self._clock()
        ending = [running for running in self._running if self.stopping or running.use in overdue]
        for running in ending:
            if running.cancelled_s is None or now_s - running.cancelled_s >= CANCEL_AGAIN_S:
                running.cancelled_s = now_s
                running.task.cancel()
        if wake and self._changed is not None:
            if not self._changed.done():
                self._changed.set_result(None)
            self._changed = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        end_s = self._keeper.next_end_s()
        delays_s = [*([] if end_s is None else [end_s - now_s]), *([CANCEL_AGAIN_S] if ending else [])]
        if delays_s:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.0, min(delays_s)), self._settle)


def _worth_telling(answer: Lease | Place, before: Lease | Place) -> bool:
    """Return whether an answer differs by more than the time that remains. A free device is about to be somebody's."""
    if isinstance(answer, Lease) or isinstance(before, Lease):
        return True
    new, old = ((one.position, one.holder, one.reason) for one in (answer, before))
    return answer.position != before.position or (answer.holder is not None and new != old)
