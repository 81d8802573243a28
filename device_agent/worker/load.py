"""A load job inside the worker: load a model per stream, warm up, then one trial, or trials until the highest rate is found."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from device_agent.contract.bound import LOOKS, may_still_keep, within_bound
from device_agent.contract.load import MAX_REQUESTS, LoadRequest, LoadResult, LoadTrial
from device_agent.contract.measurement import Phase, Progress
from device_agent.contract.plain_json import to_json
from device_agent.contract.served import ServedLog
from device_agent.contract.statistics import median, steal_fraction
from device_agent.runtimes.base import LoadedModel, Runtime
from device_agent.worker.arrivals import poisson_arrivals
from device_agent.worker.frames import write_frame
from device_agent.worker.inputs import make_inputs
from device_agent.worker.loop import no_garbage_collection
from device_agent.worker.measure import LoadedFile
from device_agent.worker.naming import naming
from device_agent.worker.process import pinned_cpus, steal_ticks
from device_agent.worker.rate_search import RateSearch
from device_agent.worker.serving import Streams
from device_agent.worker.setup import load_options, threads_of

#: Who has waited this many bounds, and this long, in a first-come queue is no outlier: the queue grows. A stream that keeps its
#: bound at p99 would have such a wait once in many years; a machine that stands still for a moment is not an overload.
_HOPELESS_BOUNDS = 10
_HOPELESS_S = 1.0
#: A trial that goes on beyond its duration, for its number of requests, ends when this many times as many are late as may be.
_FAR_TOO_MANY = 5
#: At this share of the throughput streams seldom work at the same time, and do not slow each other down.
_QUIET = 0.25
#: Runs of one stream alone, before the others start; the first also pays for what the runtime puts off until then.
_LONE_RUNS = 5


def do_job(job: dict[str, Any], request: LoadRequest, runtime: Runtime, version: str, events: int) -> None:
    """Do the job that `launch_load` sent, and write its events."""

    def send_progress(progress: Progress) -> None:
        write_frame(events, {"type": "progress", **to_json(progress)})

    def send_served(log: ServedLog, first: int, last: int) -> None:
        write_frame(events, {"type": "served"}, log.packed(first, last))

    path, sha256, name = job["files"][0]
    found, share = Loading(
        request,
        LoadedFile(path=Path(path), sha256=sha256, name=name),
        runtime,
        version,
        data=None if job["data"] is None else (Path(job["data"][0]), job["data"][2]),
        send_progress=send_progress,
        send_served=send_served,
    ).run()
    write_frame(events, {"type": "result", "result": to_json(found), "provider_share": share})


class _Patience:
    """Counts late requests of a part of a trial as they are done, and says when it is no use to go on beyond `until_ns`."""

    def __init__(self, until_ns: int, bound_ns: float, *, most_late: float, place: int) -> None:
        self._until_ns = until_ns
        self._bound_ns = bound_ns
        self._left = most_late
        self._place = place

    def lost(self, log: ServedLog, count: int) -> bool:
        """Take in the requests up to `count`."""
        if perf_counter_ns() < self._until_ns:
            return False
        late = sum(log.ends[place] - log.arrivals[place] > self._bound_ns for place in range(self._place, count))
        self._place = count
        self._left -= late
        return self._left < 0


class Loading:
    """One job. `send_progress` and `send_served` are called a few times a second, from the thread that calls `run`."""

    def __init__(
        self,
        request: LoadRequest,
        file: LoadedFile,
        runtime: Runtime,
        version: str,
        *,
        data: tuple[Path, str] | None,
        send_progress: Callable[[Progress], None],
        send_served: Callable[[ServedLog, int, int], None],
    ) -> None:
        self._request = request
        self._file = file
        self._runtime = runtime
        self._version = version
        self._data = data
        self._send_progress = send_progress
        self._send_served = send_served
        self._sent = 0
        self._trials: list[LoadTrial] = []
        self._phase = Phase.LOADING
        self._begin_ns = 0
        self._wanted_ns = 1.0
        self._patience: _Patience | None = None

    def run(self) -> tuple[LoadResult, float | None]:
        """Do all trials and return the result, without verdicts, and the share of nodes that its provider ran.

        ModelRejected names the model; the runtime's import is taken as done.
        """
        begin = perf_counter_ns()
        steal_before = steal_ticks()
        models: list[LoadedModel] = []
        load_ns = 0
        for stream in range(self._request.streams):
            self._progress(Phase.LOADING, stream / self._request.streams)
            model, took_ns = self._load(stream)
            models.append(model)
            load_ns = load_ns or took_ns
        with no_garbage_collection():
            lone_ns = self._warm_up(models)
            self._streams = Streams([model.runner() for model in models], self._watch, naming(self._file.name))
            highest = self._run_trials(lone_ns)
        elapsed = perf_counter_ns() - begin
        steal_after = steal_ticks()
        provider, share = models[0].provider()
        cpus = None if self._request.settings.cpus is None else pinned_cpus()
        for model in models:
            model.close()
        result = LoadResult(
            runtime=self._runtime.name,
            runtime_version=self._version,
            provider=provider,
            threads=threads_of(self._request.settings),
            streams=self._request.streams,
            cpus=cpus,
            load_ns=load_ns,
            trials=tuple(self._trials),
            highest_rate_per_s=highest,
            device_time_ns=elapsed,
            steal_fraction=None
            if steal_before is None or steal_after is None
            else steal_fraction(steal_before, steal_after, elapsed, os.sysconf("SC_CLK_TCK")),
            verdicts=(),
        )
        return result, share

    def _load(self, stream: int) -> tuple[LoadedModel, int]:
        settings = self._request.settings
        with naming(self._file.name, self._file.path):
            start = perf_counter_ns()
            model = self._runtime.load(self._file.path, load_options(settings, shares_worker=self._request.streams > 1))
            load_ns = perf_counter_ns() - start
            model.bind(make_inputs(model.inputs, settings, self._request.seed + stream, self._data))
        return model, load_ns

    def _warm_up(self, models: Sequence[LoadedModel]) -> float:
        """Run every model alone, then all together for the warm-up's time. Returns the median latency of one alone (ns)."""
        lone: list[int] = []
        for stream, model in enumerate(models):
            self._progress(Phase.WARM_UP, stream / len(models))
            with naming(self._file.name):
                for number in range(1 + _LONE_RUNS):
                    start = perf_counter_ns()
                    model.run()
                    if number:
                        lone.append(perf_counter_ns() - start)
        runs = [model.run for model in models]
        together = Streams(runs, lambda: self._progress(Phase.WARM_UP, 1.0), naming(self._file.name))
        together.closed_loop(0, duration_s=self._request.warmup_s, min_requests=0)
        return median(lone)

    def _run_trials(self, lone_ns: float) -> float | None:
        request = self._request
        if request.rate_per_s is not None:
            self._open(request.rate_per_s)
            return None
        throughput = self._closed()
        # A run alone that is over the bound as often as not cannot come under it in a queue.
        if request.bound_ns is None or lone_ns > request.bound_ns:
            return None
        search = RateSearch(throughput)
        while (rate := search.next_rate()) is not None:
            search.tell(rate, self._open(rate))
            if rate <= throughput * _QUIET and self._slow_without_waiting(request.bound_ns):
                break
        return search.highest_per_s

    def _slow_without_waiting(self, bound_ns: float) -> bool:
        """Say whether the last trial's requests took too long from their beginning on: then no lower rate keeps the bound."""
        log, count = self._streams.log, self._trials[-1].requests
        services = [log.ends[place] - log.starts[place] for place in range(len(log) - count, len(log))]
        return within_bound(services, bound_ns, self._request.percent) is False

    def _closed(self) -> float:
        """Do a trial of a closed loop and return its throughput (1/s)."""
        request = self._request
        self._start(request.duration_s)
        first = len(self._streams.log)
        self._streams.closed_loop(len(self._trials), duration_s=request.duration_s, min_requests=request.min_requests)
        trial = self._finish(first, self._begin_ns, rate_per_s=None, unserved=0, within=None)
        return trial.requests / (trial.end_ns - trial.start_ns) * 1e9

    def _open(self, rate_per_s: float) -> bool | None:
        """Do a trial of an open loop and return its judgement."""
        request = self._request
        bound_ns = request.bound_ns
        hopeless_s = request.duration_s if bound_ns is None else _HOPELESS_BOUNDS * bound_ns / 1e9
        number, first = len(self._trials), len(self._streams.log)
        start_ns, unserved = 0, 0
        within: bool | None = None
        for part, times in enumerate(LOOKS if bound_ns is not None else LOOKS[:1]):
            arrivals = poisson_arrivals(
                rate_per_s,
                duration_s=times * request.duration_s,
                min_requests=times * request.min_requests,
                seed=request.seed,
                part=(number, part),
            )
            self._start(arrivals[-1] / 1e9)
            if bound_ns is not None:
                self._patience = _Patience(
                    self._begin_ns + round(times * request.duration_s * 1e9),
                    bound_ns,
                    most_late=_FAR_TOO_MANY * (1 - request.percent / 100) * len(arrivals),
                    place=len(self._streams.log),
                )
            done = self._streams.open_loop(number, arrivals, give_up_ns=max(hopeless_s, _HOPELESS_S) * 1e9)
            self._patience = None
            start_ns, unserved = start_ns or done.start_ns, done.unserved
            if bound_ns is None:
                break
            if done.given_up:
                within = False
                break
            latencies = self._latencies(first)
            within = within_bound(latencies, bound_ns, request.percent)
            open_still = within is None and may_still_keep(latencies, bound_ns, request.percent)
            if not open_still or len(latencies) >= MAX_REQUESTS:
                break
        self._finish(first, start_ns, rate_per_s=rate_per_s, unserved=unserved, within=within)
        return within

    def _latencies(self, first: int) -> list[int]:
        """Return the latencies of a trial in the order of arrival, in which late ones come in bursts."""
        log = self._streams.log
        by_arrival = sorted(range(first, len(log)), key=log.arrivals.__getitem__)
        return [log.ends[place] - log.arrivals[place] for place in by_arrival]

    def _start(self, wanted_s: float) -> None:
        self._phase = Phase.TIMING
        self._begin_ns = perf_counter_ns()
        self._wanted_ns = wanted_s * 1e9

    def _finish(
        self, first: int, start_ns: int, *, rate_per_s: float | None, unserved: int, within: bool | None
    ) -> LoadTrial:
        log = self._streams.log
        trial = LoadTrial(
            rate_per_s=rate_per_s,
            start_ns=start_ns,
            end_ns=max(log.ends[-1] if len(log) > first else 0, start_ns + 1),
            requests=len(log) - first,
            unserved=unserved,
            within_bound=within,
        )
        self._trials.append(trial)
        self._watch()
        return trial

    def _watch(self) -> None:
        """Send the requests that were not sent yet, and where the trial is."""
        log = self._streams.log
        count = len(log)
        if self._patience is not None and self._patience.lost(log, count):
            self._streams.stop()
        if count > self._sent:
            self._send_served(log, self._sent, count)
            self._sent = count
        self._progress(Phase.TIMING, min(1.0, (perf_counter_ns() - self._begin_ns) / self._wanted_ns))

    def _progress(self, phase: Phase, fraction: float) -> None:
        self._send_progress(Progress(phase=phase, fraction=fraction, runs=self._sent))
