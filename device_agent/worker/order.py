"""The order in which artifacts take turns: balanced, so that drift and what ran before hit all of them alike."""

from __future__ import annotations

from collections.abc import Iterator


def williams_rows(count: int) -> tuple[tuple[int, ...], ...]:
    """Return a balanced Latin order of `count` participants (E. J. Williams, 1949).

    Every row holds each participant once. Over all rows each stands equally often at every position, and over rows and
    their mirror images each is preceded equally often by every other. One participant gives one row.
    """
    first = [0]
    low, high = 1, count - 1
    while len(first) < count:
        first.append(low)
        low += 1
        if len(first) < count:
            first.append(high)
            high -= 1
    return tuple(tuple((place + shift) % count for place in first) for shift in range(count))


def blocks(count: int) -> Iterator[tuple[int, ...]]:
    """Yield blocks of turns without end: a row and its mirror image, in which a linear drift cancels.

    Two participants give A B B A, then B A A B. One gives A A.
    """
    rows = williams_rows(count)
    while True:
        for row in rows:
            yield row + row[::-1]
