"""Queues with known answers, simulated: Poisson arrivals, one line, first come first served."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable


def queue_latencies(
    rng: random.Random, *, rate: float, streams: int, service: Callable[[random.Random], float], count: int
) -> list[float]:
    """Return the latencies of `count` requests in the order of their arrival, from an empty start, in the unit of `service`."""
    free = [0.0] * streams
    now = 0.0
    latencies: list[float] = []
    for _ in range(count):
        now += rng.expovariate(rate)
        end = max(now, free[0]) + service(rng)
        heapq.heapreplace(free, end)
        latencies.append(end - now)
    return latencies
