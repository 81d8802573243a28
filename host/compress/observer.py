"""What a compression tells while it works. The command draws it; the library stays silent by default."""

from __future__ import annotations

from device_agent.contract.measurement import MeasureEvent


class Observer:
    """Override what is of interest. Every method returns at once; an exception in one ends the compression."""

    def stage(self, text: str) -> None:
        """A new stage begins; `text` says in words what happens and why."""

    def note(self, text: str) -> None:
        """A finding of the stage that runs: a figure, a decision, something left alone."""

    def step(self, done: int, total: int) -> None:
        """The stage that runs has done `done` of `total` equal steps."""

    def event(self, event: MeasureEvent) -> None:
        """An event of the measurement that runs on the device."""
