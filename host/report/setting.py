"""What the figures rest on: the widths that the device likes, precisions that were tried, environment, verdicts and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from host.cli import render
from host.report.markup import Markup, el
from host.report.tables import facts, section, table


def granularity(record: Mapping[str, Any]) -> Markup | None:
    """Return which multiples are fast and what others cost; None where the device was not asked."""
    steps = (record.get("granularity") or {}).get("steps")
    if not steps:
        return None
    columns = ("layers", "width", "fast at multiples of", "multiples of 4", "of 2", "any other")
    rows = []
    for step in steps:
        off = {int(divisor): cost for divisor, cost in step["over_next"].items()}
        costs = [
            render.ratio_text(off[divisor]) if divisor in off and divisor < step["multiple"] else render.DASH
            for divisor in (4, 2, 1)
        ]
        multiple = str(step["multiple"]) + ("" if step["decided"] else " (too noisy for finer)")
        rows.append((step["kind"], step["role"], "1, any" if step["multiple"] == 1 else multiple, *costs))
    return section(
        "granularity",
        "Widths that the device runs fast",
        el(
            "p",
            "Before it planned, Boardfit asked the device with layers of neighbouring widths. A figure is the latency of a width "
            "over that of the next larger fast one: from 1.000x on, narrower gains nothing. Plans use fast widths only.",
        ),
        table(columns, rows, right=columns[2:]),
    )


def resolution(record: Mapping[str, Any]) -> Markup | None:
    """Return what each input resolution would have come to; None where there was no choice."""
    found = record.get("resolution")
    if not found:
        return None
    columns = ("images", "whole network", "plan predicted", "divergence, nats", "MACs of the plan", "outcome")
    rows = [
        (
            render.pixels_text(each["size"]),
            render.ratio_text(each["full_ratio"]),
            render.ratio_text(each["predicted_ratio"]),
            render.number_text(each["divergence"]),
            render.count_text(each["macs"]),
            each["reason"] or ("taken" if each["taken"] else "further from the original"),
        )
        for each in found["tried"]
    ]
    return section(
        "resolution",
        "Input resolution",
        el(
            "p",
            "The device priced the network at each size, and the best plan for the target was ranked before training by how far "
            "its answers are from the original's, which saw the images whole. Latencies are over the baseline's.",
        ),
        table(columns, rows, right=columns[1:5]),
    )


def precision(record: Mapping[str, Any]) -> Markup | None:
    """Return which precisions were tried, of the baseline before planning and of the result, and why one was taken or not."""
    found, pricing = record.get("precision"), record.get("pricing")
    if not found:
        return None
    words = f"The result is {found['chosen']}" + (f", since {found['reason']}. " if found["reason"] else ". ")
    accuracy = found["float_validation_accuracy"]
    if accuracy is not None:
        words += (
            f"Times are of runs in turns, over the float32 result's; that one has {render.percent_text(accuracy, 2)} on "
            f"{found['validation_images']:,} validation images."
        )
    return section(
        "precision",
        "Precision",
        el("p", words),
        _tried(found["tried"]) if found["tried"] else el("p", "No other precision of the result was tried."),
        *_pricing(pricing),
    )


def _pricing(pricing: Mapping[str, Any] | None) -> list[Markup]:
    """Return what was asked of the baseline, before anything was planned."""
    if not pricing or not (pricing["tried"] or pricing["reason"]):
        return []
    words = f"The plan was made in {pricing['precision']}" + (f": {pricing['reason']}." if pricing["reason"] else ".")
    macs = pricing["macs_at_target"]
    if macs and None not in macs.values():
        kept = " and ".join(f"{render.count_text(count)} in {name}" for name, count in macs.items())
        words += f" The uniform plan that meets the target has {kept} MACs."
    made = [el("h3", "The baseline, before planning", class_="apart"), el("p", words)]
    return [*made, _tried(pricing["tried"])] if pricing["tried"] else made


def _tried(tried: Sequence[Mapping[str, Any]]) -> Markup:
    columns = ("precision", "types and calibration", "time", "validation accuracy", "size", "outcome")
    rows = []
    for each in tried:
        time = render.ratio_text(each["ratio_to_float"])
        if each.get("ratio_interval"):
            time += f" {render.interval_text(*each['ratio_interval'])}"
        outcome = "taken" if each["taken"] else "not taken"
        rows.append(
            (
                each["precision"],
                ", ".join(part for part in (each["types"], each["calibration"]) if part) or render.DASH,
                time,
                render.percent_text(each["validation_accuracy"], 2),
                render.bytes_text(each["size_bytes"]),
                f"{outcome}: {each['reason']}" if each["reason"] else outcome,
            )
        )
    return table(columns, rows, right=columns[2:5], marked=[place for place, each in enumerate(tried) if each["taken"]])


def environment(record: Mapping[str, Any]) -> Markup:
    """Return what the figures belong to, and how far the device vouches for them."""
    device, runtime = record["device"], record["runtime"]
    rows = [
        ("Device", f"{device['name']}: {device['board']}, {device['cpu']}, {device['cores']} cores"),
        ("Profile", render.text_or_dash(device["profile"])),
        ("Governor", render.text_or_dash(device["governor"])),
        (
            "Runtime",
            f"{runtime['name']} {render.text_or_dash(runtime['version'])}"
            f"{', ' + runtime['provider'] if runtime['provider'] else ''}, {record['threads']} threads",
        ),
        (
            "Method",
            f"{record['method']}, criterion {record['criterion']}, {record['epochs']} epochs, seed {record['seed']}",
        ),
    ]
    host = record.get("host")
    if host:
        rows.append(
            (
                "Host",
                f"Boardfit {host['boardfit']}, Python {host['python']}, {host['operating_system']}, {host['cores']} cores",
            )
        )
    check = record["output_check"]
    rows.append(
        (
            "Outputs",
            f"the device's differ from PyTorch's by {check['max_error']:.2g} at most, top-1 agrees for "
            f"{render.percent_text(check['top1_agreement'])}",
        )
    )
    verdicts = []
    for side, name in (("baseline", "baseline"), ("result", "result")):
        for each in record[side]["verdict"]:
            figure = (
                "" if each["value"] is None else f"{render.number_text(each['value'])} {each['unit'] or ''}".strip()
            )
            hint = each["hint"] or "nothing to remark"
            verdicts.append((name, each["code"], figure or render.DASH, hint))
    return section(
        "environment",
        "Environment and verdicts",
        facts(rows),
        el("h3", "What the measurements say of themselves", class_="apart"),
        table(("measurement", "verdict", "figure", "remark"), verdicts),
    )


def files(record: Mapping[str, Any]) -> Markup:
    """Return the files of the folder, as links beside the page."""
    items = [
        el("li", el("a", PurePath(path).name, href=PurePath(path).name), f" ({name.replace('_', ' ')})")
        for name, path in record["artifacts"].items()
        if name != "report"
    ]
    return section(
        "files",
        "Files",
        el("p", "Beside this page. The manifest has hashes, tensors, reference inputs and outputs."),
        el("ul", *items, class_="plain"),
    )
