"""What `host compress` shows: stages and findings on stderr while it works, one table at the end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.status import Status

from host.cli import render
from host.compress.observer import Observer


class StageLines(Observer):
    """A line per stage and finding; on a terminal also a moving last line with the steps of the stage that runs."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._started = time.monotonic()
        self._status: Status | None = None
        self._text = ""

    def __enter__(self) -> StageLines:
        if self._console.is_terminal:
            self._status = self._console.status("")
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def stage(self, text: str) -> None:
        self._text = text
        self._console.print(f"[dim]{time.monotonic() - self._started:6.0f} s[/dim]  {text}")
        self._update("")

    def note(self, text: str) -> None:
        self._console.print(f"            [dim]{text}[/dim]")

    def step(self, done: int, total: int) -> None:
        self._update(f" ({done} of {total})")

    def _update(self, suffix: str) -> None:
        if self._status is not None:
            self._status.update(f"{self._text}{suffix}")
