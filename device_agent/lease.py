"""The lease keeper: who may use the device, for how long, on the agent's monotonic clock."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from device_agent.contract.errors import DeviceBusy, InvalidRequest, LeaseLost
from device_agent.contract.lease import Lease

MIN_TTL_S = 1.0
MAX_TTL_S = 3600.0
MAX_TEXT = 200


@dataclass(slots=True)
class _Held:
    token: str
    holder: str
    reason: str
    until_s: float


class LeaseKeeper:
    """Keeps at most one lease. It lives in memory only: a restart of the agent voids every lease."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        make_token: Callable[[], str] = lambda: os.urandom(16).hex(),
    ) -> None:
        self._clock = clock
        self._make_token = make_token
        self._held: _Held | None = None

    def acquire(self, holder: str, reason: str, ttl_s: float) -> Lease:
        """Return a new lease.

        Raises DeviceBusy while another one lives, InvalidRequest for a bad ttl or text.
        """
        _check_ttl(ttl_s)
        for what, text in (("holder", holder), ("reason", reason)):
            if not text.strip() or len(text) > MAX_TEXT or not text.isprintable():
                raise InvalidRequest(f"the lease's {what} must be 1 to {MAX_TEXT} printable characters")
        current = self._current()
        if current is not None:
            raise DeviceBusy(f"the device is {self._describe(current)}; wait, or ask the holder to release it")
        self._held = _Held(self._make_token(), holder, reason, self._clock() + ttl_s)
        return self._lease(self._held)

    def renew(self, token: str, ttl_s: float) -> Lease:
        """Return the lease with `ttl_s` seconds from now; raise LeaseLost if the token's lease is gone."""
        _check_ttl(ttl_s)
        held = self._owned(token)
        held.until_s = self._clock() + ttl_s
        return self._lease(held)

    def release(self, token: str) -> None:
        """End the lease; raise LeaseLost if the token's lease is gone already."""
        self._owned(token)
        self._held = None

    def check(self, token: str | None) -> Lease | None:
        """Return the lease that covers a call with `token`, None where nobody holds one and no token came.

        Raises DeviceBusy if somebody holds the device and no token came, LeaseLost for any other token.
        """
        if token is not None:
            return self._lease(self._owned(token))
        current = self._current()
        if current is not None:
            raise DeviceBusy(f"the device is {self._describe(current)}; wait, or take the lease when it is free")
        return None

    def _current(self) -> _Held | None:
        if self._held is not None and self._held.until_s <= self._clock():
            self._held = None
        return self._held

    def _owned(self, token: str) -> _Held:
        current = self._current()
        if current is not None and _same(current.token.encode(), token.encode()):
            return current
        now = f"; the device is now {self._describe(current)}" if current is not None else ""
        raise LeaseLost(f"this lease has expired, was released, or died with a restart of the agent{now}")

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


def _check_ttl(ttl_s: float) -> None:
    if not MIN_TTL_S <= ttl_s <= MAX_TTL_S:
        raise InvalidRequest(f"ttl_s={ttl_s} is not in {MIN_TTL_S:.0f}..{MAX_TTL_S:.0f} seconds")
