"""Where a key stands in a TOML file: the standard library's reader does not say."""

from __future__ import annotations

import re

_HEADER = re.compile(r"\s*(\[\[?)\s*([A-Za-z0-9_.\"'-]+)\s*\]\]?\s*(?:#.*)?")


def line_of(text: str, table: str, key: str | None = None, *, number: int = 0) -> int | None:
    """Return the line, from 1, of a key in a table (`` is the top), or of the table's header; None where it is not found.

    `number` counts the tables of an array, such as the second [[exclude]], from 0. What a string over several lines says may be
    taken for a key.
    """
    current = ""
    seen: dict[str, int] = {}
    wanted = None if key is None else re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*(?:=|\.)")
    for place, line in enumerate(text.splitlines(), start=1):
        header = _HEADER.fullmatch(line)
        if header is not None:
            current = header[2].strip("\"'")
            seen[current] = seen.get(current, -1) + 1
            here = current == table and seen[current] == number
            if here and wanted is None:
                return place
            continue
        here = current == table and (table == "" or seen[current] == number)
        if here and wanted is not None and wanted.match(line):
            return place
    return None
