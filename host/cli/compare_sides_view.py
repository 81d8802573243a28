"""What `host compare A B` shows: each match with its metrics, or a line for each where there are many, and what was refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from host.cli import render

#: More rows than this are shown as one table.
_IN_FULL = 3
_TEXTS: dict[str, tuple[str, Callable[[float], str]]] = {
    "p50": ("p50", render.latency_text),
    "p90": ("p90", render.latency_text),
    "p99": ("p99", render.latency_text),
    "peak_memory": ("peak memory", render.bytes_text),
    "energy": ("energy per run", render.energy_text),
    "size": ("size", render.bytes_text),
    "accuracy": ("accuracy", render.percent_text),
}
_DECISIONS = {
    "faster": "faster",
    "slower": "slower",
    "no-difference": "no difference of {least} or more",
    "undecided": "undecided",
    None: "no latencies",
}
_STYLES = {"met": "bold red", "undecided": "bold yellow", "not-met": "green"}


def print_result(document: dict[str, Any]) -> None:
    """Print the document of `host compare` for people."""
    console = render.console()
    rows = document["rows"]
    if len(rows) > _IN_FULL:
        console.print(_overview(document))
        for row in rows:
            for each in _bounds(row, only_bad=True):
                console.print(Text.assemble(f"{_title(row)}: ", each))
        remarked = sum(bool(row["remarks"]) for row in rows)
        if remarked:
            console.print(
                _remark(f"{remarked} of {len(rows)} rows have remarks; --json or one model and device tell them")
            )
    else:
        for row in rows:
            console.print(Group(*_heading(row)))
            console.print(_metrics(row))
            console.print(Text(_decision(row, document), style="bold"))
            for line in (*_bounds(row), *map(_remark, row["remarks"])):
                console.print(line)
            console.print()
    for refused in document["refused"]:
        console.print(_refusal(refused))
    if document["truncated"]:
        console.print(
            Text("! a side has more results than were looked at; narrow it, by dates for one", style="yellow")
        )


def change_text(change: float | None, *, points: bool = False) -> str:
    """Return a change as `+5.2 %`, of an accuracy in points."""
    if change is None:
        return render.DASH
    if points:
        return render.points_text(change)
    decimals = 2 if abs(change) < 0.00995 else 1 if abs(change) < 0.9995 else 0
    return f"{change * 100:+.{decimals}f} %"


def _heading(row: dict[str, Any]) -> list[Text]:
    baseline, candidate, device = row["baseline"], row["candidate"], row["device"]
    names = (
        [each["name"] for each in (baseline, candidate)]
        if baseline["name"] != candidate["name"]
        else [f"{each['name']} {each['sha256'][:8]}" for each in (baseline, candidate)]
    )
    if baseline["sha256"] == candidate["sha256"]:
        title = Text.assemble((candidate["name"], "bold"), f" {candidate['sha256'][:8]} on ", (device["name"], "bold"))
    else:
        title = Text.assemble((names[0], "bold"), " → ", (names[1], "bold"), " on ", (device["name"], "bold"))
    settings, environment = row["settings"], row["environment"]
    threads = settings["threads"]
    how = (
        f"{device['board']}, {settings['runtime']} {environment['runtime_version']}, {settings['provider']}, "
        f"{threads} thread{'s' * (threads != 1)}"
    )
    lines = [title, Text(how, style="dim")]
    if row["differences"]:
        lines.append(Text("across " + ", ".join(each["text"] for each in row["differences"]), style="cyan"))
    return lines


def _metrics(row: dict[str, Any]) -> Table:
    figures = ("baseline", "candidate", "change", "95 % interval" if not row["bounds"] else "interval")
    table = render.table("", *figures, "measured", right=figures)
    for metric, (name, text) in _TEXTS.items():
        found = row["metrics"].get(metric)
        if found is None:
            continue
        points = metric == "accuracy"
        render.add_row(
            table,
            name,
            text(found["baseline"]),
            text(found["candidate"]),
            change_text(found["change"], points=points),
            _interval(found, points),
            _measured(found) if not points else "",
        )
    return table


def _interval(found: dict[str, Any], points: bool = False) -> str:
    if found["method"] == "exact":
        return ""
    if found["change_interval"] is None:
        return render.DASH
    low, high = found["change_interval"]
    return f"{change_text(low, points=points)} to {change_text(high, points=points)}"


def _measured(found: dict[str, Any]) -> str:
    method, (one, other) = found["method"], found["measurements"]
    if method == "exact":
        return ""
    if method == "paired":
        return "in turns" if one == 1 else f"in turns, {one} times"
    return f"{one} and {other} times"


def _decision(row: dict[str, Any], document: dict[str, Any]) -> str:
    return _DECISIONS[row["decision"]].format(least=render.share_text(document["difference"]))


def _bounds(row: dict[str, Any], *, only_bad: bool = False) -> list[Text]:
    found = []
    for each in row["bounds"]:
        if only_bad and each["met"] == "not-met":
            continue
        words = {"met": "met", "not-met": "not met", "undecided": "undecided"}[each["met"]]
        hint = f": {each['hint']}" if each["hint"] else ""
        found.append(Text.assemble(f"{each['text']}  ", (words, _STYLES[each["met"]]), hint))
    return found


def _remark(text: str) -> Text:
    return Text.assemble(("! ", "bold yellow"), f"{text}.")


def _title(row: dict[str, Any]) -> str:
    name = row["model"] or f"{row['baseline']['name']} → {row['candidate']['name']}"
    return f"{name} on {row['device']['name']}"


def _overview(document: dict[str, Any]) -> Table:
    figures = ("threads", "baseline", "p50", "change", "interval")
    table = render.table("model", "device", *figures, "decision", right=figures)
    for row in document["rows"]:
        median = row["metrics"].get("p50")
        render.add_row(
            table,
            row["model"] or f"{row['baseline']['name']} → {row['candidate']['name']}",
            row["device"]["name"],
            str(row["settings"]["threads"]),
            render.latency_text(median and median["baseline"]),
            render.latency_text(median and median["candidate"]),
            change_text(median and median["change"]),
            _interval(median) if median else render.DASH,
            _decision(row, document),
        )
    return table


def _refusal(refused: dict[str, Any]) -> Text:
    what = f"{refused['model']} on " if refused["model"] else "on "
    fields = " ".join(f"--across {each['field'].replace('_', '-')}" for each in refused["differences"])
    differences = "; ".join(each["text"] for each in refused["differences"])
    return Text.assemble(
        ("not compared ", "bold red"),
        f"{what}{refused['device']['name']}: the environments differ in {differences}. Measure both in one environment, or allow "
        f"it: {fields}",
    )
