"""How long a sweep will take: a model of each job's time, corrected by what the history says. Pure."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from device_agent.bench_request import BenchOptions
from device_agent.contract.deadlines import IDLE_S
from device_agent.contract.statistics import median
from host.sweep.job import NewJob
from host.sweep.options import options_from_json

#: A worker's start with the import of its runtime, and the load of a model: 0.6 s on a workstation, 2 to 5 s on a Raspberry Pi.
START_S = 2.0
#: A link of 100 Mbit/s, as most boards have.
LINK_BYTES_PER_S = 10e6
#: What a result costs beside the time of its job: calls, statistics, the store.
AROUND_S = 0.2
#: A profiled twin takes turns with the plain session.
_PROFILED = 2.0

#: Seconds that a job took before on its device, None where the history has nothing like it.
History = Callable[[NewJob], float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Seconds: of all jobs together, of the sweep from its start to its end, and of each device's jobs.

    `longest_s` is the sweep's time if every measurement went on to its --max-time. `known` jobs are estimated by their like
    in the history. Waits for cool devices and for devices in use are not in it.
    """

    total_s: float
    wall_s: float
    longest_s: float
    devices: Mapping[str, float]
    known: int
    jobs: int

    @property
    def slowest(self) -> str:
        """The device with the most to do."""
        return max(self.devices, key=lambda name: (self.devices[name], name))


def estimate(
    jobs: Sequence[NewJob],
    *,
    devices_at_once: int,
    sizes: Mapping[str, int] | None = None,
    with_power: Collection[str] = (),
    history: History = lambda _job: None,
) -> Estimate:
    """Return the estimate. `sizes` are bytes of files by hash; `with_power` the devices that rest for their idle power."""
    before = {job.key: seconds for job in jobs if (seconds := history(job)) is not None}
    modelled = {job.key: job_seconds(options_from_json(job.options), rests=job.device in with_power) for job in jobs}
    factors = _factors(jobs, before, modelled)
    expected: dict[str, float] = {}
    longest: dict[str, float] = {}
    sent: set[tuple[str, str]] = set()
    for job in jobs:
        middle, most = modelled[job.key]
        seconds = before.get(job.key, middle * factors.get(job.device, 1.0)) + AROUND_S
        if (job.device, job.artifact.sha256) not in sent:
            sent.add((job.device, job.artifact.sha256))
            seconds += (sizes or {}).get(job.artifact.sha256, 0) / LINK_BYTES_PER_S
        expected[job.device] = expected.get(job.device, 0.0) + seconds
        longest[job.device] = longest.get(job.device, 0.0) + max(most + AROUND_S, seconds)
    return Estimate(
        total_s=sum(expected.values()),
        wall_s=_makespan(expected.values(), devices_at_once),
        longest_s=_makespan(longest.values(), devices_at_once),
        devices=expected,
        known=len(before),
        jobs=len(jobs),
    )


def job_seconds(options: BenchOptions, *, rests: bool) -> tuple[float, float]:
    """Return the expected and the longest time of a job in seconds, apart from its files' way to the device.

    How soon the wanted precision is reached is not known: the geometric middle of --min-time and --max-time stands for it.
    """
    request = options.request(("0" * 64,), runtime=options.runtime or "onnxruntime", inputs_sha256=_no_file(options))
    stopping = request.stopping
    idle_s = request.idle_s if request.idle_s is not None else IDLE_S if rests else 0.0
    fixed_s = START_S * (1 + request.cold_starts) + stopping.warmup_time_s + 2 * idle_s
    if request.soak_s is not None:
        return fixed_s + request.soak_s, fixed_s + request.soak_s
    passes = _PROFILED if request.profile_nodes else 1.0
    least_s = max(stopping.min_time_s, 0.05)
    middle_s = (
        stopping.min_time_s if stopping.precision is None else math.sqrt(least_s * max(stopping.max_time_s, least_s))
    )
    return fixed_s + middle_s * passes, fixed_s + stopping.max_time_s * passes


def _no_file(options: BenchOptions) -> str | None:
    return None if options.inputs_file is None else "0" * 64


def _factors(
    jobs: Sequence[NewJob], before: Mapping[str, float], modelled: Mapping[str, tuple[float, float]]
) -> dict[str, float]:
    """Return by how much each device's known jobs differ from the model: what holds for some of its jobs may for the others."""
    ratios: dict[str, list[float]] = {}
    for job in jobs:
        if job.key in before:
            ratios.setdefault(job.device, []).append(before[job.key] / modelled[job.key][0])
    return {device: median(found) for device, found in ratios.items()}


def _makespan(seconds: Collection[float], at_once: int) -> float:
    """Return the end of the last device if those with the most to do begin first, so many at once."""
    ends = [0.0] * min(at_once, max(len(seconds), 1))
    for each in sorted(seconds, reverse=True):
        heapq.heapreplace(ends, ends[0] + each)
    return max(ends)
