"""When requests arrive in an open loop: drawn in advance, so that no slow answer can delay the next question."""

from __future__ import annotations

import random
from array import array

from device_agent.contract.load import MAX_REQUESTS


def poisson_arrivals(
    rate_per_s: float, *, duration_s: float, min_requests: int, seed: int, part: tuple[int, int]
) -> array[int]:
    """Return the times of arrivals in nanoseconds from the trial's start, in order, exponentially distributed times apart.

    They go on for the duration and until there are `min_requests`, and end at MAX_REQUESTS. The same seed and part (which
    trial, and which part of it) give the same times; other parts are independent of it.
    """
    trial, number = part
    rng = random.Random((trial << 96) | (number << 64) | seed)
    end_ns = duration_s * 1e9
    at_ns = rng.expovariate(rate_per_s) * 1e9
    arrivals = array("q")
    while (at_ns < end_ns or len(arrivals) < min_requests) and len(arrivals) < MAX_REQUESTS:
        arrivals.append(round(at_ns))
        at_ns += rng.expovariate(rate_per_s) * 1e9
    return arrivals
