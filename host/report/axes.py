"""Axes of charts: where they begin and end, which round values stand at them, and in which words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
_TIME_STEPS = (
    *(each * _MINUTE for each in (1, 5, 15, 30)), *(each * _HOUR for each in (1, 3, 6, 12)),
    *(each * _DAY for each in (1, 2, 7, 14, 28, 91, 182, 364)),
)  # fmt: skip
_TIMES = (("s", 1e9), ("ms", 1e6), ("µs", 1e3), ("ns", 1.0))


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """`text` writes a tick's value; `low` and `high` are widened to whole ticks unless `exact`. `log` needs `low` above 0."""

    label: str
    low: float
    high: float
    text: Callable[[float], str] | None = None
    exact: bool = False
    step: float | None = None
    log: bool = False

    def __post_init__(self) -> None:
        if self.log and not self.low > 0:
            raise ValueError(f"a logarithmic axis cannot begin at {self.low}")

    def ticks(self) -> list[float]:
        """Return round values that cover the axis, four to seven of them."""
        if self.log:
            return _log_ticks(self.low, self.high)
        span = self.high - self.low
        step = self.step or nice_step(span)
        first = math.ceil(self.low / step - 1e-9) if self.exact else math.floor(self.low / step + 1e-9)
        last = math.floor(self.high / step + 1e-9) if self.exact else math.ceil(self.high / step - 1e-9)
        return [index * step for index in range(first, last + 1)]

    def texts(self) -> list[str]:
        """Return what stands at the ticks: as many decimals as their distance asks for."""
        values = self.ticks()
        if self.text is not None:
            return [self.text(value) for value in values]
        if self.log:
            return [f"{value:g}" for value in values]
        step = (self.step or nice_step(self.high - self.low)) / self.unit
        decimals = next((each for each in range(9) if abs(step * 10**each - round(step * 10**each)) < 1e-6), 9)
        return [f"{value / self.unit:.{decimals}f}" for value in values]

    @property
    def unit(self) -> float:
        """What one of the ticks' numbers stands for: 1, or a power of a thousand where they would be too long to read."""
        largest = max(abs(self.low), abs(self.high))
        if self.log or not 0 < largest < 0.01:
            return 1.0
        return float(10.0 ** (3 * math.floor(math.log10(largest) / 3)))

    @property
    def name(self) -> str:
        """The label, with the unit of the ticks."""
        return self.label if self.unit == 1 else f"{self.label}, in {self.unit:.0e}"

    def bounds(self) -> tuple[float, float]:
        """Return the values at the two ends."""
        if self.exact:
            return self.low, self.high
        ticks = self.ticks()
        return min(ticks[0], self.low), max(ticks[-1], self.high)

    def place(self, value: float) -> float:
        """Return where on the axis a value lies, 0 to 1 within its bounds."""
        low, high = self.bounds()
        if self.log:
            low, high, value = math.log(low), math.log(high), math.log(value)
        if not high > low:
            low, high = low - 0.5, high + 0.5
        return (value - low) / (high - low)


def nice_step(span: float, most: int = 6) -> float:
    """Return a round distance that divides `span` into at most `most` parts."""
    if not span > 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    return next(power * step for step in _STEPS if span / (power * step) <= most + 1e-9)


def _log_ticks(low: float, high: float) -> list[float]:
    """Return powers of ten, with twos and fives between them where the span is short."""
    first, last = math.floor(math.log10(low) + 1e-9), math.ceil(math.log10(high) - 1e-9)
    factors = (1.0, 2.0, 5.0) if last - first <= 3 else (1.0,)
    every = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
    below = max((place for place, value in enumerate(every) if value <= low * (1 + 1e-9)), default=0)
    above = min((place for place, value in enumerate(every) if value >= high * (1 - 1e-9)), default=len(every) - 1)
    return every[below : max(above, below + 1) + 1]


def spread_axis(label: str, values: Sequence[float], *, wide: float = 8.0) -> Axis:
    """Return an axis for `values`, logarithmic where all are above 0 and the largest is `wide` times the smallest."""
    low, high = min(values), max(values)
    if low > 0 and high / low >= wide:
        return Axis(label=label, low=low * 0.9, high=high * 1.1, log=True)
    room = (high - low) * 0.12 or abs(high) * 0.05 or 1.0
    return Axis(label=label, low=max(low - room, 0.0) if low >= 0 else low - room, high=high + room)


def time_unit(largest_ns: float) -> tuple[str, float]:
    """Return the unit in which a time is a number above 1, and how many nanoseconds it has."""
    return next((row for row in _TIMES if largest_ns >= row[1]), _TIMES[-1])


def date_axis(first: datetime, last: datetime) -> Axis:
    """Return an axis of moments in seconds since the epoch, in UTC, with round ones at its ticks."""
    low, high = first.timestamp(), last.timestamp()
    room = max((high - low) * 0.03, 30.0)
    low, high = low - room, high + room
    step = next((each for each in _TIME_STEPS if (high - low) / each <= 6), _TIME_STEPS[-1])
    same_day = first.astimezone(timezone.utc).date() == last.astimezone(timezone.utc).date()
    shape = "%H:%M" if same_day else "%d %b" if step >= _DAY else "%d %b %H:%M"
    if high - low > 300 * _DAY:
        shape = "%b %Y"
    if shape == "%d %b %H:%M":
        step = next((each for each in _TIME_STEPS if (high - low) / each <= 4), step)
    day = first.astimezone(timezone.utc).strftime("%d %b %Y")

    def text(value: float) -> str:
        return (datetime.fromtimestamp(0, timezone.utc) + timedelta(seconds=value)).strftime(shape)

    return Axis(label=f"{day}, UTC" if same_day else "UTC", low=low, high=high, exact=True, step=step, text=text)
