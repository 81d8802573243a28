"""Processes known by a mark in their environment, which children, grandchildren and orphans inherit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue

MARK = "BOARDFIT_TEST_MARK"
#: Bounds against a hang, far above what a busy machine needs.
LINE_S = 60.0
GONE_S = 30.0


def marked(mark: str) -> dict[int, str]:
    """Return process id -> command line of every living process with this mark."""
    wanted = f"{MARK}={mark}".encode()
    found: dict[int, str] = {}
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and wanted in (folder / "environ").read_bytes().split(b"\0"):
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:300]
        except OSError:  # it has just ended; the environment of a zombie is empty
            continue
    return found


def assert_gone(mark: str) -> None:
    """Wait until no process with this mark is left; AssertionError with those that stay."""
    end = time.monotonic() + GONE_S
    while left := marked(mark):
        assert time.monotonic() < end, f"left behind after {GONE_S:g} s: {left}"
        time.sleep(0.02)


def end_all(mark: str) -> None:
    """End every process with this mark by SIGKILL."""
    for pid in marked(mark):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class MarkedProcess:
    """A Python process with a mark, whose lines on stdout can be waited for; `lines` holds all of them so far."""

    def __init__(self, arguments: Sequence[str], *, mark: str, log: Path, environment: dict[str, str]) -> None:
        with log.open("a") as errors:
            self.process = subprocess.Popen(
                [sys.executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, **environment, MARK: mark},
            )
        self.mark = mark
        self.log = log
        self.lines: list[str] = []
        self._queue: SimpleQueue[str | None] = SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            self._queue.put(line.rstrip("\n"))
        self._queue.put(None)

    def wait_for(self, start: str) -> str:
        """Return the next line that begins with `start`; AssertionError, with the log's end, if none comes."""
        while True:
            try:
                line = self._queue.get(timeout=LINE_S)
            except Empty:
                raise AssertionError(f"no line {start!r} within {LINE_S:g} s; {self._words()}") from None
            assert line is not None, f"it ended before it said {start!r}; {self._words()}"
            if line.startswith(start):
                return line

    def drain(self) -> None:
        """Forget the lines that `wait_for` has not seen yet."""
        while not self._queue.empty():
            self._queue.get()

    def kill(self) -> None:
        """End it by SIGKILL and read the rest of what it said."""
        self.process.kill()
        self.finish()

    def finish(self) -> int:
        """Wait for its end and return its exit code."""
        code = self.process.wait(LINE_S)
        # A killed host's agent may hold the pipe a moment longer; it says nothing that is counted.
        self._reader.join(GONE_S)
        return code

    def _words(self) -> str:
        return f"last lines {self.lines[-3:]}, log:\n{self.log.read_text()[-2000:]}"
