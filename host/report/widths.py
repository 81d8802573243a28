"""Baseline against compressed, layer by layer, and why each width is as it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from host.cli import render
from host.compress.explain import explain
from host.report.markup import Markup, el, join
from host.report.tables import bars, breakable, folded, kept_bar, section, table


def layers(record: Mapping[str, Any]) -> Markup:
    """Return widths and times of all layers; of older records the widths of the groups."""
    rows = record.get("layers")
    if not rows:
        columns = ("group", "channels", "kept")
        plain = [(name, str(each["channels"]), str(each["kept"])) for name, each in record["plan"].items()]
        return section("layers", "Widths", table(columns, plain, right=columns[1:]))
    key = "share" if all(each["baseline"]["share"] is not None for each in rows) else "modelled_share"
    timed = all(each["baseline"][key] is not None for each in rows)
    longest = max(each["baseline"][key] for each in rows) if timed else 0.0
    how = (
        "node times from the runtime's profile, as shares of the baseline's"
        if key == "share"
        else "shares of the baseline's latency as the latency model has them, for want of a profile"
    )
    head = el(
        "tr",
        el("th", "layer", scope="col", class_="c-name"),
        el("th", "kind", scope="col", class_="c-kind"),
        el("th", "channels out", scope="col"),
        el("th", "time", scope="col") if timed else None,
    )
    body = [_layer(each, key if timed else None, longest) for each in rows]
    return section(
        "layers",
        "Layer by layer",
        el(
            "p",
            "Grey is the baseline, the colour is the result. ",
            f"Times are {how}." if timed else "The record has no times of layers.",
        ),
        el("table", el("thead", head), el("tbody", *body), class_="layers"),
    )


def _layer(layer: Mapping[str, Any], key: str | None, longest: float) -> Markup:
    before, after = layer["baseline"], layer["result"]
    old, new = before["output_width"], after["output_width"]
    cells = [
        el("th", breakable(layer["name"]), scope="row", class_="c-name"),
        el("td", layer["kind"], class_="muted c-kind"),
        el("td", _pair(kept_bar(new / old), str(old) if old == new else f"{old} → {new}")),
    ]
    if key is not None:
        share, now = before[key], after[key]
        text = render.percent_text(share)[:-2]
        cells.append(el("td", _pair(bars(share, now or 0.0, longest), f"{text} → {render.percent_text(now)}")))
    return el("tr", *cells)


def _pair(bar: Markup, text: str) -> Markup:
    return el("div", bar, el("span", text), class_="pair")


def reasons(record: Mapping[str, Any]) -> Markup:
    """Return the explanation in words."""
    found = explain(record)
    groups = el(
        "dl",
        *(join([el("dt", breakable(each.name)), el("dd", _sentences(each.text))]) for each in found.groups),
        class_="why",
    )
    alone = el(
        "ul",
        *(el("li", breakable(each.name), " was left alone: ", each.text) for each in found.left_alone),
        class_="plain",
    )
    return section(
        "why",
        "Why each layer has its width",
        el("ul", *(el("li", _sentences(each)) for each in found.budgets), class_="plain"),
        folded(f"All {len(found.groups)} groups", groups) if found.groups else None,
        alone if found.left_alone else None,
    )


def _sentences(text: str) -> str:
    return ". ".join(f"{each[:1].upper()}{each[1:]}" for each in text.split("; ")) + "."
