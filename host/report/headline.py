"""The top of a report: what was compressed where, whether the target is met, and the figures before and after."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from host.cli import render
from host.report.markup import Markup, el
from host.report.tables import bars, section, table


def head(record: Mapping[str, Any]) -> Markup:
    """Return title, verdict and the four figures that matter."""
    device, runtime = record["device"], record["runtime"]
    threads = f"{record['threads']} thread{'s' if record['threads'] > 1 else ''}"
    created = record.get("created_at")
    where = f"{device['name']} ({device['board']}, {device['cpu']})"
    return el(
        "header",
        el("p", "Boardfit compression report", f", {created[:10]}" if created else "", class_="eyebrow"),
        el("h1", record["model"], " on ", device["name"]),
        el(
            "p",
            f"Measured on {where} with {runtime['name']} {render.text_or_dash(runtime['version'])}, {threads}. Data: "
            f"{record['data']}.",
            class_="lead",
        ),
        _verdict(record),
        _tiles(record),
    )


def _verdict(record: Mapping[str, Any]) -> Markup:
    target, result = record["target"], record["result"]
    at = percentile(record)
    wanted = f"{render.ratio_text(target['latency_ratio'])} of the baseline's {'' if at == 50 else f'p{at} '}latency"
    if target["latency_ns"] is not None:
        wanted += f" ({render.latency_text(target['latency_ns'])})"
    if record["met"]:
        used = render.percent_text(result["latency_ratio"] / target["latency_ratio"])
        more = f" {_sentence(record['reason'])}" if record["reason"] else ""
        return el(
            "p", el("b", "Target met."), f" Asked for {wanted}; measured {used} of that.{more}", class_="verdict met"
        )
    return el(
        "p", el("b", "Target not met."), f" Asked for {wanted}. {_sentence(record['reason'])}", class_="verdict unmet"
    )


def percentile(record: Mapping[str, Any]) -> int:
    """Return which percentile of the latency the target is about."""
    return int(record["target"].get("percentile") or 50)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _tiles(record: Mapping[str, Any]) -> Markup:
    before, after = record["baseline"], record["result"]
    ratio = f"paired {render.ratio_text(after['latency_ratio'])}"
    interval = after["latency_ratio_interval"]
    if interval is not None:
        ratio += f" {render.interval_text(*interval)}"
    at = percentile(record)
    old, new = before["latency_ns"][f"p{at}"], after["latency_ns"][f"p{at}"]
    memory = [before["peak_memory_bytes"], after["peak_memory_bytes"]]
    return el(
        "ul",
        _tile(
            "Latency, median" if at == 50 else f"Latency, p{at}",
            render.latency_text(new, like_ns=old),
            render.latency_text(old),
            ratio,
            (old, new),
        ),
        _tile(
            f"Accuracy, {after['test_images']:,} test images",
            render.percent_text(after["accuracy"], 2),
            render.percent_text(before["accuracy"], 2),
            render.points_text(after["accuracy"] - before["accuracy"]),
            (before["accuracy"], after["accuracy"]),
        ),
        _tile(
            "Peak memory",
            render.bytes_text(memory[1]),
            render.bytes_text(memory[0]),
            _ratio(*memory),
            None if None in memory else (memory[0], memory[1]),
        ),
        _tile(
            "File size",
            render.bytes_text(after["size_bytes"]),
            render.bytes_text(before["size_bytes"]),
            _ratio(before["size_bytes"], after["size_bytes"]),
            (before["size_bytes"], after["size_bytes"]),
        ),
        class_="tiles",
    )


def _tile(name: str, value: str, former: str, change: str, pair: tuple[float, float] | None) -> Markup:
    return el(
        "li",
        el("p", name, class_="name"),
        el("p", value, class_="big"),
        el("p", f"from {former}", class_="from"),
        None if pair is None else bars(pair[0], pair[1], max(pair)),
        el("p", change, class_="change"),
        class_="tile",
    )


def _ratio(before: float | None, after: float | None) -> str:
    return render.DASH if before is None or after is None else render.ratio_text(after / before)


def figures(record: Mapping[str, Any]) -> Markup:
    """Return all figures of both sides."""
    before, after = record["baseline"], record["result"]
    rows = [
        (
            "accuracy",
            render.percent_text(before["accuracy"], 2),
            render.percent_text(after["accuracy"], 2),
            render.points_text(after["accuracy"] - before["accuracy"]),
        )
    ]
    like = before["latency_ns"]["p99"]
    for name in ("p50", "p90", "p99", "min", "mean"):
        old, new = before["latency_ns"][name], after["latency_ns"][name]
        rows.append(
            (
                f"latency, {name}",
                render.latency_text(old, like_ns=like),
                render.latency_text(new, like_ns=like),
                _ratio(old, new),
            )
        )
    for label, key, text in (
        ("peak memory above the runtime", "peak_memory_bytes", render.bytes_text),
        ("file size", "size_bytes", render.bytes_text),
        ("parameters", "parameters", render.count_text),
        ("MACs", "macs", render.count_text),
    ):
        rows.append((label, text(before[key]), text(after[key]), _ratio(before[key], after[key])))
    if record.get("resolution"):
        old, new = (render.pixels_text(side["input_shape"][1:]) for side in (before, after))
        rows.append(("images", old, new, ""))
    energy = record.get("energy")
    if energy:
        first, last = (render.energy_text(energy[key]) for key in ("baseline_j", "result_j"))
        rows.append(("energy per run", first, last, render.ratio_text(energy["ratio"])))
    columns = ("", "baseline", "compressed", "change")
    return section(
        "figures",
        "Before and after",
        el(
            "p",
            f"Latencies are of runs in turns with the baseline in one process. The paired ratio, {_paired(after)}, is what the "
            "target is held against: drift and neighbours hit both sides alike. The ratios below are of the two columns.",
        ),
        table(columns, rows, right=columns[1:]),
    )


def _paired(after: Mapping[str, Any]) -> str:
    interval = after["latency_ratio_interval"]
    text = render.ratio_text(after["latency_ratio"])
    return text if interval is None else f"{text} {render.interval_text(*interval)}"
