"""How the plan was found: tries in their order, the latency model against the device, and the front of what is possible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from host.cli import render
from host.report.charts import Axis, Point, Rule, Series, chart, legend
from host.report.front import ranked, ranking
from host.report.markup import Markup, el
from host.report.tables import figure, folded, section, table


def path(record: Mapping[str, Any]) -> Markup | None:
    """Return what was tried and what was taken; None where the record does not tell."""
    candidates: Sequence[Mapping[str, Any]] = record.get("candidates") or ()
    if not candidates:
        return None
    tried = [each for each in record["probes"] if each["basis"] == "before"]
    columns = ("round", "plan", "latency, measured", "accuracy before training", "taken")
    rows = [
        (
            each["round"],
            each["method"],
            render.ratio_text(each["measured_ratio"]),
            render.percent_text(each["accuracy"]),
            "taken" if each["taken"] else "",
        )
        for each in candidates
    ]
    marked = [index for index, each in enumerate(candidates) if each["taken"]]
    charts = [_accuracies(record, candidates)] if any(each["accuracy"] is not None for each in candidates) else []
    if tried:
        charts.insert(0, _tries(record, tried))
    searches = [each for each in record.get("search") or () if each["candidates"]]
    charts += [ranked(each) for each in searches]
    return section(
        "search",
        "The path of the search",
        el(
            "p",
            "Every plan was measured in turns with the baseline before anything was trained on it. The accuracy is on validation "
            "images, with batch norm recalibrated and no training yet; the best plan within the round's budget went on.",
        ),
        el("div", *charts, class_="charts"),
        folded("The candidates as a table", table(columns, rows, right=columns[2:4], marked=marked)),
        *(folded(f"All plans ranked in {each['round']} as a table", ranking(each)) for each in searches),
    )


def _tries(record: Mapping[str, Any], tried: Sequence[Mapping[str, Any]]) -> Markup:
    target = record["target"]["latency_ratio"]
    predicted, measured = [], []
    for number, each in enumerate(tried, 1):
        title = (
            f"{each['name']}: predicted {render.ratio_text(each['predicted_ratio'])}, "
            f"measured {render.ratio_text(each['measured_ratio'])}"
        )
        predicted.append(Point(x=number, y=each["predicted_ratio"], title=title))
        low, high = each["measured_interval"] or (None, None)
        measured.append(Point(x=number, y=each["measured_ratio"], low=low, high=high, title=title))
    values = [target, *(point.y for point in (*predicted, *measured))]
    drawn = chart(
        [
            Series(name="predicted", style="second", points=tuple(predicted), hollow=True),
            Series(name="measured", style="accent", points=tuple(measured)),
        ],
        title="Plans in the order in which they were tried",
        description=f"Predicted and measured latency of {len(tried)} plans as shares of the baseline's; the target is "
        f"{render.ratio_text(target)}. The figures are in the table of the latency model.",
        x=Axis(label="plan", low=0.5, high=len(tried) + 0.5, exact=True, step=max(1, len(tried) // 7)),
        y=Axis(label="share of the baseline's latency", low=min(values) * 0.96, high=max(values) * 1.02),
        rules=[Rule(at=target, name=f"target {render.ratio_text(target)}")],
    )
    return figure(
        "Plans in their order", drawn, legend([("accent", "measured"), ("hollow second", "predicted before")])
    )


def _accuracies(record: Mapping[str, Any], candidates: Sequence[Mapping[str, Any]]) -> Markup:
    target = record["target"]["latency_ratio"]
    names = list(dict.fromkeys(each["method"] for each in candidates))
    styles = dict(zip(names, ("accent", "second", "third", *["base"] * len(names)), strict=False))
    scored = [each for each in candidates if each["accuracy"] is not None]
    series = [
        Series(
            name=name,
            style=styles[name],
            points=tuple(
                Point(
                    x=each["measured_ratio"],
                    y=each["accuracy"] * 100,
                    ring=each["taken"],
                    title=f"{each['round']}, {each['method']}: {render.percent_text(each['accuracy'])}",
                )
                for each in scored
                if each["method"] == name
            ),
        )
        for name in names
    ]
    ratios = [target, *(each["measured_ratio"] for each in scored)]
    shares = [each["accuracy"] * 100 for each in scored] or [0.0, 100.0]
    drawn = chart(
        series,
        title="Candidates by latency and accuracy",
        description=f"{len(scored)} measured plans of {', '.join(names)}; the table below has the figures.",
        x=Axis(label="share of the baseline's latency, measured", low=min(ratios) * 0.97, high=max(ratios) * 1.03),
        y=Axis(label="validation accuracy, %", low=min(shares) - 1, high=min(max(shares) + 1, 100)),
        rules=[Rule(at=target, name="target", vertical=True)],
    )
    entries = [(styles[name], f"{name} plan") for name in names]
    return figure("Candidates; a ring marks those taken", drawn, legend(entries))


def model(record: Mapping[str, Any]) -> Markup | None:
    """Return predicted against measured latency of every variant that ran; None where nothing was predicted."""
    probes = [each for each in record.get("probes") or () if each["predicted_ratio"] is not None]
    if not probes:
        return None
    error = record["latency_model_error"]
    kinds = (
        ("left-out", "base", "learned from; predicted from all others"),
        ("before", "accent", "predicted before it ran"),
    )
    series = [
        Series(
            name=basis,
            style=style,
            points=tuple(
                Point(
                    x=each["predicted_ratio"],
                    y=each["measured_ratio"],
                    low=(each["measured_interval"] or [None])[0],
                    high=(each["measured_interval"] or [None])[-1],
                    title=f"{each['name']}: {_deviation(each)}",
                )
                for each in probes
                if each["basis"] == basis
            ),
        )
        for basis, style, _ in kinds
    ]
    every = [value for each in probes for value in (each["predicted_ratio"], each["measured_ratio"])]
    low, high = min(every) * 0.97, max(every) * 1.03
    drawn = chart(
        series,
        title="Predicted against measured latency",
        description=f"{len(probes)} variants of the network; on the dotted line the prediction is exact.",
        x=Axis(label="predicted, share of the baseline's latency", low=low, high=high),
        y=Axis(label="measured", low=low, high=high),
        identity=True,
    )
    words = (
        f"Each variant that the model was fitted on was also predicted from all the others: {error['count']} such predictions "
        f"are off by {render.percent_text(error['median'])} in the median and {render.percent_text(error['maximum'])} at most."
        if error
        else "There were too few variants to hold any out."
    )
    columns = ("variant", "MACs", "predicted", "measured", "off by", "predicted how")
    rows = [
        (
            each["name"],
            render.count_text(each["macs"]),
            render.ratio_text(each["predicted_ratio"]),
            render.ratio_text(each["measured_ratio"]),
            _deviation(each),
            "from all others" if each["basis"] == "left-out" else "before it ran",
        )
        for each in probes
    ]
    used = {each["basis"] for each in probes}
    key = legend([(style, text) for basis, style, text in kinds if basis in used])
    return section(
        "model",
        "Predicted against measured",
        el("p", words),
        el("div", figure("All variants that ran", drawn, key), _macs(record, probes), class_="charts"),
        folded("The variants as a table", table(columns, rows, right=columns[1:5])),
    )


def _macs(record: Mapping[str, Any], probes: Sequence[Mapping[str, Any]]) -> Markup:
    """Return what counting MACs would have said of the same variants."""
    full = sum(each["baseline"]["macs"] for each in record["layers"])
    points = [
        Point(
            x=each["macs"] / full,
            y=each["measured_ratio"],
            title=f"{each['name']}: {each['macs'] / full:.3f} of the MACs take {render.ratio_text(each['measured_ratio'])}",
        )
        for each in probes
    ]
    every = [value for point in points for value in (point.x, point.y)]
    low, high = min(every) * 0.97, max(every) * 1.03
    drawn = chart(
        [Series(name="variants", style="third", points=tuple(points))],
        title="MACs against measured latency",
        description=f"{len(points)} variants; on the dotted line latency would follow the MACs exactly.",
        x=Axis(label="share of the baseline's MACs", low=low, high=high),
        y=Axis(label="measured", low=low, high=high),
        identity=True,
    )
    return figure("The same variants by their MACs", drawn, legend([("third", "all variants")]))


def _deviation(probe: Mapping[str, Any]) -> str:
    return f"{(probe['predicted_ratio'] / probe['measured_ratio'] - 1) * 100:+.1f} %"
