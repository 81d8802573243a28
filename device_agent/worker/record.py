"""The runs of a job as it goes on: kept, counted, and sent a few times a second."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter_ns

from device_agent.contract.measurement import Phase, Progress, RunKind
from device_agent.contract.runs import RunColumns
from device_agent.worker.loop import TurnTimer

_SEND_EVERY_NS = 300_000_000


class Record:
    """Takes over each turn from the timer. `send_progress` and `send_runs` are called between turns only."""

    def __init__(
        self,
        timer: TurnTimer,
        send_progress: Callable[[Progress], None],
        send_runs: Callable[[RunColumns], None],
    ) -> None:
        self.runs = RunColumns()
        self.unrecorded = 0
        self.last_latency_ns = 1
        self._timer = timer
        self._send_progress = send_progress
        self._send_runs = send_runs
        self._turn = 0
        self._sent = 0
        self._last_send_ns = 0

    def keep(self, artifact: int, kinds: Sequence[RunKind]) -> None:
        """Keep the timer's last turn, a kind for each of its runs."""
        timer = self._timer
        for place, disturbed in enumerate(timer.disturbed(len(kinds))):
            start = timer.starts[place]
            self.runs.add(artifact, kinds[place], self._turn, start, timer.ends[place] - start, disturbed)
        self._end_turn(len(kinds))

    def pass_over(self, count: int) -> None:
        """Count the timer's last turn without keeping it; the mark of its last run carries over to the next."""
        self._timer.disturbed(count)
        self.unrecorded += count
        self._end_turn(count)

    def _end_turn(self, count: int) -> None:
        self.last_latency_ns = max(1, self._timer.ends[count - 1] - self._timer.starts[count - 1])
        self._turn += 1

    def flush(self, phase: Phase, fraction: float) -> None:
        """Send what was not sent yet, if it is time to."""
        if perf_counter_ns() - self._last_send_ns >= _SEND_EVERY_NS:
            self.send_rest()
            self.progress(phase, fraction)

    def send_rest(self) -> None:
        """Send every run that was not sent yet."""
        if self._sent < len(self.runs):
            self._send_runs(self.runs[self._sent :])
            self._sent = len(self.runs)
        self._last_send_ns = perf_counter_ns()

    def progress(self, phase: Phase, fraction: float) -> None:
        """Say where the job is."""
        self._send_progress(Progress(phase=phase, fraction=fraction, runs=len(self.runs) + self.unrecorded))
