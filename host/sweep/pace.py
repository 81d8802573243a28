"""The clock of a sweep, and its ways to wait; tests give their own."""

from __future__ import annotations

import queue
import threading
import time
from typing import TypeVar

_Message = TypeVar("_Message")


class Pace:
    """Monotonic seconds, and waits that something can end before their time."""

    def now(self) -> float:
        """Return the time in seconds since some moment."""
        return time.monotonic()

    def wait(self, ended: threading.Event, seconds: float) -> bool:
        """Wait so long, or until the event is set; return whether it is."""
        return ended.wait(seconds)

    def next_message(self, messages: queue.SimpleQueue[_Message], seconds: float, *, idle: bool) -> _Message | None:
        """Return the next message, None if none comes in time. `idle`: nobody is at work who could send one."""
        del idle  # of interest to clocks that only move while everybody waits
        try:
            return messages.get(timeout=seconds)
        except queue.Empty:
            return None
