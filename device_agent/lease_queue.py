"""The queue for a device: first come, first served, and whoever stops asking is out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from device_agent.contract.lease import Waiter


@dataclass(slots=True)
class Waiting:
    """One place: what its owner asked for, since when, and until when the place is kept for want of a word."""

    ticket: str
    holder: str
    reason: str
    ttl_s: float
    since_s: float
    until_s: float


class LeaseQueue:
    """Places in the order of their first asking. A place that was not asked for again in time is gone at the next look."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._places: list[Waiting] = []

    def __len__(self) -> int:
        return len(self._living())

    def ask(self, ticket: str, holder: str, reason: str, ttl_s: float, life_s: float) -> None:
        """Keep the ticket's place for `life_s` from now, a new one at the end if it has none."""
        now_s = self._clock()
        for place in self._living():
            if place.ticket == ticket:
                place.holder, place.reason, place.ttl_s = holder, reason, ttl_s
                place.until_s = now_s + life_s
                return
        self._places.append(Waiting(ticket, holder, reason, ttl_s, now_s, now_s + life_s))

    def position(self, ticket: str) -> int | None:
        """Return the ticket's place, 1 for the next, None if it has none."""
        found = (number for number, place in enumerate(self._living(), 1) if place.ticket == ticket)
        return next(found, None)

    def until_s(self, ticket: str) -> float | None:
        """Return until when the ticket's place is kept, None if it has none."""
        return next((place.until_s for place in self._living() if place.ticket == ticket), None)

    def doubt(self, ticket: str, life_s: float) -> None:
        """Keep the ticket's place for no longer than `life_s` from now unless its owner asks again."""
        for place in self._living():
            if place.ticket == ticket:
                place.until_s = min(place.until_s, self._clock() + life_s)

    def first(self) -> Waiting | None:
        """Return who is next."""
        living = self._living()
        return living[0] if living else None

    def leave(self, ticket: str) -> None:
        """Give the ticket's place up, if it has one."""
        self._places = [place for place in self._places if place.ticket != ticket]

    def waiters(self) -> tuple[Waiter, ...]:
        """Return who waits, who is next first."""
        now_s = self._clock()
        return tuple(
            Waiter(holder=place.holder, reason=place.reason, waited_s=now_s - place.since_s) for place in self._living()
        )

    def next_end_s(self) -> float | None:
        """Return when the next place ends unless its owner asks again, None where nobody waits."""
        return min((place.until_s for place in self._living()), default=None)

    def _living(self) -> list[Waiting]:
        now_s = self._clock()
        if any(place.until_s <= now_s for place in self._places):
            self._places = [place for place in self._places if place.until_s > now_s]
        return self._places
