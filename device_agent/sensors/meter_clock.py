"""An external meter's clock, brought to the device's monotonic one by when its samples arrive.

A sample arrives after it was made, never before, so the least difference between arrival and time stamp is nearest to the truth.
What the quickest sample took stays unknown; the power step tells later (`contract.alignment`), which needs a steady offset.
"""

from __future__ import annotations

#: So long are samples held before the first offset is settled on.
SETTLE_NS = 1_000_000_000
#: A sample that arrives so long before it was made tells of a clock that was set.
JUMP_NS = 500_000_000
#: The offset is looked at anew this often, and follows a drift larger than the step. A clock drifts 1 ms in 20 s at worst.
BLOCK_NS = 10_000_000_000
STEP_NS = 20_000_000


class MeterClock:
    """Maps time stamps, in order of arrival. `jumps` counts how often the meter's clock was set."""

    def __init__(self) -> None:
        self.jumps = 0
        self._last_ns: int | None = None  # mapped
        self.restart()

    def restart(self) -> None:
        """Forget the offset: another connection may mean another clock. Samples that are still held are dropped."""
        self._offset_ns: int | None = None
        self._held: list[tuple[int, int, float]] = []
        self._meter_ns: int | None = None
        self._block_ns = 0
        self._least_ns: int | None = None

    def take(self, meter_ns: int, value: float, arrival_ns: int) -> list[tuple[int, float]]:
        """Return the samples whose times are now known, as (monotonic ns, value) in rising order.

        A sample with the time stamp of the one before it is left out: when it was made is not known.
        """
        if meter_ns == self._meter_ns:
            return []
        ready: list[tuple[int, float]] = []
        early_ns = 0 if self._offset_ns is None else meter_ns + self._offset_ns - arrival_ns
        if (self._meter_ns is not None and meter_ns < self._meter_ns) or early_ns > JUMP_NS:
            ready = self._settle()
            self.restart()
            self.jumps += 1
        self._meter_ns = meter_ns
        if self._offset_ns is None:
            self._held.append((arrival_ns, meter_ns, value))
            return ready + self.due(arrival_ns)
        self._follow(arrival_ns, arrival_ns - meter_ns - self._offset_ns)
        return [*ready, (self._mapped(meter_ns, self._offset_ns), value)]

    def due(self, now_ns: int) -> list[tuple[int, float]]:
        """Return the samples that were held, once the offset is settled."""
        return self._settle() if self._held and now_ns - self._held[0][0] >= SETTLE_NS else []

    def _settle(self) -> list[tuple[int, float]]:
        if not self._held:
            return []
        self._offset_ns = offset = min(arrival - meter for arrival, meter, _ in self._held)
        self._block_ns, self._least_ns = self._held[-1][0], None
        held, self._held = self._held, []
        return [(self._mapped(meter, offset), value) for _, meter, value in held]

    def _follow(self, arrival_ns: int, lag_ns: int) -> None:
        """Correct an offset that is contradicted at once, one that all samples of a block lag behind at its end."""
        assert self._offset_ns is not None
        self._least_ns = lag_ns if self._least_ns is None else min(self._least_ns, lag_ns)
        if self._least_ns < -STEP_NS or (arrival_ns - self._block_ns >= BLOCK_NS and self._least_ns > STEP_NS):
            self._offset_ns += self._least_ns
            self._least_ns, self._block_ns = None, arrival_ns
        elif arrival_ns - self._block_ns >= BLOCK_NS:
            self._least_ns, self._block_ns = None, arrival_ns

    def _mapped(self, meter_ns: int, offset_ns: int) -> int:
        mapped = meter_ns + offset_ns
        self._last_ns = mapped if self._last_ns is None else max(mapped, self._last_ns + 1)
        return self._last_ns
