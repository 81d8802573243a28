"""The page of one compression, from its record alone."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from host.cli import render


def report_page(record: Mapping[str, Any]) -> str:
    """Return a self-contained HTML page."""
    before, after = record["baseline"], record["result"]
    rows = "".join(
        f"<tr><th>{name}</th><td>{old}</td><td>{new}</td></tr>"
        for name, old, new in (
            ("accuracy", render.percent_text(before["accuracy"], 2), render.percent_text(after["accuracy"], 2)),
            (
                "latency",
                render.latency_text(before["latency_ns"]["p50"]),
                render.latency_text(after["latency_ns"]["p50"]),
            ),
        )
    )
    title = html.escape(record["model"])
    return f'<!doctype html><html lang="en"><title>{title}</title><h1>{title}</h1><table>{rows}</table></html>'
