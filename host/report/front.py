"""What a search ranked without the device, and the front of what was possible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from host.cli import render
from host.report.charts import Axis, Point, Rule, Series, chart, legend
from host.report.markup import Markup, el
from host.report.tables import figure, folded, section, table


def ranked(search: Mapping[str, Any]) -> Markup:
    """Return a round's plans in the order in which they were asked for, with the best so far; a ring marks the one taken."""
    plans: Sequence[Mapping[str, Any]] = search["candidates"]
    best, least = [], float("inf")
    for each in plans:
        least = min(least, each["divergence"])
        best.append(Point(x=each["number"], y=least))
    points = {
        measured: tuple(
            Point(
                x=each["number"],
                y=each["divergence"],
                ring=each["taken"],
                title=f"{each['number']}, {each['origin']}: {render.number_text(each['divergence'])}",
            )
            for each in plans
            if (each["measured_ratio"] is not None) == measured
        )
        for measured in (False, True)
    }
    values = [each["divergence"] for each in plans]
    drawn = chart(
        [
            Series(name="best so far", style="base", points=tuple(best), line=True, dots=False),
            Series(name="ranked", style="base", points=points[False]),
            Series(name="measured", style="accent", points=points[True]),
        ],
        title=f"Plans ranked in {search['round']}",
        description=f"Distance of the outputs from the original's for {len(plans)} plans, lower is better; the table has the "
        "figures.",
        x=Axis(label="plan", low=-0.5, high=plans[-1]["number"] + 0.5, exact=True, step=max(1, round(len(plans) / 8))),
        y=Axis(label="distance from the original", low=0, high=max(values) * 1.06 or 1),
    )
    entries = [("accent", "then measured on the device"), ("base", "ranked only; the line is the best so far")]
    return figure(
        f"Ranked in {search['round']}, at {render.ratio_text(search['latency_ratio'])}", drawn, legend(entries)
    )


def ranking(search: Mapping[str, Any]) -> Markup:
    """Return the plans of a round as a table."""
    columns = ("plan", "from", "predicted", "distance", "validation accuracy", "measured")
    rows = [
        (
            str(each["number"]),
            each["origin"],
            render.ratio_text(each["predicted_ratio"]),
            render.number_text(each["divergence"]),
            render.percent_text(each["accuracy"]),
            render.ratio_text(each["measured_ratio"]),
        )
        for each in search["candidates"]
    ]
    marked = [place for place, each in enumerate(search["candidates"]) if each["taken"]]
    return table(columns, rows, right=columns[2:], marked=marked)


def front(record: Mapping[str, Any]) -> Markup | None:
    """Return the least loss that was possible at every latency, and where the result lies; None where nothing was weighed."""
    points: Sequence[Mapping[str, Any]] = record.get("front") or ()
    if len(points) < 2:
        return None
    taken = _result(record)
    ordered = sorted(points, key=lambda each: float(each["latency_ratio"]))
    series = [
        Series(
            name="front",
            style="base",
            line=True,
            points=tuple(
                Point(x=each["latency_ratio"], y=each["loss"], title=f"{render.ratio_text(each['latency_ratio'])}")
                for each in ordered
            ),
        )
    ]
    ratios = [each["latency_ratio"] for each in ordered] + [record["target"]["latency_ratio"]]
    losses = [each["loss"] for each in ordered]
    if taken is not None:
        series.append(
            Series(
                name="result", style="accent", points=(Point(x=taken[0], y=taken[1], ring=True, title="the result"),)
            )
        )
        ratios.append(taken[0])
        losses.append(taken[1])
    drawn = chart(
        series,
        title="Front of latency and loss",
        description=f"Least summed loss at {len(points)} latencies; the table below has the figures.",
        x=Axis(label="modelled share of the baseline's latency", low=min(ratios) * 0.97, high=max(ratios) * 1.02),
        y=Axis(label="loss on calibration images, nats", low=0, high=max(losses) * 1.05 or 1),
        rules=[Rule(at=record["target"]["latency_ratio"], name="target", vertical=True)],
    )
    entries = [("base", "least loss at that latency"), *([("accent", "the result")] if taken is not None else [])]
    columns = ("latency", "loss", "parameters", "file size", "channels kept")
    rows = [
        (
            render.ratio_text(each["latency_ratio"]),
            render.number_text(each["loss"]),
            render.count_text(each.get("parameters")),
            render.bytes_text(each.get("size_bytes")),
            str(sum(each["kept"].values())),
        )
        for each in points
    ]
    return section(
        "front",
        "What was possible",
        el(
            "p",
            f"The integer program's plans over the widths of {record['losses_round'] or 'the last round'}: no plan loses less at "
            "that latency, as far as losses of single groups add up and prices are right. Losses are from before fine-tuning.",
        ),
        el("div", figure("The front of latency and loss", drawn, legend(entries)), class_="charts"),
        folded("The front as a table", table(columns, rows, right=columns)),
    )


def _result(record: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return modelled latency and summed loss of the result, None where one of them is not known."""
    total, ratio = 0.0, None
    for group in record["groups"]:
        kept = str(group["kept"])
        if kept not in (group["losses"] or {}) or kept not in (group["latency_ratios"] or {}):
            return None
        total += group["losses"][kept]
        ratio = group["latency_ratios"][kept]
    return None if ratio is None else (ratio, total)
