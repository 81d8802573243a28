"""Charts as inline SVG: one size, one way to draw axes, colours by class so that a page can be light or dark.

Every chart has a title and a description for those who do not see it; the page puts its figures in a table beside it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from host.report.markup import Markup, el, join

#: In SVG units: about a phone's width in pixels, so that text is as large as the page's there and not smaller.
WIDTH, HEIGHT = 420.0, 290.0
LEFT, RIGHT, TOP, BOTTOM = 56.0, 14.0, 14.0, 44.0
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """`text` writes a tick's value; `low` and `high` are widened to whole ticks unless `exact`."""

    label: str
    low: float
    high: float
    text: Callable[[float], str] | None = None
    exact: bool = False
    step: float | None = None

    def ticks(self) -> list[float]:
        """Return round values that cover the axis, four to seven of them."""
        span = self.high - self.low
        step = self.step or nice_step(span)
        first = math.ceil(self.low / step - 1e-9) if self.exact else math.floor(self.low / step + 1e-9)
        last = math.floor(self.high / step + 1e-9) if self.exact else math.ceil(self.high / step - 1e-9)
        return [index * step for index in range(first, last + 1)]

    def texts(self) -> list[str]:
        """Return what stands at the ticks: as many decimals as their distance asks for."""
        values = self.ticks()
        if self.text is not None:
            return [self.text(value) for value in values]
        step = (self.step or nice_step(self.high - self.low)) / self.unit
        decimals = max(0, -math.floor(math.log10(step) + 1e-9), 0 if round(step * 10 % 1, 9) == 0 else 2)
        return [f"{value / self.unit:.{decimals}f}" for value in values]

    @property
    def unit(self) -> float:
        """What one of the ticks' numbers stands for: 1, or a power of a thousand where they would be too long to read."""
        largest = max(abs(self.low), abs(self.high))
        if not 0 < largest < 0.01:
            return 1.0
        return float(10.0 ** (3 * math.floor(math.log10(largest) / 3)))

    @property
    def name(self) -> str:
        """The label, with the unit of the ticks."""
        return self.label if self.unit == 1 else f"{self.label}, in {self.unit:.0e}"

    def bounds(self) -> tuple[float, float]:
        """Return the values at the two ends."""
        if self.exact:
            return self.low, self.high
        ticks = self.ticks()
        return ticks[0], ticks[-1]


def nice_step(span: float, most: int = 6) -> float:
    """Return a round distance that divides `span` into at most `most` parts."""
    if not span > 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    return next(power * step for step in _STEPS if span / (power * step) <= most + 1e-9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A value with its interval (None: unknown) and the words that a pointer over it shows."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    title: str = ""
    ring: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Points of one colour. `style` is a class of the page: base, accent, second or third. `line` joins the points."""

    name: str
    style: str
    points: tuple[Point, ...]
    line: bool = False
    dots: bool = True
    hollow: bool = False
    dashed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A line across the chart at one value, with its name."""

    at: float
    name: str
    vertical: bool = False


def chart(
    series: Sequence[Series],
    *,
    title: str,
    description: str,
    x: Axis,
    y: Axis,
    rules: Sequence[Rule] = (),
    identity: bool = False,
) -> Markup:
    """Return an SVG of points and lines over two axes; `identity` adds the line on which both are equal.

    The title is the chart's own on its page: ids are made of it.
    """
    scale = _Scale(x, y)
    name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    return el(
        "svg",
        el("title", title, id=f"{name}-title"),
        el("desc", description, id=f"{name}-desc"),
        *_axes(scale, x, y),
        _identity(scale) if identity else None,
        *(_rule(scale, each) for each in rules),
        *(_series(scale, each) for each in series),
        class_="chart",
        viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}",
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
    def __init__(self, x: Axis, y: Axis) -> None:
        (self._x0, self._x1), (self._y0, self._y1) = _spread(*x.bounds()), _spread(*y.bounds())

    def x(self, value: float) -> float:
        return LEFT + (value - self._x0) / (self._x1 - self._x0) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (value - self._y0) / (self._y1 - self._y0) * (HEIGHT - TOP - BOTTOM)

    @property
    def common(self) -> tuple[float, float]:
        return max(self._x0, self._y0), min(self._x1, self._y1)


def _spread(low: float, high: float) -> tuple[float, float]:
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _axes(scale: _Scale, x: Axis, y: Axis) -> list[Markup]:
    bottom = HEIGHT - BOTTOM
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
    parts.append(el("text", x.name, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 7, class_="label middle"))
    turned = f"rotate(-90 13 {middle:g})"
    parts.append(el("text", y.name, x=13.0, y=middle, transform=turned, class_="label middle"))
    return parts


def _identity(scale: _Scale) -> Markup:
    low, high = scale.common
    return el("line", x1=scale.x(low), y1=scale.y(low), x2=scale.x(high), y2=scale.y(high), class_="identity")


def _rule(scale: _Scale, rule: Rule) -> Markup:
    if rule.vertical:
        at = scale.x(rule.at)
        right = at < WIDTH * 0.75
        return join(
            [
                el("line", x1=at, x2=at, y1=TOP, y2=HEIGHT - BOTTOM, class_="rule"),
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
        path = "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y, _ in points)
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
    return el("g", *parts, class_=f"series {series.style}{' hollow' if series.hollow else ''}")
