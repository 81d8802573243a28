"""The moving line of `host bench` while it works."""

from __future__ import annotations

from types import TracebackType
from typing import TypeVar

from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from device_agent.contract.measurement import MeasureEvent, Phase
from device_agent.contract.measurement import Progress as JobProgress
from host.cli import render

_P = TypeVar("_P", bound="BenchProgress")

WORDS = {
    Phase.STARTING: "starting a worker",
    Phase.LOADING: "loading the model",
    Phase.WARM_UP: "warming up",
    Phase.TIMING: "timing",
    Phase.PROFILING: "timing layers",
    Phase.IDLE: "resting, for the idle power",
    Phase.COLD_START: "starting cold",
}


class BenchProgress:
    """One line on stderr if it is a terminal, nothing otherwise."""

    def __init__(self) -> None:
        console = render.console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[detail]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=None, detail="")

    def __enter__(self: _P) -> _P:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, what: str) -> None:
        """Show a step of unknown length."""
        self._progress.update(self._task, description=escape(what), total=None, detail="")

    def on_push(self, name: str, position: int, size: int) -> None:
        """Show bytes of an upload."""
        detail = f"{render.bytes_text(position)} of {render.bytes_text(size)}"
        self._progress.update(
            self._task, description=escape(f"sending {name}"), completed=position, total=size, detail=detail
        )

    def on_event(self, event: MeasureEvent) -> None:
        """Show where the job is."""
        if isinstance(event, JobProgress):
            self.show(WORDS[event.phase], event.fraction, f"{event.runs} runs" if event.runs else "")

    def show(self, what: str, fraction: float, detail: str) -> None:
        """Show a step whose share that is done is known."""
        self._progress.update(self._task, description=what, completed=fraction, total=1.0, detail=detail)
