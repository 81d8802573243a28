"""How the latencies of single runs are distributed, per artifact, one device and setting over the other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from device_agent.contract.statistics import percentile
from host.cli import render
from host.report.axes import Axis
from host.report.charts import legend
from host.report.fleet.data import FleetData, Spread, artifact_names
from host.report.markup import Markup, el
from host.report.ridges import Ridge, counts, ridges
from host.report.tables import figure, folded, section, table

#: Charts on a page, and rows in one.
MOST_CHARTS, MOST_ROWS = 12, 14
#: What lies beyond is counted and not drawn: one run of a thousand would flatten all others.
_EDGE = 99.5
#: Percent above the median: one device that is often interrupted would flatten all others.
_FARTHEST = 120.0


def distributions(data: FleetData) -> Markup | None:
    """Return the histograms of all artifacts; None where no raw samples are there."""
    if not data.spreads:
        return None
    names = artifact_names(data)
    by_artifact: dict[str, list[Spread]] = defaultdict(list)
    for spread in data.spreads:
        by_artifact[spread.setup.artifact].append(spread)
    ordered = sorted(by_artifact.items(), key=lambda row: (-len(row[1]), names[row[0]]))
    shown = ordered[:MOST_CHARTS]
    rows = [row for sha, spreads in shown for row in _rows(names[sha], spreads[:MOST_ROWS])]
    left = len(data.spreads) - len(rows)
    more = f" Shown are {len(rows)} of {len(data.spreads)}, of the artifacts with most results." if left else ""
    columns = (
        "artifact",
        "device",
        "runtime and settings",
        "runs",
        "not interrupted",
        "p1",
        "p25",
        "p50",
        "p75",
        "p99",
    )
    return section(
        "distributions",
        "Latency of single runs",
        el(
            "p",
            "The newest measurement of each device and setting. A second hump is a clock that flips or a neighbour that comes "
            "and goes; runs that the kernel interrupted are drawn apart (of runs longer than a time slice "
            "the kernel's marks tell nothing). Figures are medians; each row has its own height." + more,
        ),
        el("div", *(_figure(names[sha], spreads[:MOST_ROWS]) for sha, spreads in shown), class_="charts"),
        folded("The distributions as a table", table(columns, rows, right=columns[3:])),
    )


def _figure(name: str, spreads: Sequence[Spread]) -> Markup:
    axis = _axis(spreads)
    rows, beyond, disturbed = [], 0, False
    for spread in spreads:
        p50, p99 = (percentile(spread.latencies_ns, at) for at in (50, 99))
        pairs = list(zip(_over(spread.latencies_ns, p50), spread.disturbed, strict=True))
        quiet, marked = [value for value, bad in pairs if not bad], [value for value, bad in pairs if bad]
        (low, outside), (top, more) = counts(quiet, axis), counts(marked, axis)
        beyond += outside + more
        disturbed = disturbed or bool(marked)
        rows.append(
            Ridge(
                name=f"{spread.setup.device}, {spread.setup.how}",
                figure=render.latency_text(p50),
                counts=low,
                marked=top,
                lines=((0.0, ""), (_over([p99], p50)[0], "far")),
            )
        )
    total = sum(len(each.latencies_ns) for each in spreads)
    drawn = ridges(
        rows,
        axis=axis,
        title=f"Latency of single runs of {name}",
        description=f"Histograms of {total} runs on {len(spreads)} devices or settings; the table below has their percentiles.",
    )
    entries = [("square", "undisturbed runs"), *([("square second", "interrupted runs")] if disturbed else [])]
    entries += [("stroke", "median"), ("stroke far", "p99")]
    key = legend(entries)
    if beyond:
        key = el(
            "div",
            key,
            el(
                "p",
                "One run lies beyond the edges." if beyond == 1 else f"{beyond:,} runs lie beyond the edges.",
                class_="muted small",
            ),
        )
    return figure(name, drawn, key)


def _beyond(count: int) -> str:
    return "One run lies beyond the edges." if count == 1 else f"{count:,} runs lie beyond the edges."


def _over(latencies_ns: Sequence[float], median_ns: float) -> list[float]:
    """Return how far latencies lie from the median, in percent of it: so fast and slow devices fit one axis."""
    return [(value / median_ns - 1) * 100 for value in latencies_ns]


def _axis(spreads: Sequence[Spread]) -> Axis:
    ends = []
    for each in spreads:
        p50, edge = (percentile(each.latencies_ns, at) for at in (50, _EDGE))
        ends += _over([min(each.latencies_ns), edge], p50)
    low, high = max(min(ends), -100.0), min(max(ends), _FARTHEST)
    room = (high - low) * 0.04 or 0.5
    return Axis(
        label="away from the row's median, %",
        low=low - room,
        high=high + room,
        exact=True,
        text=lambda value: f"{value:+.4g}" if value else "0",
    )


def _rows(name: str, spreads: Sequence[Spread]) -> list[tuple[str, ...]]:
    rows = []
    for each in spreads:
        middle = percentile(each.latencies_ns, 50)
        rows.append(
            (
                name,
                each.setup.device,
                each.setup.how,
                f"{len(each.latencies_ns):,}",
                f"{len(each.disturbed) - sum(each.disturbed):,}",
                *(render.latency_text(percentile(each.latencies_ns, at), like_ns=middle) for at in (1, 25, 50, 75, 99)),
            )
        )
    return rows
