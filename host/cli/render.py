"""From values in base units to text. The only place that rounds; what is absent is a dash, never a zero."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

DASH = "–"
#: Characters in a line of what goes to a file or a pipe.
PIPED_WIDTH = 100

_TIMES = (("s", 1e9), ("ms", 1e6), ("µs", 1e3), ("ns", 1.0))
_COUNTS = (("G", 1e9), ("M", 1e6), ("k", 1e3))


def three_digits(value: float) -> str:
    """Return three significant digits without an exponent: 9.49, 31.2, 163, 1630."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = 2 - math.floor(math.log10(abs(value)))
    # Rounding may carry into one more digit: 9.996 becomes 10.0 and not 10.00.
    decimals = 2 - math.floor(math.log10(abs(round(value, decimals))))
    return f"{value:.{max(decimals, 0)}f}"


def latency_text(latency_ns: float | None, *, like_ns: float | None = None) -> str:
    """Return a time such as `9.49 ms`. `like_ns` chooses the unit, so that the figures of a row compare at a glance."""
    if latency_ns is None:
        return DASH
    unit, scale = next((row for row in _TIMES if (like_ns or latency_ns) >= row[1]), _TIMES[-1])
    return f"{three_digits(latency_ns / scale)} {unit}"


def seconds_text(duration_s: float | None) -> str:
    """Return a duration such as `14 s` or `3 min 20 s`."""
    if duration_s is None:
        return DASH
    if duration_s < 60:
        return f"{three_digits(duration_s) if duration_s < 10 else round(duration_s)} s"
    minutes, seconds = divmod(round(duration_s), 60)
    return f"{minutes} min {seconds} s"


def bytes_text(size_bytes: float | None) -> str:
    """Return a size in decimal units, such as `3.51 MB`."""
    if size_bytes is None:
        return DASH
    unit, scale = next((row for row in _COUNTS if abs(size_bytes) >= row[1]), ("", 1.0))
    return f"{three_digits(size_bytes / scale) if unit else f'{size_bytes:g}'} {unit}B"


def count_text(count: float | None) -> str:
    """Return a count such as `163 M`; below a thousand as it is."""
    if count is None:
        return DASH
    unit, scale = next((row for row in _COUNTS if abs(count) >= row[1]), ("", 1.0))
    return f"{three_digits(count / scale)} {unit}" if unit else f"{count:g}"


def pixels_text(size: Sequence[int]) -> str:
    """Return a (height, width) as `24x24`."""
    return "x".join(str(side) for side in size)


def percent_text(fraction: float | None, decimals: int = 1) -> str:
    """Return a fraction as `93.4 %`."""
    return DASH if fraction is None else f"{fraction * 100:.{decimals}f} %"


def share_text(fraction: float) -> str:
    """Return a share that somebody chose as they would write it, such as `2 %` or `0.5 %`."""
    return f"{fraction * 100:.3g} %"


def ratio_text(ratio: float | None) -> str:
    """Return a ratio as `0.498x`."""
    return DASH if ratio is None else f"{ratio:.3f}x"


def points_text(fraction: float) -> str:
    """Return a difference of two fractions as `-0.50 points`, of a hundred."""
    return f"{fraction * 100:+.2f} points"


def interval_text(low: float, high: float) -> str:
    """Return the interval of a ratio as `(0.490 - 0.494)`, with more digits where its ends would look alike."""
    decimals = next((digits for digits in (3, 4, 5) if round(low, digits) != round(high, digits)), 3)
    return f"({low:.{decimals}f} - {high:.{decimals}f})"


def energy_text(energy_j: float | None) -> str:
    """Return an energy such as `48.1 mJ`."""
    if energy_j is None:
        return DASH
    unit, scale = next((row for row in (("J", 1.0), ("mJ", 1e-3)) if abs(energy_j) >= row[1]), ("µJ", 1e-6))
    return f"{three_digits(energy_j / scale)} {unit}"


def energy_interval_text(energy_j: float, uncertainty_j: float) -> str:
    """Return an energy with half of its interval, in one unit, such as `48.1 ± 0.7 mJ`; the uncertainty has two digits."""
    largest = max(abs(energy_j), uncertainty_j)
    unit, scale = next((row for row in (("J", 1.0), ("mJ", 1e-3)) if largest >= row[1]), ("µJ", 1e-6))
    if not uncertainty_j:
        return f"{three_digits(energy_j / scale)} ± 0 {unit}"
    decimals = max(0, 1 - math.floor(math.log10(uncertainty_j / scale)))
    return f"{energy_j / scale:.{decimals}f} ± {uncertainty_j / scale:.{decimals}f} {unit}"


def frequency_text(frequency_hz: float | None) -> str:
    """Return a frequency such as `1.80 GHz`."""
    return DASH if frequency_hz is None else f"{count_text(frequency_hz)}Hz"


def temperature_text(temperature_c: float | None) -> str:
    """Return a temperature such as `61.2 °C`."""
    return DASH if temperature_c is None else f"{temperature_c:.1f} °C"


def power_text(power_w: float | None) -> str:
    """Return a power such as `4.81 W`."""
    return DASH if power_w is None else f"{three_digits(power_w)} W"


def numbers_text(numbers: Sequence[int]) -> str:
    """Return whole numbers with their runs drawn together, such as `0,2-3`."""
    parts: list[str] = []
    ordered = sorted(numbers)
    start = 0
    for place in range(1, len(ordered) + 1):
        if place == len(ordered) or ordered[place] != ordered[place - 1] + 1:
            first, last = ordered[start], ordered[place - 1]
            parts.append(str(first) if first == last else f"{first}-{last}")
            start = place
    return ",".join(parts)


def number_text(value: float | None) -> str:
    """Return a bare figure, for values whose unit stands beside them."""
    return DASH if value is None else three_digits(value)


def text_or_dash(value: object | None) -> str:
    """Return a text, a dash for None."""
    return DASH if value is None else str(value)


def json_text(document: Any) -> str:
    """Return the JSON form of a document. Numbers are not rounded; NaN and infinity have no JSON form and raise."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)


def print_json(document: Any) -> None:
    """Write a document to stdout."""
    import click

    click.echo(json_text(document))


def console(*, stderr: bool = False) -> Console:
    """Return a console for results (stdout) or for progress and notes (stderr)."""
    from rich.console import Console

    found = Console(stderr=stderr, highlight=False, soft_wrap=False)
    if not found.is_terminal:
        # A file or a pipe has no width of its own.
        found = Console(stderr=stderr, highlight=False, width=PIPED_WIDTH)
    return found


def table(*columns: str, right: Sequence[str] = (), title: str | None = None) -> Table:
    """Return an empty table without frames; the columns named in `right` hold figures and are aligned to the right."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", no_wrap=column in right)
    return made


def add_row(table: Table, *cells: str | Text) -> None:
    """Add a row whose texts mean what they say: square brackets are no markup."""
    from rich.text import Text

    table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells))


def facts(rows: Sequence[tuple[str, str]]) -> Table:
    """Return names and values as two aligned columns."""
    from rich.table import Table
    from rich.text import Text

    made = Table.grid(padding=(0, 3))
    made.add_column(style="dim", no_wrap=True)
    made.add_column()
    for name, value in rows:
        made.add_row(name, Text(value))
    return made
