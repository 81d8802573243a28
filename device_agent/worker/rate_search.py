"""The search for the highest rate that keeps a bound: bisection between what was shown to keep it and what was not."""

from __future__ import annotations

#: The search ends when the highest rate within the bound and the next one tried differ by this share.
TOLERANCE = 0.025
#: Below this share of the closed loop's throughput no rate is of use, and a trial takes ages.
FLOOR = 1 / 64


class RateSearch:
    """Asks for rates and is told what they gave. Pure: it neither waits nor measures.

    `ceiling_per_s` is the throughput of the closed loop. At that rate or above a queue grows without end, so it is never tried.
    A rate whose trial could not tell counts as not shown to keep the bound: the search goes on below it.
    """

    def __init__(self, ceiling_per_s: float) -> None:
        if not ceiling_per_s > 0:
            raise ValueError(f"ceiling_per_s={ceiling_per_s} is not positive")
        self._floor = ceiling_per_s * FLOOR
        self._above = ceiling_per_s
        self.highest_per_s: float | None = None

    def next_rate(self) -> float | None:
        """Return the next rate to try, None at the end."""
        low = self.highest_per_s or 0.0
        middle = (low + self._above) / 2
        if self._above - low <= TOLERANCE * self._above or middle < self._floor:
            return None
        return middle

    def tell(self, rate_per_s: float, within_bound: bool | None) -> None:
        """Take in the judgement of the trial at the rate that was asked for last."""
        if within_bound:
            self.highest_per_s = rate_per_s
        else:
            self._above = rate_per_s
