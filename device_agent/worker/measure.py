"""A measuring job inside the worker: load, warm up, take turns until the stopping rule is content, report."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from device_agent.contract.measurement import MemoryPhases, NodeTime, Phase, Progress, RunKind, Window, WindowKind
from device_agent.contract.runs import RunColumns
from device_agent.contract.settings import MAX_RUNS, MeasureRequest
from device_agent.contract.statistics import steal_fraction
from device_agent.runtimes.base import LoadedModel, Runtime
from device_agent.runtimes.profiling import NoProfile
from device_agent.worker import order
from device_agent.worker.inputs import make_inputs
from device_agent.worker.loop import TurnTimer, no_garbage_collection
from device_agent.worker.memory import MemoryByPhase
from device_agent.worker.naming import naming
from device_agent.worker.process import pinned_cpus, steal_ticks
from device_agent.worker.record import Record
from device_agent.worker.result import WorkerArtifact, WorkerResult
from device_agent.worker.setup import load_options, threads_of
from device_agent.worker.soak import SOAK_TURN_RUNS, Spacing
from device_agent.worker.stopping import StoppingRule

#: A lone artifact has nobody to take turns with; its turns are this long, so that little time passes between them.
_LONE_TURN_NS = 100_000_000
_LARGEST_TURN = 10_000
#: A profiled twin takes part until it has this many runs; a trace is some 400 bytes per node and run.
_PROFILED_RUNS = 100
#: Threads of a runtime may spin for a while after a run; the idle window begins after that.
_SETTLE_S = 0.2
_IDLE_STEP_S = 1.0


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
        send_runs: Callable[[RunColumns], None],
    ) -> None:
        self._request = request
        self._files = files
        self._runtime = runtime
        self._version = version
        self._data = data
        self._folder = folder
        self._threads = threads_of(request.settings)
        self._timer = TurnTimer(threads=self._threads, capacity=max(_LARGEST_TURN, request.turn_runs))
        self._record = Record(self._timer, send_progress, send_runs)
        self._windows: list[Window] = []
        self._unprofiled: dict[int, str] = {}

    def run(self) -> WorkerResult:
        """Measure, send every run, and return the result. ModelRejected names the model; the runtime was imported already."""
        begin = perf_counter_ns()
        steal_before = steal_ticks()
        memory = MemoryByPhase(alone=len(self._files) == 1)
        plain = [self._load(index, profiled=False) for index in range(len(self._files))]
        memory.end_phase()
        for one in plain:
            self._feed(one)
        memory.reset()  # what making the inputs took for a moment is not the model's
        self._first_runs(plain)
        memory.end_phase()
        # Before the warm-up, which the timed part follows at once: a rest would let the clock and the caches cool down.
        self._idle(WindowKind.IDLE_BEFORE)
        self._warm_up(plain)
        # By now the runtime's arenas have grown to their full size. Later, the record of runs and a twin would count too.
        memory.end_phase()
        twins = self._load_twins() if self._request.profile_nodes else []
        self._first_runs(twins)
        self._warm_up(twins)
        with no_garbage_collection(), self._window(WindowKind.TIMED):
            self._time(plain, twins)
        self._idle(WindowKind.IDLE_AFTER)
        self._record.send_rest()
        nodes = {twin.artifact: self._node_times(twin) for twin in twins}
        artifacts = tuple(self._artifact(one, memory.phases(), nodes.get(one.artifact)) for one in plain)
        cpus = None if self._request.settings.cpus is None else pinned_cpus()
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
            cpus=cpus,
            windows=tuple(self._windows),
            clock_resolution_ns=max(1, round(time.get_clock_info("perf_counter").resolution * 1e9)),
        )

    def _load_twins(self) -> list[_Participant]:
        """Load the profiled twins. Where the runtime gives no node times of an artifact, the reason is kept instead."""
        twins: list[_Participant] = []
        for index in range(len(self._files)):
            try:
                twin = self._load(index, profiled=True)
                self._feed(twin)
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
        self._record.progress(Phase.LOADING, index / len(self._files))
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
        return _Participant(artifact=index, profiled=profiled, model=model, load_ns=load_ns, name=file.name)

    def _feed(self, one: _Participant) -> None:
        with naming(one.name):
            one.model.bind(make_inputs(one.model.inputs, self._request.settings, self._request.seed, self._data))

    def _first_runs(self, participants: Sequence[_Participant]) -> None:
        """Run each once; these runs belong to the warm-up."""
        for one in participants:
            with naming(one.name):
                self._timer.turn(one.model.run, 1)
            self._record.keep(one.artifact, [RunKind.PROFILED if one.profiled else RunKind.WARM_UP])
            one.warm_runs = 1

    def _warm_up(self, participants: Sequence[_Participant]) -> None:
        """Run each for the wanted number of runs and time."""
        stopping = self._request.stopping
        for place, participant in enumerate(participants):
            begin = perf_counter_ns()
            count, size = participant.warm_runs, 2 * participant.warm_runs
            warm_time_s = (
                0.0 if participant.profiled else stopping.warmup_time_s
            )  # every profiled run lengthens the trace
            while count < stopping.warmup_runs or perf_counter_ns() - begin < warm_time_s * 1e9:
                size = max(1, min(size, self._request.turn_runs, stopping.warmup_runs))
                with naming(participant.name):
                    self._timer.turn(participant.model.run, size)
                kind = RunKind.PROFILED if participant.profiled else RunKind.WARM_UP
                self._record.keep(participant.artifact, [kind] * size)
                count += size
                size *= 2
                self._record.flush(Phase.WARM_UP, place / len(participants))
            participant.warm_runs = count

    @contextmanager
    def _window(self, kind: WindowKind) -> Iterator[None]:
        start = perf_counter_ns()
        yield
        self._windows.append(Window(kind=kind, start_ns=start, end_ns=perf_counter_ns()))

    def _idle(self, kind: WindowKind) -> None:
        """Sleep with the models loaded, for the baseline of energy."""
        rest_s = self._request.idle_s or 0.0
        if not rest_s:
            return
        self._record.send_rest()
        time.sleep(_SETTLE_S)
        with self._window(kind):
            begin = perf_counter_ns()
            while (left_s := rest_s - (perf_counter_ns() - begin) / 1e9) > 0:
                self._record.progress(Phase.IDLE, 1 - left_s / rest_s)
                time.sleep(min(left_s, _IDLE_STEP_S))

    def _time(self, plain: list[_Participant], twins: list[_Participant]) -> None:
        if self._request.soak_s is not None:
            self._soak(plain[0], self._request.soak_s)
            return
        rule = StoppingRule(self._request.stopping, len(plain))
        profiled = 0
        taking_part = plain + twins
        turns = order.blocks(len(taking_part))
        if len(taking_part) == 1:
            while not rule.done(self._record.runs):
                self._take_turn(plain[0], self._lone_size(), settling=False, rule=rule)
            return
        while not rule.done(self._record.runs):
            for place in next(turns):
                self._take_turn(taking_part[place], self._request.turn_runs, settling=len(taking_part) > 1, rule=rule)
            profiled += 2 * self._request.turn_runs
            if len(taking_part) > len(plain) and profiled >= _PROFILED_RUNS:
                taking_part, turns = plain, order.blocks(len(plain))

    def _lone_size(self) -> int:
        """Return the runs of a turn of about 100 ms, by the latency of the last run."""
        return max(1, min(_LONE_TURN_NS // self._record.last_latency_ns, _LARGEST_TURN))

    def _soak(self, one: _Participant, soak_s: float) -> None:
        """Run without a pause for so long; keep turns at even distances and count the runs of the others."""
        begin = perf_counter_ns()
        spacing = Spacing(round(soak_s * 1e9), min(self._lone_size(), SOAK_TURN_RUNS), begin)
        while (now := perf_counter_ns()) - begin < soak_s * 1e9:
            count = min(self._lone_size(), SOAK_TURN_RUNS)
            with naming(one.name):
                self._timer.turn(one.model.runner(), count)
            if spacing.due(now) and len(self._record.runs) + count <= MAX_RUNS:
                self._record.keep(one.artifact, [RunKind.TIMED] * count)
            else:
                self._record.pass_over(count)
            self._record.flush(Phase.TIMING, (now - begin) / (soak_s * 1e9))

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
        self._record.keep(participant.artifact, kinds)
        self._record.flush(Phase.TIMING, rule.fraction)

    def _artifact(self, one: _Participant, phases: MemoryPhases | None, nodes: Any) -> WorkerArtifact:
        provider, share = one.model.provider()
        peak = None if phases is None else max(phases.load_bytes, phases.first_run_bytes, phases.steady_bytes)
        return WorkerArtifact(
            sha256=self._files[one.artifact].sha256,
            load_ns=one.load_ns,
            provider=provider,
            provider_share=share,
            peak_memory_bytes=peak,
            peak_rss_bytes=None if phases is None or peak is None else phases.runtime_bytes + peak,
            nodes=nodes,
            nodes_unavailable=self._unprofiled.get(one.artifact),
            memory=phases,
            unrecorded_runs=self._record.unrecorded,
        )
