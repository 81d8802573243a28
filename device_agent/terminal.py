"""Plain text as wide as the terminal: facts whose long values go on below their own beginning, and tables of figures."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

DASH = "–"
#: Characters in a line of what goes to a file or a pipe.
PIPED_WIDTH = 100
#: Below this a line is wider than its terminal, rather than a column of single letters.
_NARROWEST = 40


def width() -> int:
    """Return the columns of the terminal on stdout: $COLUMNS, else what it says, else PIPED_WIDTH."""
    return max(_NARROWEST, shutil.get_terminal_size((PIPED_WIDTH, 24)).columns)


def facts(rows: Sequence[tuple[str, str]], columns: int) -> list[str]:
    """Return the lines of names and values. A name that is empty or the one before leaves its place blank."""
    indent = max((len(name) for name, _ in rows), default=0) + 2
    lines = []
    before = ""
    for name, value in rows:
        shown = "" if name == before else name
        before = name
        lines += wrapped(value, columns, first=f"{shown:<{indent}}", rest=" " * indent)
    return lines


def wrapped(text: str, columns: int, *, first: str = "", rest: str = "") -> list[str]:
    """Return a text in lines of at most so many characters; `first` begins the first line, `rest` the others."""
    return textwrap.wrap(
        text, columns, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False, break_long_words=True
    ) or [first.rstrip()]


def table(header: Sequence[str], rows: Sequence[Sequence[str]], columns: int) -> list[str]:
    """Return the lines of a table: its first column to the left, the figures to the right.

    A first column that leaves the figures no room loses its beginning: names of layers and files differ at their ends.
    """
    every = [header, *rows]
    widths = [max(len(row[place]) for row in every) for place in range(len(header))]
    room = columns - sum(widths[1:]) - 2 * (len(widths) - 1)
    widths[0] = max(8, min(widths[0], room))
    lines = []
    for row in every:
        cells = [f"{_cut(row[0], widths[0]):<{widths[0]}}"]
        cells += [f"{cell:>{size}}" for cell, size in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else f"…{text[len(text) - size + 1 :]}"
