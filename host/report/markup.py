"""HTML and SVG as text. Whatever is not marked as markup is escaped, so names from users and devices stay text."""

from __future__ import annotations

import html
from collections.abc import Iterable

#: Elements without content or an end tag in HTML.
_VOID = frozenset({"meta", "br", "hr", "link", "wbr", "input"})


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def el(tag: str, *children: str | None, **attributes: str | float | bool | None) -> Markup:
    """Return an element. Children that are plain text are escaped, None is left out.

    An underscore in a name of an attribute is a hyphen, one at its end is dropped (`class_`); True gives the bare name, None and
    False leave it out.
    """
    parts = [f"<{tag}"]
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        plain = name.rstrip("_").replace("_", "-")
        parts.append(f" {plain}" if value is True else f' {plain}="{html.escape(_text(value))}"')
    parts.append(">")
    if tag not in _VOID:
        parts.append(join(children))
        parts.append(f"</{tag}>")
    return Markup("".join(parts))


def join(children: Iterable[str | None], between: str = "") -> Markup:
    """Return several pieces as one; plain text is escaped."""
    return Markup(between.join(_child(each) for each in children if each is not None))


def _child(child: str) -> str:
    return child if isinstance(child, Markup) else html.escape(child)


def _text(value: str | float) -> str:
    # Coordinates: a hundredth of a unit is finer than any screen.
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
