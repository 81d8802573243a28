"""What the profilers of all runtimes share: how to say that there are no times, and medians finer than their clocks."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median_grouped


class NoProfile(Exception):
    """A runtime gives no node times, or not of this model; the message is a clause that says why and what to do.

    `load` with a `profile_folder` and `bind` and `node_times` of such a model may raise it. The measurement goes on without.
    """


def median_ns(durations_us: Sequence[int], *, truncated: bool) -> float:
    """Return the median in nanoseconds of whole microseconds, interpolated within the one that holds it.

    `truncated` durations of d us lasted from d to d + 1; others are differences of two whole readings, right on the average. A
    kernel of a few microseconds would jump by a third of its time otherwise. Method: the median of grouped data.
    """
    found = median_grouped(durations_us, interval=1) + (0.5 if truncated else 0.0)
    return 1000.0 * max(0.0, found)
