"""What `host compress` shows: stages and findings on stderr while it works, one table at the end."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.status import Status

from host.cli import render
from host.compress.explain import explain
from host.compress.observer import Observer

if TYPE_CHECKING:
    from rich.table import Table


class StageLines(Observer):
    """A line per stage and finding; on a terminal also a moving last line with the steps of the stage that runs."""

    def __init__(self) -> None:
        self._console = render.console(stderr=True)
        self._started = time.monotonic()
        self._status: Status | None = None
        self._text = ""

    def __enter__(self) -> StageLines:
        if self._console.is_terminal:
            self._status = self._console.status("")
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def stage(self, text: str) -> None:
        self._text = text
        self._console.print(f"[dim]{time.monotonic() - self._started:6.0f} s[/dim]  {escape(text)}", soft_wrap=True)
        self._update("")

    def note(self, text: str) -> None:
        self._console.print(f"            [dim]{escape(text)}[/dim]", soft_wrap=True)

    def step(self, done: int, total: int) -> None:
        self._update(f" ({done} of {total})")

    def _update(self, suffix: str) -> None:
        if self._status is not None:
            self._status.update(escape(f"{self._text}{suffix}"))


def show(record: Mapping[str, Any]) -> None:
    """Print the record as a table on stdout: before, after, and whether the constraints are met."""
    out = render.console()
    runtime, target = record["runtime"], record["target"]
    device = record["device"]
    where = f"{device['name']} ({device['board']}, {device['cpu']}), {runtime['name']} {runtime['version']}"
    plural = "s" if record["threads"] > 1 else ""
    out.print(
        f"\n[bold]{escape(record['model'])}[/bold] on {escape(record['data'])}, measured on {escape(where)}, "
        f"{record['threads']} thread{plural}\n"
    )
    if record["result"] is None:
        _show_plan(record)
        return
    table = render.table("", "baseline", "compressed", "ratio", right=("baseline", "compressed", "ratio"))
    before, after = record["baseline"], record["result"]
    table.add_row(
        f"accuracy ({after['test_images']:,} test images)",
        render.percent_text(before["accuracy"], 2),
        render.percent_text(after["accuracy"], 2),
        render.points_text(after["accuracy"] - before["accuracy"]),
    )
    for name in ("p50", "p90"):
        old, new = before["latency_ns"][name], after["latency_ns"][name]
        interval = after["latency_ratio_interval"]
        paired = render.ratio_text(after["latency_ratio"])
        if interval is not None:
            paired += f" {render.interval_text(*interval)}"
        table.add_row(
            f"latency, {name}",
            render.latency_text(old),
            render.latency_text(new, like_ns=old),
            paired if name == f"p{target['percentile']}" else render.ratio_text(new / old),
        )
    for label, key, text in (
        ("peak memory above the runtime", "peak_memory_bytes", render.bytes_text),
        ("file size", "size_bytes", render.bytes_text),
        ("parameters", "parameters", render.count_text),
        ("MACs", "macs", render.count_text),
    ):
        old, new = before[key], after[key]
        ratio = render.DASH if old is None or new is None else render.ratio_text(new / old)
        table.add_row(label, text(old), text(new), ratio)
    if record.get("resolution") is not None:
        table.add_row("images", *(render.pixels_text(side["input_shape"][1:]) for side in (before, after)), "")
    out.print(table)
    _show_target(record, target["latency_ratio"], after["latency_ratio"])
    _show_resolution(record.get("resolution"))
    _show_pricing(record.get("pricing"))
    _show_precision(record["precision"])
    out.print(f"device time {render.seconds_text(record['device_seconds'])}")
    beside = [name for name in ("plan", "manifest", "measurements", "record") if name in record["artifacts"]]
    for name, path in record["artifacts"].items():
        if name not in beside:
            out.print(f"{name:<10} {path}", soft_wrap=True, markup=False)
    names = [PurePath(record["artifacts"][name]).name for name in beside]
    out.print(f"beside it  {', '.join(names)}", soft_wrap=True, markup=False)


def show_reasons(record: Mapping[str, Any]) -> None:
    """Print why each layer got its width."""
    out = render.console()
    out.print("\n[bold]why these widths[/bold]")
    for line in explain(record).lines():
        out.print(line, markup=False, soft_wrap=True)


def _show_target(record: Mapping[str, Any], target: float, ratio: float) -> None:
    out = render.console()
    wanted = f"target {render.ratio_text(target)} of the baseline's latency"
    if record["target"]["latency_ns"] is not None:
        wanted += f" ({render.latency_text(record['target']['latency_ns'])})"
    if record["met"]:
        out.print(f"[green]met[/green]: {wanted}, measured {render.percent_text(ratio / target)} of it")
    else:
        out.print(f"[red]not met[/red]: {wanted}; {escape(record['reason'])}")
    if record["met"] and record["reason"]:
        out.print(record["reason"], markup=False)
    for side in ("baseline", "result"):
        for verdict in record[side]["verdict"]:
            if verdict["code"] != "stable":
                value = f" ({render.number_text(verdict['value'])} {verdict['unit'] or ''})".replace(" )", ")")
                out.print(f"{side} is {verdict['code']}{value}: {verdict['hint'] or ''}", markup=False)


def _show_resolution(resolution: Mapping[str, Any] | None) -> None:
    """Say what each resolution would have come to, where there was a choice."""
    if resolution is None:
        return
    told = [
        f"{render.pixels_text(each['size'])}: "
        + (each["reason"] or f"{render.number_text(each['divergence'])} nats from the original before training")
        for each in resolution["tried"]
    ]
    line = f"planned at {render.pixels_text(resolution['size'])} ({'; '.join(told)})"
    render.console().print(line, markup=False, soft_wrap=True)


def _show_pricing(pricing: Mapping[str, Any] | None) -> None:
    """Say which precision the plan was made in, where another one was tried."""
    if pricing is None or not pricing["tried"]:
        return
    kept = pricing["macs_at_target"] or {}
    line = f"planned in {pricing['precision']}"
    if pricing["reason"] is not None:
        line += f": {pricing['reason']}"
    elif None not in kept.values() and kept:
        line += ", in which a uniform plan of the target's latency keeps "
        line += f"{render.ratio_text(kept['int8-static'] / kept['float32'])} of float32's MACs"
    render.console().print(line, markup=False, soft_wrap=True)


def _show_precision(precision: Mapping[str, Any]) -> None:
    """Say what a lower precision gained, or would have cost: a line for what was taken, else for the fastest int8."""
    ran = [each for each in precision["tried"] if each["ratio_to_float"] is not None]
    taken = [each for each in ran if each["taken"]]
    shown = taken or sorted(
        (each for each in ran if each["validation_accuracy"] is not None),
        key=lambda each: float(each["ratio_to_float"]),
    )
    for each in shown[:1]:
        _show_tried(each, precision)


def _show_tried(tried: Mapping[str, Any], precision: Mapping[str, Any]) -> None:
    out = render.console()
    change = precision["float_validation_accuracy"] - tried["validation_accuracy"]
    name = tried["precision"] + (f" ({tried['types']}, {tried['calibration']})" if tried["types"] else "")
    time = render.ratio_text(tried["ratio_to_float"])
    if tried["ratio_interval"] is not None:
        time += f" {render.interval_text(*tried['ratio_interval'])}"
    cost, points = "cost" if change >= 0 else "gain", f"{abs(change) * 100:.2f} points on validation images"
    if not tried["taken"]:
        line = f"{name} would take {time} of the float32 time here and {cost} {points}: not taken, {tried['reason']}"
        out.print(line, markup=False, soft_wrap=True)
        return
    out.print(f"{name} taken: {time} of the float32 time here, {cost}s {points}", markup=False, soft_wrap=True)
    if tried["reason"] is not None:
        why = escape(f"{tried['reason']}; {precision['reason']}")
        out.print(f"[yellow]warning[/yellow]: {why}", soft_wrap=True)


def _front(points: Sequence[Mapping[str, Any]]) -> Table:
    columns = ("latency", "loss (nats)", "parameters", "file size", "weights and activations", "peak memory")
    table = render.table(*columns, right=columns, title="planned, not measured: least loss at each latency")
    for each in points:
        table.add_row(
            render.ratio_text(each["latency_ratio"]),
            render.number_text(each["loss"]),
            render.count_text(each["parameters"]),
            render.bytes_text(each["size_bytes"]),
            render.bytes_text(each["memory_bytes"]),
            render.bytes_text(each["peak_memory_bytes"]),
        )
    return table


def _show_plan(record: Mapping[str, Any]) -> None:
    out = render.console()
    table = render.table("group", "channels", "kept", right=("channels", "kept"))
    for name, widths in record["plan"].items():
        render.add_row(table, name, str(widths["channels"]), str(widths["kept"]))
    out.print(table)
    if record["front"]:
        out.print(_front(record["front"]))
    _show_resolution(record.get("resolution"))
    out.print(
        f"{record['chosen']} plan, not trained: predicted {render.ratio_text(record['predicted_ratio'])}, measured "
        f"{render.ratio_text(record['measured_ratio'])} of the baseline's latency, target "
        f"{render.ratio_text(record['target']['latency_ratio'])}"
    )
    if record["reason"]:
        out.print(record["reason"], markup=False)
    for layer in record["left_alone"]:
        out.print(f"left alone: {layer['layer']}: {layer['reason']}", markup=False)
