"""A model under load: requests that come while others are being served, and what a device makes of them.

Definitions. A request's latency is the time from its arrival to its outputs in memory, so waiting in the queue counts. Streams
are instances of the model that serve at the same time from one queue, first come, first served. In a closed loop every stream
takes its next request as soon as it is done with the last; in an open loop requests arrive at random, exponentially distributed
times apart, at a rate that does not care how busy the device is (the server scenario of MLPerf Inference, mlcommons/inference).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from device_agent.contract.artifact import check_sha256
from device_agent.contract.errors import InvalidRequest
from device_agent.contract.measurement import Progress, Reading, ReadingBatch, Verdict
from device_agent.contract.settings import Settings

#: A trial ends after this many requests, whatever was asked for: every request is kept and sent.
MAX_REQUESTS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRequest:
    """A job that puts load on one artifact.

    With neither `rate_per_s` nor `bound_ns` it is one trial of a closed loop. With `rate_per_s` (mean arrivals per second) it is
    one trial of an open loop. With `bound_ns` alone it searches for the highest rate at which the percentile `percent` of the
    latency stays at or under the bound, by trials of open loops; with both, the one trial is judged by the bound. A trial lasts
    `duration_s` and until `min_requests` are done, the latter unless far too many are late; one that cannot be judged by then,
    and has no more late requests than it may have, goes on to twice and then four times that. `seed` fixes arrivals and inputs.
    """

    artifact: str
    settings: Settings
    streams: int = 1
    rate_per_s: float | None = None
    bound_ns: float | None = None
    percent: float = 99.0
    duration_s: float = 10.0
    warmup_s: float = 1.0
    min_requests: int = 100
    seed: int = 0
    deadline_s: float | None = None
    memory_limit_bytes: int | None = None

    def __post_init__(self) -> None:
        check_sha256(self.artifact)
        if not 1 <= self.streams <= 64:
            raise InvalidRequest(f"streams={self.streams} is not in 1..64")
        for name in ("rate_per_s", "bound_ns", "deadline_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InvalidRequest(f"{name}={value} is not positive and finite")
        if not 50 <= self.percent < 100:
            raise InvalidRequest(f"percent={self.percent} is not in 50..100, 100 excluded")
        if not 0 < self.duration_s <= 86400 or not 0 <= self.warmup_s <= 3600:
            raise InvalidRequest(
                f"duration_s={self.duration_s} must be in 0..86400 and warmup_s={self.warmup_s} in 0..3600 seconds"
            )
        if not 1 <= self.min_requests <= MAX_REQUESTS:
            raise InvalidRequest(f"min_requests={self.min_requests} is not in 1..{MAX_REQUESTS}")
        if not 0 <= self.seed < 2**64:
            raise InvalidRequest(f"seed={self.seed} is not in 0..2**64-1")
        if self.memory_limit_bytes is not None and self.memory_limit_bytes <= 0:
            raise InvalidRequest(f"memory_limit_bytes={self.memory_limit_bytes} is not positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedRequest:
    """One request: when it arrived, when a stream began with it, when its outputs were there (CLOCK_MONOTONIC, ns)."""

    trial: int
    stream: int
    arrival_ns: int
    start_ns: int
    end_ns: int

    @property
    def latency_ns(self) -> int:
        """From arrival to outputs, waiting included."""
        return self.end_ns - self.arrival_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedBatch:
    """Requests in the order in which they were done."""

    requests: tuple[ServedRequest, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadTrial:
    """One trial. `rate_per_s` is what was asked for, None in a closed loop; `requests` were done from `start_ns` to `end_ns`.

    `unserved` arrived and were not served, because the queue only grew or far too many were late. `within_bound` is the
    judgement by the bound, None without one, in a closed loop, which has no queue, or where the requests are too few to tell.
    """

    rate_per_s: float | None
    start_ns: int
    end_ns: int
    requests: int
    unserved: int
    within_bound: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """The last event of a successful load job. `highest_rate_per_s` is the highest rate that a search found within the bound.

    `threads` are those of each stream, `load_ns` is the time to load the first one's model.
    """

    runtime: str
    runtime_version: str
    provider: str
    threads: int
    streams: int
    cpus: tuple[int, ...] | None
    load_ns: int
    trials: tuple[LoadTrial, ...]
    highest_rate_per_s: float | None
    device_time_ns: int
    steal_fraction: float | None
    verdicts: tuple[Verdict, ...]


LoadEvent = Progress | ServedBatch | ReadingBatch | LoadResult


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadMeasurement:
    """A finished load job: request, result and all raw samples. Statistics are derived when they are read."""

    request: LoadRequest
    result: LoadResult
    served: Sequence[ServedRequest]
    readings: tuple[Reading, ...]

    def of_trial(self, trial: int) -> list[ServedRequest]:
        """Return a trial's requests in the order of their arrival."""
        own = [one for one in self.served if one.trial == trial]
        return sorted(own, key=lambda one: (one.arrival_ns, one.start_ns))


#: Loading, as for other jobs; and what a search may take, whose rates and so whose times nobody knows beforehand.
_LOAD_S = 120.0
_SEARCH_S = 3600.0
_MOST_TRIALS = 32


def longest_s(request: LoadRequest) -> float:
    """Return the request's deadline, else the most that the job may take (seconds), for those who must end it at some time."""
    if request.deadline_s is not None:
        return request.deadline_s
    starting = _LOAD_S * (1 + request.streams / 8) + 2 * request.warmup_s
    # As many requests as were asked for may take longer than the duration; of what arrived a part is still in the queue then.
    parts = 1 if request.bound_ns is None else 4
    trial = parts * (2 * request.duration_s + 60.0)
    if request.rate_per_s is not None:
        return starting + 2 * max(trial, parts * 2 * request.min_requests / request.rate_per_s)
    if request.bound_ns is None:
        return starting + trial + _SEARCH_S
    return starting + _MOST_TRIALS * trial + _SEARCH_S
