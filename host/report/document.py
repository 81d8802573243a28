"""A whole HTML page: one file, nothing is loaded from anywhere."""

from __future__ import annotations

from host.report.markup import Markup, el
from host.report.style import STYLE


def document(title: str, *body: Markup, script: Markup | None = None, kind: str = "") -> str:
    """Return a whole page around `body`, with the style of all reports. What `script` does must be no more than a convenience."""
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("title", title),
        el("style", Markup(STYLE)),
    )
    scripted = None if script is None else el("script", script)
    page = el("html", head, el("body", el("div", *body, class_=f"page {kind}".strip()), scripted), lang="en")
    return f"<!doctype html>\n{page}\n"
