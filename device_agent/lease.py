"""The lease keeper: who may use the device, for how long, on the agent's monotonic clock; who waits; and what runs.

Lease, queue and running jobs are one state, so that there is no moment between two of them: a lease is given only when nothing
runs, and what runs under a lease that is over still counts until it has ended.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from device_agent.contract.errors import DeviceBusy, InvalidRequest, JobAborted, LeaseLost
from device_agent.contract.lease import DeviceUse, Job, Lease, Place
from device_agent.lease_queue import LeaseQueue

MIN_TTL_S = 1.0
MAX_TTL_S = 3600.0
MAX_TEXT = 200
#: More than a rack's hosts; whoever comes later is told to come back.
MAX_WAITING = 64


@dataclass(slots=True)
class _Held:
    token: str
    holder: str
    reason: str
    ticket: str | None
    since_s: float
    until_s: float


@dataclass(slots=True, eq=False)
class Use:
    """Something that runs on the device: an exclusive job, or an upload beside it. `lost` says why it has to end now."""

    what: str
    holder: str
    token: str | None
    exclusive: bool
    since_s: float
    lost: str | None = None


class LeaseKeeper:
    """Keeps at most one lease. It lives in memory only: a restart of the agent voids every lease and every place."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        make_token: Callable[[], str] = lambda: os.urandom(16).hex(),
        max_waiting: int = MAX_WAITING,
    ) -> None:
        self._clock = clock
        self._make_token = make_token
        self._max_waiting = max_waiting
        self._queue = LeaseQueue(clock)
        self._held: _Held | None = None
        self._uses: list[Use] = []

    def acquire(self, holder: str, reason: str, ttl_s: float, ticket: str | None = None) -> Lease:
        """Return a new lease, or the one that `ticket` got before.

        Raises DeviceBusy while another one lives, something runs or others wait, InvalidRequest for a bad ttl or text.
        """
        _check(holder, reason, ttl_s)
        if ticket is not None:
            _check_ticket(ticket)
            again = self._again(ticket, ttl_s)
            if again is not None:
                return again
        first = self._queue.first()
        if not self._free() or (first is not None and first.ticket != ticket):
            raise DeviceBusy(self._busy_text())
        return self._give(holder, reason, ttl_s, ticket)

    def queue(self, ticket: str, holder: str, reason: str, ttl_s: float, life_s: float) -> Lease | Place:
        """Return the lease, where it is the ticket's turn, or the ticket's place, which is kept for `life_s` from now.

        Raises DeviceBusy if the queue is full, InvalidRequest for a bad ttl, text or ticket.
        """
        _check(holder, reason, ttl_s)
        _check_ticket(ticket)
        again = self._again(ticket, ttl_s)
        if again is not None:
            return again
        if self._queue.position(ticket) is None and len(self._queue) >= self._max_waiting:
            raise DeviceBusy(f"{len(self._queue)} wait for this device already, and no more may; try again later")
        self._queue.ask(ticket, holder, reason, ttl_s, life_s)
        return self.claim(ticket)

    def claim(self, ticket: str) -> Lease | Place:
        """Return what the ticket has come to, without keeping its place for longer. JobAborted if it has none any more."""
        held = self._current()
        if held is not None and held.ticket == ticket:
            return self._lease(held)
        first, position = self._queue.first(), self._queue.position(ticket)
        if first is None or position is None:
            raise JobAborted("this place in the queue was given up")
        if position == 1 and self._free():
            return self._give(first.holder, first.reason, first.ttl_s, ticket)
        use = self._uses[0] if self._uses else None
        holder, reason, remaining_s = None, None, None
        if held is not None:
            holder, reason, remaining_s = held.holder, held.reason, held.until_s - self._clock()
        elif use is not None:
            holder, reason = use.holder, use.what
        return Place(position=position, waiting=len(self._queue), holder=holder, reason=reason, remaining_s=remaining_s)

    def kept_until_s(self, ticket: str) -> float | None:
        """Return until when the ticket's place is kept, None if it has none (seconds of the clock)."""
        return self._queue.until_s(ticket)

    def doubt(self, ticket: str, life_s: float) -> None:
        """Keep the ticket's place for `life_s` from now at most, unless its owner asks again."""
        self._queue.doubt(ticket, life_s)

    def leave(self, ticket: str) -> None:
        """End the ticket's place, or its lease."""
        self._queue.leave(ticket)
        held = self._current()
        if held is not None and held.ticket == ticket:
            self._over("was released")

    def renew(self, token: str, ttl_s: float) -> Lease:
        """Return the lease with `ttl_s` seconds from now; raise LeaseLost if the token's lease is gone."""
        _check_ttl(ttl_s)
        held = self._owned(token)
        held.until_s = self._clock() + ttl_s
        return self._lease(held)

    def release(self, token: str) -> None:
        """End the lease; raise LeaseLost if the token's lease is gone already."""
        self._owned(token)
        self._over("was released")

    def end_use(self) -> DeviceUse:
        """End the lease and whatever runs, whoever they are; return the use as it was."""
        was = self.use()
        why = "was ended by an operator"
        self._over(why)
        for use in self._uses:
            use.lost = use.lost or why
        return was

    def check(self, token: str | None) -> None:
        """Return if a call with `token`, or with none where nobody holds the device or waits for it, may go on.

        Raises DeviceBusy if somebody does and no token came, LeaseLost for any token but the present one.
        """
        if token is not None:
            self._owned(token)
        elif self._current() is not None or len(self._queue) or self.overdue():
            raise DeviceBusy(self._busy_text())

    def begin(self, what: str, token: str | None, caller: str, *, exclusive: bool = True) -> Use:
        """Let something run until `end`. `caller` names whoever holds no lease.

        Errors are those of `check`, and DeviceBusy if it is exclusive and so is something that runs.
        """
        self.check(token)
        if exclusive and any(use.exclusive for use in self._uses):
            raise DeviceBusy(self._busy_text(of_lease=False))
        holder = caller if token is None or self._held is None else self._held.holder
        use = Use(what, holder, token, exclusive, self._clock())
        self._uses.append(use)
        return use

    def end(self, use: Use) -> None:
        """Say that it has ended, down to its last process."""
        self._uses.remove(use)

    def overdue(self) -> list[Use]:
        """Return what runs and has to end: its lease is over."""
        self._current()
        return [use for use in self._uses if use.lost is not None]

    def use(self) -> DeviceUse:
        """Return who uses the device."""
        now_s, held = self._clock(), self._current()
        jobs = tuple(Job(what=use.what, holder=use.holder, running_s=now_s - use.since_s) for use in self._uses)
        if held is None:
            return DeviceUse(jobs=jobs, waiting=self._queue.waiters())
        return DeviceUse(
            holder=held.holder,
            reason=held.reason,
            remaining_s=held.until_s - now_s,
            held_s=now_s - held.since_s,
            jobs=jobs,
            waiting=self._queue.waiters(),
        )

    def next_end_s(self) -> float | None:
        """Return when the lease or a place ends by itself, None where there is neither (seconds of the clock)."""
        held = self._current()
        ends = (None if held is None else held.until_s, self._queue.next_end_s())
        return min((end for end in ends if end is not None), default=None)

    def _free(self) -> bool:
        return self._current() is None and not self._uses

    def _give(self, holder: str, reason: str, ttl_s: float, ticket: str | None) -> Lease:
        now_s = self._clock()
        if ticket is not None:
            self._queue.leave(ticket)
        self._held = _Held(self._make_token(), holder, reason, ticket, now_s, now_s + ttl_s)
        return self._lease(self._held)

    def _again(self, ticket: str, ttl_s: float) -> Lease | None:
        """Return the lease that the ticket has got, renewed since its owner is alive."""
        held = self._current()
        if held is None or held.ticket != ticket:
            return None
        return self.renew(held.token, ttl_s)

    def _current(self) -> _Held | None:
        if self._held is not None and self._held.until_s <= self._clock():
            self._over("expired")
        return self._held

    def _over(self, why: str) -> None:
        if self._held is None:
            return
        for use in self._uses:
            use.lost = use.lost or f"the lease of {self._held.holder!r} {why}"
        self._held = None

    def _owned(self, token: str) -> _Held:
        current = self._current()
        if current is not None and _same(current.token.encode(), token.encode()):
            return current
        now = f"; the device is now {self._describe(current)}" if current is not None else ""
        raise LeaseLost(f"this lease has expired, was released, or died with a restart of the agent{now}")

    def _busy_text(self, *, of_lease: bool = True) -> str:
        held, first, waiting = self._current(), self._queue.first(), len(self._queue)
        use = next((use for use in self._uses if use.exclusive), self._uses[0] if self._uses else None)
        if held is not None and of_lease:
            text = f"the device is {self._describe(held)}"
        elif use is not None:
            text = f"the device is busy: {use.what} for {use.holder}, since {self._clock() - use.since_s:.0f} s"
        elif first is not None:
            text = f"the device is kept for {first.holder!r} ({first.reason}), whose turn it is in the queue"
        else:
            raise AssertionError("nobody uses the device")
        queue = f"; the queue has {waiting}, and the next place is {waiting + 1}" if waiting else ""
        return f"{text}{queue}; wait for it, or try again later"

    def _describe(self, held: _Held) -> str:
        remaining_s = held.until_s - self._clock()
        return f"leased to {held.holder!r} for {held.reason!r}, {remaining_s:.0f} s remaining unless renewed"

    def _lease(self, held: _Held) -> Lease:
        return Lease(
            token=held.token,
            holder=held.holder,
            reason=held.reason,
            remaining_s=held.until_s - self._clock(),
        )


def _same(ours: bytes, theirs: bytes) -> bool:
    """Compare in a time that does not tell how much is right. hmac.compare_digest would bring libcrypto: 3.7 MiB."""
    return len(ours) == len(theirs) and not sum(one ^ other for one, other in zip(ours, theirs, strict=True))


def _check(holder: str, reason: str, ttl_s: float) -> None:
    _check_ttl(ttl_s)
    for what, text in (("holder", holder), ("reason", reason)):
        if not text.strip() or len(text) > MAX_TEXT or not text.isprintable():
            raise InvalidRequest(f"the lease's {what} must be 1 to {MAX_TEXT} printable characters")


def _check_ticket(ticket: str) -> None:
    if not 16 <= len(ticket) <= 64 or not ticket.isascii() or not ticket.isalnum():
        raise InvalidRequest("a ticket is 16 to 64 letters and digits, drawn at random")


def _check_ttl(ttl_s: float) -> None:
    if not MIN_TTL_S <= ttl_s <= MAX_TTL_S:
        raise InvalidRequest(f"ttl_s={ttl_s} is not in {MIN_TTL_S:.0f}..{MAX_TTL_S:.0f} seconds")
