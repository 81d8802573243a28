"""Where the time goes, layer by layer: baseline against compressed, from node times of one job."""

from __future__ import annotations

from dataclasses import replace

from host.cli import render
from host.report.charts import legend
from host.report.fleet.data import FleetData, LayerTimes
from host.report.markup import Markup, el
from host.report.ridges import Bar, bar_pairs
from host.report.tables import figure, folded, section, table

MOST_CHARTS, MOST_LAYERS = 6, 16


def layers(data: FleetData) -> Markup | None:
    """Return bars per layer for every job that has node times; None where none has."""
    if not data.layers:
        return None
    shown = data.layers[:MOST_CHARTS]
    left = len(data.layers) - len(shown)
    return section(
        "layers",
        "Layer by layer",
        el(
            "p",
            "Node times as the runtime's profiler has them, by layer of the baseline. They explain a latency and are none: the "
            "profiler costs time of its own." + (f" Jobs with node times left out: {left}." if left else ""),
        ),
        el("div", *(_figure(each) for each in shown), class_="charts"),
        *(folded(f"All layers of {_caption(each)} as a table", _table(each)) for each in shown),
    )


def _caption(each: LayerTimes) -> str:
    against = f" against {each.compressed}" if each.compressed is not None else ""
    return f"{each.baseline}{against} on {each.device} (measurement {each.measurement_id})"


def _figure(each: LayerTimes) -> Markup:
    ordered = sorted(each.layers, key=lambda row: -max(row[1] or 0.0, row[2] or 0.0))
    shown, others = ordered[:MOST_LAYERS], ordered[MOST_LAYERS:]
    single = each.compressed is None
    rows = [_bar(name, before, after, single) for name, before, after in shown]
    if others:
        before, after = (
            sum(value or 0.0 for value in column) for column in ([row[1] for row in others], [row[2] for row in others])
        )
        rest = _bar(f"{len(others)} other layers", before, None if single else after, single)
        # Their sum may be longer than any single bar, so it is given in words alone.
        rows.append(replace(rest, before=None, after=None))
    drawn = bar_pairs(
        rows,
        title=f"Layers of {_caption(each)}",
        description=f"Times of {len(shown)} of {len(each.layers)} layers, the longest first; the table below has all.",
        single=single,
    )
    entries = [("base square", each.baseline)]
    if each.compressed is not None:
        entries.append(("square", each.compressed))
    return figure(_caption(each), drawn, legend(entries))


def _bar(name: str, before: float | None, after: float | None, single: bool) -> Bar:
    like = max(before or 0.0, after or 0.0) or None
    text = render.latency_text(before, like_ns=like)
    if not single:
        text = f"{text} → {render.latency_text(after, like_ns=like)}"
    return Bar(name=name, figure=text, before=before, after=after)


def _table(each: LayerTimes) -> Markup:
    compared = each.compressed is not None
    columns = ("layer", each.baseline, *((f"{each.compressed} (compressed)", "ratio") if compared else ()))
    rows = []
    for name, before, after in each.layers:
        ratio = render.DASH if before is None or after is None else render.ratio_text(after / before)
        compressed = (render.latency_text(after), ratio) if compared else ()
        rows.append((name, render.latency_text(before), *compressed))
    return table(columns, rows, right=columns[1:])
