"""A whole HTML page: one file, nothing is loaded from anywhere."""

from __future__ import annotations

from host.report.markup import Markup, el
from host.report.style import STYLE


def document(title: str, *body: Markup, script: Markup | None = None, source: str | None = None, kind: str = "") -> str:
    """Return a whole page around `body`, with the style of all reports. What `script` does, and the script at the path
    `source`, must be no more than a convenience. `kind` is a class of the page."""
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("title", title),
        el("style", Markup(STYLE)),
    )
    scripted = None if script is None else el("script", script)
    if source is not None:
        scripted = el("script", src=source)
    page = el("html", head, el("body", el("div", *body, class_=f"page {kind}".strip()), scripted), lang="en")
    return f"<!doctype html>\n{page}\n"
