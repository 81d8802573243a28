"""Which turns of a soak are recorded: at even distances of time, so that a day of a fast model still fits into a record."""

from __future__ import annotations

#: About as many runs are recorded of a soak, however long it lasts.
RECORDED_RUNS = 200_000
#: Turns of a soak are no longer than this many runs, so that 400 moments at least are seen of a fast model.
SOAK_TURN_RUNS = 500


class Spacing:
    """Says which turns to record. Even in time and not in turns, since a device that throttles makes fewer of them."""

    def __init__(self, length_ns: int, turn_runs: int, begin_ns: int) -> None:
        self._apart_ns = length_ns / max(1, RECORDED_RUNS // turn_runs)
        self._next_ns = float(begin_ns)

    def due(self, start_ns: int) -> bool:
        """Say whether the turn that began at `start_ns` is to be recorded. Call once per turn."""
        if start_ns < self._next_ns:
            return False
        self._next_ns = max(self._next_ns + self._apart_ns, start_ns)
        return True
