"""Charts as inline SVG: one size, one way to draw axes, colours by class so that a page can be light or dark.

Every chart has a title and a description for those who do not see it; the page puts its figures in a table beside it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from host.report.axes import Axis as Axis
from host.report.axes import nice_step as nice_step
from host.report.markup import Markup, el, join

#: In SVG units: about a phone's width in pixels, so that text is as large as the page's there and not smaller.
WIDTH, HEIGHT = 420.0, 290.0
LEFT, RIGHT, TOP, BOTTOM = 56.0, 14.0, 14.0, 44.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A value with its interval (None: unknown), the words that a pointer over it shows, and those that stand beside it."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    title: str = ""
    ring: bool = False
    label: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Points of one colour. `style` is a class of the page: base, accent, second or third. `line` joins the points, `stairs` by
    way of corners: a value holds until the next point."""

    name: str
    style: str
    points: tuple[Point, ...]
    line: bool = False
    dots: bool = True
    hollow: bool = False
    dashed: bool = False
    stairs: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A line across the chart at one value, with its name."""

    at: float
    name: str
    vertical: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """A stretch of the horizontal axis that is shaded, with its name."""

    low: float
    high: float
    name: str = ""


def chart(
    series: Sequence[Series],
    *,
    title: str,
    description: str,
    x: Axis,
    y: Axis,
    rules: Sequence[Rule] = (),
    bands: Sequence[Band] = (),
    identity: bool = False,
    height: float = HEIGHT,
) -> Markup:
    """Return an SVG of points and lines over two axes; `identity` adds the line on which both are equal.

    The title is the chart's own on its page: ids are made of it.
    """
    scale = _Scale(x, y, height)
    return drawing(
        [
            *(_band(scale, each) for each in bands),
            *_axes(scale, x, y),
            *([_identity(scale)] if identity else []),
            *(_rule(scale, each) for each in rules),
            *(_series(scale, each) for each in series),
        ],
        title=title,
        description=description,
        height=height,
    )


def drawing(parts: Sequence[Markup], *, title: str, description: str, height: float) -> Markup:
    """Return an SVG of the charts' width around its parts, with what it tells those who do not see it."""
    name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    return el(
        "svg",
        el("title", title, id=f"{name}-title"),
        el("desc", description, id=f"{name}-desc"),
        *parts,
        class_="chart",
        viewBox=f"0 0 {WIDTH:g} {height:g}",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
    )


def legend(entries: Sequence[tuple[str, str]]) -> Markup:
    """Return names with the colours of their classes: (class, name)."""
    return el(
        "ul",
        *(el("li", el("span", class_=f"key {style}", aria_hidden="true"), name) for style, name in entries),
        class_="legend",
    )


class _Scale:
    def __init__(self, x: Axis, y: Axis, height: float) -> None:
        self._x, self._y = x, y
        self.bottom = height - BOTTOM
        self.height = height

    def x(self, value: float) -> float:
        return LEFT + self._x.place(value) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return self.bottom - self._y.place(value) * (self.bottom - TOP)

    @property
    def common(self) -> tuple[float, float]:
        (x0, x1), (y0, y1) = self._x.bounds(), self._y.bounds()
        return max(x0, y0), min(x1, y1)


def _axes(scale: _Scale, x: Axis, y: Axis) -> list[Markup]:
    bottom = scale.bottom
    parts = []
    for value, text in zip(y.ticks(), y.texts(), strict=True):
        at = scale.y(value)
        parts.append(el("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, class_="grid"))
        parts.append(el("text", text, x=LEFT - 7, y=at + 4, class_="tick end"))
    for value, text in zip(x.ticks(), x.texts(), strict=True):
        at = scale.x(value)
        parts.append(el("line", x1=at, x2=at, y1=bottom, y2=bottom + 4, class_="axis"))
        parts.append(el("text", text, x=at, y=bottom + 17, class_="tick middle"))
    parts.append(el("line", x1=LEFT, x2=WIDTH - RIGHT, y1=bottom, y2=bottom, class_="axis"))
    middle = (TOP + bottom) / 2
    parts.append(el("text", x.name, x=(LEFT + WIDTH - RIGHT) / 2, y=scale.height - 7, class_="label middle"))
    turned = f"rotate(-90 13 {middle:g})"
    parts.append(el("text", y.name, x=13.0, y=middle, transform=turned, class_="label middle"))
    return parts


def _identity(scale: _Scale) -> Markup:
    low, high = scale.common
    return el("line", x1=scale.x(low), y1=scale.y(low), x2=scale.x(high), y2=scale.y(high), class_="identity")


def _band(scale: _Scale, band: Band) -> Markup:
    low, high = scale.x(band.low), scale.x(band.high)
    name = el("text", band.name, x=low + 4, y=TOP + 11, class_="note start") if band.name else None
    return join([el("rect", x=low, y=TOP, width=max(high - low, 1.0), height=scale.bottom - TOP, class_="band"), name])


def _rule(scale: _Scale, rule: Rule) -> Markup:
    if rule.vertical:
        at = scale.x(rule.at)
        right = at < WIDTH * 0.75
        return join(
            [
                el("line", x1=at, x2=at, y1=TOP, y2=scale.bottom, class_="rule"),
                el(
                    "text",
                    rule.name,
                    x=at + (4 if right else -4),
                    y=TOP + 9,
                    class_=f"note {'start' if right else 'end'}",
                ),
            ]
        )
    at = scale.y(rule.at)
    return join(
        [
            el("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, class_="rule"),
            el("text", rule.name, x=WIDTH - RIGHT - 2, y=at - 4, class_="note end"),
        ]
    )


def _series(scale: _Scale, series: Series) -> Markup:
    parts: list[Markup] = []
    points = [(scale.x(each.x), scale.y(each.y), each) for each in series.points]
    if series.line and len(points) > 1:
        path = _path([(x, y) for x, y, _ in points], stairs=series.stairs)
        parts.append(el("path", d=path, class_=f"line {'dashed' if series.dashed else ''}".strip()))
    for x, y, point in points:
        if point.low is not None and point.high is not None:
            parts.append(el("line", x1=x, x2=x, y1=scale.y(point.low), y2=scale.y(point.high), class_="whisker"))
        if point.ring:
            parts.append(el("circle", cx=x, cy=y, r=7.5, class_="ring"))
        if series.dots:
            parts.append(
                el("circle", el("title", point.title) if point.title else None, cx=x, cy=y, r=3.6, class_="dot")
            )
        if point.label:
            right = x < WIDTH * 0.62
            style = f"note {'start' if right else 'end'}"
            parts.append(el("text", point.label, x=x + (7.0 if right else -7.0), y=y - 6, class_=style))
    return el("g", *parts, class_=f"series {series.style}{' hollow' if series.hollow else ''}")


def _path(points: Sequence[tuple[float, float]], *, stairs: bool) -> str:
    corners: list[tuple[float, float]] = []
    for x, y in points:
        if stairs and corners:
            corners.append((x, corners[-1][1]))
        corners.append((x, y))
    return "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in corners)
