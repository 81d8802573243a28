"""Judging a latency bound, on simulated queues with a known limit: the rate at which the true p99 is the bound.

Shares of trials that are judged within the bound or not within it: at the limit, where either is wrong and 5 % of trials may be,
and below it, where the first is right. A trial is looked at after its first part, twice that and four times that. Beside it the
test of MLPerf's early stopping (loadgen/early_stopping.cc) on the same requests, which takes late ones as independent.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.energy import wilson
from benchmarks.queues import queue_latencies
from benchmarks.table import Benchmark, Goal, Row, judged, progress
from device_agent.contract.bound import LOOKS, binomial_at_most, may_still_keep, within_bound
from device_agent.contract.statistics import percentile

WRONG = Goal(high=0.05)
#: Requests of a trial's first part: what `host load` asks for at p99, and eight times as many.
FIRST = (1056, 8448)
PERCENT = 99.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue:
    """Poisson arrivals to some streams; at the limit they are busy for the share `busy` of the time."""

    title: str
    service: Callable[[random.Random], float]
    streams: int
    busy: float

    def latencies(self, rng: random.Random, count: int, of_limit: float = 1.0) -> list[int]:
        """Return latencies in millionths of a service, at a rate relative to the limit."""
        rate = self.busy * self.streams * of_limit
        found = queue_latencies(rng, rate=rate, streams=self.streams, service=self.service, count=count)
        return [round(1e6 * one) for one in found]


def _fixed(_: random.Random) -> float:
    return 1.0


def _random(rng: random.Random) -> float:
    return rng.expovariate(1.0)


QUEUES = (
    Queue(title="1 stream, 30 % busy", service=_fixed, streams=1, busy=0.3),
    Queue(title="1 stream, 60 % busy", service=_fixed, streams=1, busy=0.6),
    Queue(title="2 streams, 70 % busy", service=_fixed, streams=2, busy=0.7),
    Queue(title="4 streams, 90 % busy", service=_fixed, streams=4, busy=0.9),
    Queue(title="1 stream, 80 % busy, random services", service=_random, streams=1, busy=0.8),
)


def measure(quick: bool) -> list[Row]:
    """Return the rows of every queue; a second or two for each hundred draws."""
    draws = 40 if quick else 400
    rows: list[Row] = []
    for queue in QUEUES:
        progress(queue.title)
        rng = random.Random(17)
        bound = percentile(queue.latencies(rng, 50_000 if quick else 1_000_000), PERCENT)
        for first in FIRST[:1] if quick else FIRST:
            what = f"{queue.title}, {first} requests"
            at_limit = [trial(queue, rng, first, bound) for _ in range(draws)]
            passed = sum(one.plain for one in at_limit)
            rows.append(_share(f"{what}: at the limit, MLPerf's test passes", passed, draws))
            for within, words in ((True, "within"), (False, "not within")):
                count = sum(one.within is within for one in at_limit)
                rows.append(_share(f"{what}: at the limit, judged {words}", count, draws, WRONG))
            for of_limit in (0.9, 0.8, 0.7):
                count = sum(trial(queue, rng, first, bound, of_limit).within is True for _ in range(draws // 4))
                rows.append(_share(f"{what}: at {of_limit:g} of the limit, judged within", count, draws // 4))
    return rows


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """How a trial came out, and whether MLPerf's test passes on the same requests."""

    within: bool | None
    plain: bool


def trial(queue: Queue, rng: random.Random, first: int, bound: float, of_limit: float = 1.0) -> Judged:
    """Do a trial as the worker does: look, and go on while it may still keep its bound and cannot be judged."""
    seen: list[int] = []
    within = None
    for times in LOOKS:
        seen += queue.latencies(rng, times * first, of_limit)
        within = within_bound(seen, bound, PERCENT)
        if within is not None or not may_still_keep(seen, bound, PERCENT):
            break
    late = sum(one > bound for one in seen)
    return Judged(within=within, plain=binomial_at_most(late, len(seen), 1 - PERCENT / 100) <= 0.01)


def _share(metric: str, count: int, draws: int, goal: Goal | None = None) -> Row:
    interval = wilson(count, draws)
    if goal is None:
        return Row(metric=metric, value=count / draws, unit="share", interval=interval)
    return judged(metric, count / draws, "share", goal, interval=interval)


BENCHMARK = Benchmark(name="bounds", about=__doc__ or "", measure=measure)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
