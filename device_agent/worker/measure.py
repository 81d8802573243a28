"""A measuring job inside the worker: load, warm up, take turns until the stopping rule is content, report."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from device_agent.contract.errors import BoardfitError, InvalidRequest, ModelRejected
from device_agent.contract.measurement import NodeTime, Phase, Progress, Run, RunKind
from device_agent.contract.settings import MeasureRequest, Stopping
from device_agent.contract.statistics import steal_fraction
from device_agent.runtimes.base import LoadedModel, Runtime
from device_agent.runtimes.profiling import NoProfile
from device_agent.runtimes.words import shorten
from device_agent.worker import order
from device_agent.worker.inputs import make_inputs
from device_agent.worker.log import RunLog
from device_agent.worker.loop import TurnTimer, no_garbage_collection
from device_agent.worker.process import PeakMemory, pinned_cpus, steal_ticks
from device_agent.worker.result import WorkerArtifact, WorkerResult
from device_agent.worker.setup import load_options, threads_of
from device_agent.worker.stopping import StoppingRule

#: A lone artifact has nobody to take turns with; its turns are this long, so that little time passes between them.
_LONE_TURN_NS = 100_000_000
_LARGEST_TURN = 10_000
#: A profiled twin takes part until it has this many runs; a trace is some 400 bytes per node and run.
_PROFILED_RUNS = 100
_SEND_EVERY_NS = 300_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedFile:
    """A file of the job: where it is and what to call it."""

    path: Path
    sha256: str
    name: str


@dataclass(slots=True, kw_only=True)
class _Participant:
    """A session that takes turns: an artifact's plain one or its profiled twin."""

    artifact: int
    profiled: bool
    model: LoadedModel
    load_ns: int
    name: str
    warm_runs: int = 0
    warm_latency_ns: int = 1


class Measuring:
    """One job. `send_progress` and `send_runs` are called between turns only."""

    def __init__(
        self,
        request: MeasureRequest,
        files: Sequence[LoadedFile],
        runtime: Runtime,
        version: str,
        *,
        data: tuple[Path, str] | None,
        folder: Path,
        send_progress: Callable[[Progress], None],
        send_runs: Callable[[Sequence[Run]], None],
    ) -> None:
        self._request = request
        self._files = files
        self._runtime = runtime
        self._version = version
        self._data = data
        self._folder = folder
        self._send_progress = send_progress
        self._send_runs = send_runs
        self._threads = threads_of(request.settings)
        self._timer = TurnTimer(threads=self._threads, capacity=max(_LARGEST_TURN, request.turn_runs))
        self._runs = RunLog()
        self._sent = 0
        self._last_send_ns = 0
        self._turn = 0
        self._unprofiled: dict[int, str] = {}

    def run(self) -> WorkerResult:
        """Measure and return the result. ModelRejected names the model; the runtime's import is taken as done."""
        begin = perf_counter_ns()
        steal_before = steal_ticks()
        memory = PeakMemory() if len(self._files) == 1 else None
        plain = [self._load(index, profiled=False) for index in range(len(self._files))]
        self._warm_up(plain)
        # By now the runtime's arenas have grown to their full size. Later, the record of runs and a twin would count too.
        peak = memory.read() if memory is not None else None
        twins = self._load_twins() if self._request.profile_nodes else []
        self._warm_up(twins)
        with no_garbage_collection():
            self._time(plain, twins)
        nodes = {twin.artifact: self._node_times(twin) for twin in twins}
        artifacts = tuple(self._artifact(one, peak, nodes.get(one.artifact)) for one in plain)
        elapsed = perf_counter_ns() - begin
        steal_after = steal_ticks()
        for participant in (*plain, *twins):
            participant.model.close()
        return WorkerResult(
            runtime=self._runtime.name,
            runtime_version=self._version,
            threads=self._threads,
            artifacts=artifacts,
            device_time_ns=elapsed,
            steal_fraction=None
            if steal_before is None or steal_after is None
            else steal_fraction(steal_before, steal_after, elapsed, os.sysconf("SC_CLK_TCK")),
            cpus=None if self._request.settings.cpus is None else pinned_cpus(),
            clock_resolution_ns=max(1, round(time.get_clock_info("perf_counter").resolution * 1e9)),
        )

    def _load_twins(self) -> list[_Participant]:
        """Load the profiled twins. Where the runtime gives no node times of an artifact, the reason is kept instead."""
        twins: list[_Participant] = []
        for index in range(len(self._files)):
            try:
                twin = self._load(index, profiled=True)
            except NoProfile as error:
                self._unprofiled[index] = str(error)
                continue
            if type(twin.model).node_times is LoadedModel.node_times:
                self._unprofiled[index] = f"runtime {self._runtime.name} tells no times of single nodes"
                twin.model.close()
            else:
                twins.append(twin)
        return twins

    def _node_times(self, twin: _Participant) -> tuple[NodeTime, ...] | None:
        try:
            found = twin.model.node_times(skip=twin.warm_runs)
        except NoProfile as error:
            self._unprofiled[twin.artifact] = str(error)
            return None
        if found is None:
            self._unprofiled[twin.artifact] = f"runtime {self._runtime.name} told no times of this model"
        return found

    def _load(self, index: int, *, profiled: bool) -> _Participant:
        file = self._files[index]
        self._progress(Phase.LOADING, index / len(self._files))
        folder = None
        if profiled:
            folder = self._folder / f"profile-{index}"
            folder.mkdir()
        options = load_options(
            self._request.settings,
            profile_folder=folder,
            shares_worker=len(self._files) > 1 or self._request.profile_nodes,
        )
        with naming(file.name, file.path):
            start = perf_counter_ns()
            model = self._runtime.load(file.path, options)
            load_ns = perf_counter_ns() - start
            model.bind(make_inputs(model.inputs, self._request.settings, self._request.seed, self._data))
        return _Participant(artifact=index, profiled=profiled, model=model, load_ns=load_ns, name=file.name)

    def _warm_up(self, participants: Sequence[_Participant]) -> None:
        """Run each for the wanted number of runs and time, and note how long one takes."""
        stopping = self._request.stopping
        for place, participant in enumerate(participants):
            begin = perf_counter_ns()
            count, size = 0, 1
            warm_time_s = (
                0.0 if participant.profiled else stopping.warmup_time_s
            )  # every profiled run lengthens the trace
            while count < stopping.warmup_runs or perf_counter_ns() - begin < warm_time_s * 1e9:
                size = max(1, min(size, self._request.turn_runs, stopping.warmup_runs))
                with naming(participant.name):
                    self._timer.turn(participant.model.run, size)
                kind = RunKind.PROFILED if participant.profiled else RunKind.WARM_UP
                self._keep(participant.artifact, [kind] * size)
                count += size
                size *= 2
                self._flush(Phase.WARM_UP, place / len(participants))
            participant.warm_runs = count
            participant.warm_latency_ns = max(1, self._runs[-1].latency_ns)

    def _time(self, plain: list[_Participant], twins: list[_Participant]) -> None:
        rule = StoppingRule(self._request.stopping, len(plain))
        profiled = 0
        taking_part = plain + twins
        turns = order.blocks(len(taking_part))
        if len(taking_part) == 1:
            sizes = self._lone_sizes(plain[0], self._request.stopping)
            while not rule.done(self._runs):
                self._take_turn(plain[0], next(sizes), settling=False, rule=rule)
            return
        while not rule.done(self._runs):
            for place in next(turns):
                self._take_turn(taking_part[place], self._request.turn_runs, settling=len(taking_part) > 1, rule=rule)
            profiled += 2 * self._request.turn_runs
            if len(taking_part) > len(plain) and profiled >= _PROFILED_RUNS:
                taking_part, turns = plain, order.blocks(len(plain))

    def _lone_sizes(self, one: _Participant, stopping: Stopping) -> Iterator[int]:
        """Yield turn sizes: about 100 ms, never past the maximum time by more than one turn."""
        while True:
            typical = self._runs[-1].latency_ns or one.warm_latency_ns
            yield max(1, min(_LONE_TURN_NS // max(1, typical), _LARGEST_TURN))

    def _take_turn(self, participant: _Participant, count: int, *, settling: bool, rule: StoppingRule) -> None:
        begin = perf_counter_ns()
        with naming(participant.name):
            self._timer.turn(participant.model.runner(), count)
        elapsed_s = (perf_counter_ns() - begin) / 1e9
        if participant.profiled:
            kinds = [RunKind.PROFILED] * count
        else:
            kinds = [RunKind.SETTLING if settling and place == 0 else RunKind.TIMED for place in range(count)]
            rule.count(participant.artifact, count - settling, elapsed_s)
        self._keep(participant.artifact, kinds)
        self._flush(Phase.TIMING, rule.fraction)

    def _keep(self, artifact: int, kinds: Sequence[RunKind]) -> None:
        """Turn the timer's arrays into runs."""
        timer = self._timer
        for place, disturbed in enumerate(timer.disturbed(len(kinds))):
            start = timer.starts[place]
            latency = timer.ends[place] - start
            self._runs.add(artifact, kinds[place], self._turn, start, latency, disturbed)
        self._turn += 1

    def _flush(self, phase: Phase, fraction: float) -> None:
        """Send what was not sent yet, a few times a second."""
        if perf_counter_ns() - self._last_send_ns >= _SEND_EVERY_NS:
            self.send_rest()
            self._progress(phase, fraction)

    def send_rest(self) -> None:
        """Send every run that was not sent yet."""
        if self._sent < len(self._runs):
            self._send_runs(self._runs[self._sent :])
            self._sent = len(self._runs)
        self._last_send_ns = perf_counter_ns()

    def _progress(self, phase: Phase, fraction: float) -> None:
        self._send_progress(Progress(phase=phase, fraction=fraction, runs=len(self._runs)))

    def _artifact(self, one: _Participant, peak: tuple[int, int] | None, nodes: Any) -> WorkerArtifact:
        provider, share = one.model.provider()
        return WorkerArtifact(
            sha256=self._files[one.artifact].sha256,
            load_ns=one.load_ns,
            provider=provider,
            provider_share=share,
            peak_memory_bytes=None if peak is None else peak[0],
            peak_rss_bytes=None if peak is None else peak[1],
            nodes=nodes,
            nodes_unavailable=self._unprofiled.get(one.artifact),
        )
