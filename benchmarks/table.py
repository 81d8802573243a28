"""What every benchmark shares: rows, goals, how they are judged, and the table or JSON that is printed.

A row is `{metric, value, unit, interval, goal, met, reason, quick}`. `interval` is [low, high] of 95 % or null, `goal` a text
or null, `met` null where there is no goal or the machine is too noisy to tell; `reason` then says why. No package is imported.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

#: Raised when a key of the JSON document changes its meaning.
SCHEMA = 1
_WIDTH = 110
_NONE = "–"


class CannotMeasure(Exception):
    """The benchmark could not be run at all; `str(error)` says what is missing and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """Values from `low` to `high`, both included, and less than `below`; None leaves a side open."""

    low: float | None = None
    high: float | None = None
    below: float | None = None

    def __post_init__(self) -> None:
        if self.low is None and self.high is None and self.below is None:
            raise ValueError("a goal needs a bound")

    def __str__(self) -> str:
        if self.low is not None and self.high is not None:
            return f"{self.low:g}" if self.low == self.high else f"{self.low:g} - {self.high:g}"
        bounds = ((">=", self.low), ("<=", self.high), ("<", self.below))
        return " and ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)

    def holds(self, value: float) -> bool:
        """Say whether one value is good enough."""
        return (
            (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.below is None or value < self.below)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table. Figures are as measured; only the table rounds."""

    metric: str
    value: float | None
    unit: str
    interval: tuple[float, float] | None = None
    goal: str | None = None
    met: bool | None = None
    reason: str | None = None
    quick: bool = False


def judged(
    metric: str,
    value: float,
    unit: str,
    goal: Goal,
    *,
    interval: tuple[float, float] | None = None,
    doubt: str | None = None,
) -> Row:
    """Return a row with its verdict: on the whole interval where there is one, and open where that crosses the goal.

    `doubt` is a reason of the caller's to leave the verdict open, such as a bare reference that misses the goal as well.
    """
    sides = [value] if interval is None else [value, *interval]
    held = [goal.holds(side) for side in sides]
    met: bool | None = all(held)
    reason = None
    if doubt is not None:
        met, reason = None, doubt
    elif interval is not None and any(held) and not all(held):
        met, reason = None, f"too noisy to tell: the interval crosses {goal} {unit}".rstrip()
    return Row(metric=metric, value=value, unit=unit, interval=interval, goal=str(goal), met=met, reason=reason)


def interval_of(values: Sequence[float]) -> tuple[float, tuple[float, float] | None]:
    """Return the median of independent values and its 95 % interval by order statistics; None for fewer than six."""
    from statistics import median

    from device_agent.contract.statistics import interval_rank

    ordered = sorted(values)
    rank = interval_rank(len(ordered))
    return median(ordered), None if rank is None else (ordered[rank - 1], ordered[-rank])


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A command: its name, what it says of itself, and the function that measures. `measure(quick)` returns the rows."""

    name: str
    about: str
    measure: Callable[[bool], list[Row]]

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """Run the command; 0 whenever it could measure, 1 if not. The result goes to stdout, progress to stderr."""
        parser = argparse.ArgumentParser(
            prog=f"python -m benchmarks.{self.name}",
            description=self.about,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        parser.add_argument(
            "--quick", action="store_true", help="less of everything: ends within a minute, proves little"
        )
        parser.add_argument("--json", action="store_true", help="the same rows as JSON on stdout")
        options = parser.parse_args(arguments)
        try:
            rows = [replace(row, quick=options.quick) for row in self.measure(options.quick)]
        except CannotMeasure as error:
            sys.stderr.write(f"benchmarks.{self.name}: {error}\n")
            return 1
        sys.stdout.write(self.as_json(rows) if options.json else self.as_text(rows, quick=options.quick))
        return 0

    def as_json(self, rows: Sequence[Row]) -> str:
        """Return the rows as a JSON document."""
        document = {
            "schema": SCHEMA,
            "benchmark": self.name,
            "about": self.about,
            "rows": [asdict(row) for row in rows],
        }
        return json.dumps(document, indent=2, allow_nan=False) + "\n"

    def as_text(self, rows: Sequence[Row], *, quick: bool) -> str:
        """Return the header and the table."""
        title = f"benchmarks.{self.name}" + (" (quick: less of everything, for a first look)" if quick else "")
        heads = ("metric", "value", "unit", "95 % interval", "goal", "met")
        cells = [_cells(row) for row in rows]
        widths = [max(len(head), *(len(line[place]) for line in cells)) for place, head in enumerate(heads)]
        lines = [title, "", *self.about.strip().splitlines(), ""]
        lines += [_line(heads, widths), "  ".join("-" * width for width in widths)]
        for row, line in zip(rows, cells, strict=True):
            lines.append(_line(line, widths))
            if row.reason:
                lines += textwrap.wrap(row.reason, _WIDTH, initial_indent="    ", subsequent_indent="    ")
        return "\n".join(lines) + "\n"


def progress(text: str) -> None:
    """Say on stderr what goes on."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _cells(row: Row) -> tuple[str, ...]:
    metric = f"{row.metric} [quick]" if row.quick else row.metric
    interval = _NONE if row.interval is None else f"{_number(row.interval[0])} - {_number(row.interval[1])}"
    met = {True: "yes", False: "NO", None: "open" if row.goal else _NONE}[row.met]
    return metric, _NONE if row.value is None else _number(row.value), row.unit, interval, row.goal or _NONE, met


def _number(value: float) -> str:
    """Return a value with four significant digits, and integers whole."""
    if value == int(value) and abs(value) < 1e12:
        return str(int(value))
    digits = max(0, 3 - math.floor(math.log10(abs(value))))
    return f"{value:.{min(digits, 6)}f}"
