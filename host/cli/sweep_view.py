"""A sweep while it runs: a table that moves on a terminal, a line for each event elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

import click

from host.cli import render
from host.sweep import events
from host.sweep.job import DeviceProgress

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.live import Live

_V = TypeVar("_V", bound="SweepView")
_REFRESH_PER_S = 4
#: Lines of the terminal that are not for devices.
_AROUND = 12
_LAST_ERRORS = 4


@dataclass(slots=True)
class _Row:
    device: str
    total: int
    done: int = 0
    failed: int = 0
    state: str = "waiting for its turn"
    last: str = ""
    busy: bool = False


class SweepView:
    """Shows events. Its methods are called by one thread at a time; a table is drawn by a thread of its own."""

    def __init__(self, name: str, progress: Sequence[DeviceProgress], *, estimate_s: float | None = None) -> None:
        self._name = name
        self._console = render.console(stderr=True)
        self._rows = {
            each.device: _Row(each.device, each.total, done=each.done, failed=each.failed + each.skipped)
            for each in progress
        }
        self._lock = threading.Lock()
        self._estimate_s = estimate_s
        self._begin_s = time.monotonic()
        self._before = sum(row.done + row.failed for row in self._rows.values())
        self._retried = 0
        self._errors: list[str] = []
        self._live: Live | None = None
        #: Set from a signal handler, which must not draw.
        self.stopping = False

    def __enter__(self: _V) -> _V:
        if self._console.is_terminal:
            from rich.live import Live

            self._live = Live(
                get_renderable=self._draw, console=self._console, refresh_per_second=_REFRESH_PER_S, transient=True
            )
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def on_event(self, event: events.SweepEvent) -> None:
        """Take an event in."""
        with self._lock:
            self._take(event)
        if self._live is None:
            line = event_line(event)
            if line is not None:
                done, total = self._counts()
                click.echo(f"[{done}/{total}] {line}", err=True)

    def _take(self, event: events.SweepEvent) -> None:
        if isinstance(event, events.JobsMoved):
            self._row(event.device).total -= event.count
            self._row(event.to).total += event.count
        row = self._row(event.device)
        if isinstance(event, events.JobDone):
            row.done += 1
            row.last = f"{render.latency_text(event.p50_ns)} {event.artifact}"
        elif isinstance(event, events.JobFailed):
            row.failed += 1
        elif isinstance(event, events.JobsSkipped):
            row.failed += event.count
        elif isinstance(event, events.JobRetried):
            self._retried += 1
        if isinstance(event, events.JobFailed | events.JobRetried | events.JobsSkipped | events.DeviceSetAside):
            self._errors = [*self._errors, str(event_line(event))][-_LAST_ERRORS:]
        row.busy = not isinstance(event, events.DeviceEnded | events.DeviceSetAside | events.JobsMoved)
        row.state = _state(event) or row.state

    def _row(self, device: str) -> _Row:
        return self._rows.setdefault(device, _Row(device, 0))

    def _counts(self) -> tuple[int, int]:
        with self._lock:
            rows = list(self._rows.values())
        return sum(row.done + row.failed for row in rows), sum(row.total for row in rows)

    def _draw(self) -> Group:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        done, total = self._counts()
        with self._lock:
            rows = sorted(
                self._rows.values(), key=lambda row: (not row.busy, row.done + row.failed >= row.total, row.device)
            )
            table = render.table("device", "done", "failed", "now", "last p50", right=("done", "failed"))
            room = max(self._console.height - _AROUND, 3)
            for row in rows[:room]:
                state = row.state if row.done + row.failed < row.total else "done"
                failed = Text(str(row.failed), style="red" if row.failed else "dim")
                render.add_row(table, row.device, f"{row.done}/{row.total}", failed, state, row.last)
            errors = list(self._errors)
            failures = sum(row.failed for row in self._rows.values())
        head = Text.assemble((self._name, "bold"), f"  {done} of {total} jobs{self._pace_text(done, total)}")
        counts = f"{failures} failed or skipped, {self._retried} tries repeated"
        bar = Table.grid(padding=(0, 2))
        bar.add_row(ProgressBar(total=max(total, 1), completed=done, width=50), Text(counts, style="dim"))
        parts: list[RenderableType] = [
            head,
            bar,
            table,
        ]
        if len(rows) > room:
            parts.append(Text(f"and {len(rows) - room} devices more", style="dim"))
        parts += [Text(line, style="yellow", no_wrap=True, overflow="ellipsis") for line in errors]
        wish = "finishing the jobs that run; Ctrl-C again ends them at once" if self.stopping else ""
        return Group(*parts, Text(wish, style="bold"))

    def _pace_text(self, done: int, total: int) -> str:
        """Return rate and remaining time, from what this run did so far, and before that from the estimate."""
        seconds, made = time.monotonic() - self._begin_s, done - self._before
        if made < 3:
            left = None if self._estimate_s is None else max(self._estimate_s - seconds, 0.0)
            return "" if left is None else f", about {render.seconds_text(left)} to go"
        rate = made / seconds
        return f", {render.three_digits(60 * rate)} jobs per minute, about {render.seconds_text((total - done) / rate)} to go"


def _state(event: events.SweepEvent) -> str | None:
    """Return what the device does after an event, None where that did not change."""
    if isinstance(event, events.JobStarted):
        again = f" (try {event.attempt})" if event.attempt > 1 else ""
        return f"{event.artifact}, repeat {event.repeat + 1}{again}"
    if isinstance(event, events.DeviceWaited):
        return f"place {event.position} in the queue" + (f" behind {event.holder}" if event.holder else "")
    if isinstance(event, events.DeviceSetAside):
        return f"set aside, tried again in {render.seconds_text(event.wait_s)}"
    if isinstance(event, events.DeviceEnded):
        return "waiting for its turn"
    return None


def event_line(event: events.SweepEvent) -> str | None:
    """Return an event as a line of text, None for one that is of no interest without a table."""
    name = event.device
    if isinstance(event, events.JobDone):
        verdicts = ", ".join(event.verdicts)
        return (
            f"{name}: {event.artifact} repeat {event.repeat + 1}: p50 {render.latency_text(event.p50_ns)}, {verdicts}"
        )
    if isinstance(event, events.JobFailed):
        return f"{name}: {event.artifact} repeat {event.repeat + 1} failed: {event.error}"
    if isinstance(event, events.JobRetried):
        wait = render.seconds_text(event.wait_s)
        return f"{name}: {event.artifact}, try {event.attempt} failed, again in {wait}: {event.error}"
    if isinstance(event, events.JobsSkipped):
        return f"{name}: {event.count} {'job' if event.count == 1 else 'jobs'} skipped: {event.reason}"
    if isinstance(event, events.DeviceSetAside):
        return f"{name}: set aside for {render.seconds_text(event.wait_s)}: {event.reason}"
    if isinstance(event, events.JobsMoved):
        return f"{name}: {event.count} {'job' if event.count == 1 else 'jobs'} moved to {event.to}"
    if isinstance(event, events.Cooled):
        end = "" if event.reached else f", not down to {render.temperature_text(event.wanted_c)}"
        return (
            f"{name}: cooled from {render.temperature_text(event.from_c)} to {render.temperature_text(event.to_c)} "
            f"in {render.seconds_text(event.seconds)}{end}"
        )
    if isinstance(event, events.CannotCool):
        return f"{name}: no cool-down: {event.reason}"
    if isinstance(event, events.EnvironmentChanged):
        changes = zip(event.fields, event.before, event.after, strict=True)
        said = ", ".join(f"{field} from {before} to {after}" for field, before, after in changes)
        return f"{name}: changed in mid-sweep, results before and after do not compare: {said}"
    if isinstance(event, events.ClaimDropped):
        return f"{name}: a result came too late and was dropped"
    return None
