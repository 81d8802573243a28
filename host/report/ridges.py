"""Drawings with a row per name: histograms one over the other, and pairs of bars. Names stand above their rows, for a phone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from host.report.axes import Axis
from host.report.charts import BOTTOM, RIGHT, WIDTH, drawing
from host.report.markup import Markup, el, join

_LEFT, _TOP = 8.0, 6.0
_RIDGE, _RIDGE_ROW, _BAR, _BAR_ROW = 26.0, 52.0, 6.0, 38.0
BINS = 84
#: Characters of a name that fit beside a figure.
_LONGEST = 48


@dataclass(frozen=True, slots=True, kw_only=True)
class Ridge:
    """A histogram: counts per bin of the axis, `marked` of them drawn apart on top, and lines at some values."""

    name: str
    figure: str
    counts: tuple[int, ...]
    marked: tuple[int, ...]
    lines: tuple[tuple[float, str], ...]


def counts(values: Sequence[float], axis: Axis, bins: int = BINS) -> tuple[tuple[int, ...], int]:
    """Return how many values fall into each of equal parts of the axis, and how many lie beyond its ends."""
    found = [0] * bins
    beyond = 0
    for value in values:
        at = axis.place(value) if value > 0 or not axis.log else -1.0
        if 0 <= at <= 1:
            found[min(int(at * bins), bins - 1)] += 1
        else:
            beyond += 1
    return tuple(found), beyond


def ridges(rows: Sequence[Ridge], *, axis: Axis, title: str, description: str) -> Markup:
    """Return histograms over one axis. Every row is as high as its own highest bin."""
    bottom = _TOP + len(rows) * _RIDGE_ROW + 4
    parts = _axis(axis, bottom)
    for place, row in enumerate(rows):
        floor = _TOP + (place + 1) * _RIDGE_ROW - 2
        parts += _heading(row.name, row.figure, floor - _RIDGE - 8)
        highest = max((a + b for a, b in zip(row.counts, row.marked, strict=True)), default=0) or 1
        quiet = [each / highest for each in row.counts]
        every = [(a + b) / highest for a, b in zip(row.counts, row.marked, strict=True)]
        if any(row.marked):
            parts.append(el("path", d=_outline(every, floor), class_="area second"))
        parts.append(el("path", d=_outline(quiet, floor), class_="area"))
        parts.append(el("line", x1=_LEFT, x2=WIDTH - RIGHT, y1=floor, y2=floor, class_="axis"))
        for value, style in row.lines:
            at = axis.place(value)
            if 0 <= at <= 1:
                x = _x(at)
                parts.append(el("line", x1=x, x2=x, y1=floor - _RIDGE, y2=floor + 3, class_=f"mark {style}"))
    return drawing(parts, title=title, description=description, height=bottom + BOTTOM)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Two values of one name, None where a side has none."""

    name: str
    figure: str
    before: float | None
    after: float | None


def bar_pairs(rows: Sequence[Bar], *, title: str, description: str, single: bool = False) -> Markup:
    """Return a pair of bars per row, or with `single` one, all on one scale from 0."""
    largest = max((value for row in rows for value in (row.before, row.after) if value is not None), default=0.0) or 1.0
    row_height = _BAR_ROW - (_BAR + 2 if single else 0)
    parts: list[Markup] = []
    for place, row in enumerate(rows):
        top = _TOP + place * row_height
        parts += _heading(row.name, row.figure, top + 11)
        for line, (value, style) in enumerate(((row.before, "base"), (row.after, "accent"))[: 1 if single else 2]):
            if value is not None:
                width = max(value / largest * (WIDTH - _LEFT - RIGHT), 0.8)
                y = top + 16 + line * (_BAR + 2)
                parts.append(el("rect", x=_LEFT, y=y, width=width, height=_BAR, rx=2.0, class_=f"bar {style}"))
    return drawing(parts, title=title, description=description, height=_TOP + len(rows) * row_height + 4)


def shortened(name: str, most: int = _LONGEST) -> str:
    """Return a name that fits: of a long one beginning and end."""
    half = most // 2
    return name if len(name) <= most else f"{name[: half - 1]}…{name[-half:]}"


def _heading(name: str, figure: str, y: float) -> list[Markup]:
    whole = el("title", name) if len(name) > _LONGEST else None
    return [
        el("text", join([shortened(name), whole]), x=_LEFT, y=y, class_="note start"),
        el("text", figure, x=WIDTH - RIGHT, y=y, class_="tick end"),
    ]


def _axis(axis: Axis, bottom: float) -> list[Markup]:
    parts: list[Markup] = []
    for value, text in zip(axis.ticks(), axis.texts(), strict=True):
        at = axis.place(value)
        if -1e-9 <= at <= 1 + 1e-9:
            x = _x(at)
            style = "start" if at < 0.03 else "end" if at > 0.97 else "middle"
            parts.append(el("line", x1=x, x2=x, y1=_TOP, y2=bottom, class_="grid"))
            parts.append(el("text", text, x=x, y=bottom + 15, class_=f"tick {style}"))
    parts.append(el("text", axis.name, x=(_LEFT + WIDTH - RIGHT) / 2, y=bottom + 33, class_="label middle"))
    return parts


def _outline(shares: Sequence[float], floor: float) -> str:
    """Return the path of a histogram's outline; a bin that is not empty is never too low to be seen."""
    width = (WIDTH - _LEFT - RIGHT) / len(shares)
    path = [f"M{_LEFT:g} {floor:g}"]
    last = 0.0
    for place, share in enumerate(shares):
        height = max(share * _RIDGE, 0.8) if share else 0.0
        if height != last:
            x = _LEFT + place * width
            path.append(f"L{x:.1f} {floor - last:.1f}L{x:.1f} {floor - height:.1f}")
            last = height
    path.append(f"L{WIDTH - RIGHT:g} {floor - last:.1f}L{WIDTH - RIGHT:g} {floor:g}Z")
    return "".join(path)


def _x(at: float) -> float:
    return _LEFT + at * (WIDTH - _LEFT - RIGHT)
