"""Repeats over time: whether a device still gives the latency that it gave before."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from host.cli import render
from host.report.axes import date_axis, spread_axis, time_unit
from host.report.charts import Point, Rule, Series, chart, legend
from host.report.fleet.data import Cell, Change, FleetData, artifact_names, cells
from host.report.markup import Markup, el
from host.report.tables import figure, folded, section, table

MOST_CHARTS, FEWEST = 12, 3
#: Colours of a chart: more settings than these are left to the table.
STYLES = ("accent", "second", "third", "base")
#: Points of one line; of more, every so manieth is drawn.
_MOST_POINTS = 300


def repeats(data: FleetData) -> Markup | None:
    """Return a chart per artifact and device with at least FEWEST results of one setup, the restless ones first."""
    names = artifact_names(data)
    found: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in cells(data):
        if len(cell.results) >= FEWEST:
            found[(names[cell.setup.artifact], cell.setup.device)].append(cell)
    if not found:
        return None
    ordered = sorted(found.items(), key=lambda row: (-_restless(row[1]), row[0]))
    shown = ordered[:MOST_CHARTS]
    left = len(ordered) - len(shown)
    columns = ("artifact", "device", "runtime and settings", "repeats", "first p50", "last p50", "smallest", "largest")
    rows = [_row(name, device, cell) for (name, device), members in shown for cell in members]
    words = "The median latency of each repeat. A line joins results of one environment only; a hollow point was not stable."
    if data.changes:
        words += " A dashed line marks a change of level that is more than noise."
    if left:
        words += f" Shown are the {len(shown)} that moved most; {left} more are in the summary."
    return section(
        "repeats",
        "Over time",
        el("p", words),
        el("div", *(_figure(*key, members, data.changes) for key, members in shown), class_="charts"),
        folded("The repeats as a table", table(columns, rows, right=columns[3:])),
    )


def _restless(members: Sequence[Cell]) -> float:
    """Return how far the repeats lie apart, of the setup in which it is farthest, as a share."""
    return max((each.range_ns[1] - each.range_ns[0]) / each.p50_ns for each in members)


def _figure(name: str, device: str, members: Sequence[Cell], changes: Sequence[Change]) -> Markup:
    shown = sorted(members, key=lambda each: -len(each.results))[: len(STYLES)]
    unit, scale = time_unit(max(each.p50_ns for each in shown))
    series: list[Series] = []
    for cell, style in zip(shown, STYLES, strict=False):
        every = cell.results[:: -(-len(cell.results) // _MOST_POINTS)]
        line = tuple(Point(x=each.created_at.timestamp(), y=each.p50_ns / scale) for each in every)
        series.append(Series(name=cell.setup.how, style=style, points=line, line=True, dots=False))
        for hollow in (False, True):
            points = tuple(
                Point(
                    x=each.created_at.timestamp(),
                    y=each.p50_ns / scale,
                    title=f"{each.created_at:%Y-%m-%d %H:%M} UTC: {render.latency_text(each.p50_ns)}",
                )
                for each in every
                if each.stable != hollow
            )
            series.append(Series(name=cell.setup.how, style=style, points=points, hollow=hollow))
    moments = [result.created_at for cell in shown for result in cell.results]
    marks = [
        Rule(at=change.at.timestamp(), name=f"{change.ratio - 1:+.1%}".replace("%", " %"), vertical=True)
        for change in changes
        if change.setup in {cell.setup for cell in shown}
    ]
    caption = f"{name} on {device}"
    drawn = chart(
        series,
        title=f"Latency over time of {caption}",
        description=f"Median latency of {len(moments)} results from {min(moments):%Y-%m-%d} to {max(moments):%Y-%m-%d}; the "
        "table below sums them up.",
        x=date_axis(min(moments), max(moments)),
        y=spread_axis(f"p50, {unit}", [each.p50_ns / scale for cell in shown for each in cell.results]),
        rules=marks,
    )
    entries = [(style, cell.setup.how) for cell, style in zip(shown, STYLES, strict=False)]
    return figure(caption, drawn, legend(entries))


def _row(name: str, device: str, cell: Cell) -> tuple[str, ...]:
    low, high = cell.range_ns
    like = cell.p50_ns
    figures = (cell.results[0].p50_ns, cell.results[-1].p50_ns, low, high)
    return (
        name,
        device,
        cell.setup.how,
        str(len(cell.results)),
        *(render.latency_text(each, like_ns=like) for each in figures),
    )
