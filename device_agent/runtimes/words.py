"""A runtime's own words, cut to a length that a terminal can show."""

from __future__ import annotations


def shorten(text: object, limit: int = 400) -> str:
    """Return the text on one line of at most `limit` characters: its beginning, and the end where causes stand."""
    line = " ".join(str(text).split())
    if len(line) <= limit:
        return line
    head = limit * 2 // 3
    return f"{line[:head]} ... {line[-(limit - head - 5) :]}"
