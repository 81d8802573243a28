"""What `host compare A B` shows: each match with its metrics, or a line for each where there are many, and what was refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from host.cli import render
from host.results.compare_rules import setting_words

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
    apart = told_apart(rows)
    if len(rows) > _IN_FULL:
        console.print(_overview(document, apart))
        for row, words in zip(rows, apart, strict=True):
            for each in _bounds(row, only_bad=True):
                console.print(Text.assemble(f"{title(row, words)}: ", each))
        remarked = sum(bool(row["remarks"]) for row in rows)
        if remarked:
            console.print(
                _remark(f"{remarked} of {len(rows)} rows have remarks; --json or one model and device tell them")
            )
    else:
        for row, words in zip(rows, apart, strict=True):
            console.print(Group(*_heading(row, words)))
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


def told_apart(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Return in words, for each row, what was chosen and what tells it from the others of the same models and device.

    What differs between the two sides of a row is no part of it: the row says so itself.
    """
    names = [_names(row) for row in rows]
    usual = [_usual(row) for row in rows]
    return [
        [
            *(word for word in usual[place] if any(word not in usual[other] for other in _alike(names, place))),
            *setting_words(_shared(row)),
        ]
        for place, row in enumerate(rows)
    ]


def title(row: dict[str, Any], words: Sequence[str]) -> str:
    """Return what a row compares and where, with the words that tell it apart."""
    return ", ".join((f"{_names(row)[0]} on {row['device']['name']}", *words))


def _alike(names: Sequence[tuple[str, str]], place: int) -> list[int]:
    return [other for other, each in enumerate(names) if each == names[place]]


def _names(row: dict[str, Any]) -> tuple[str, str]:
    return row["model"] or f"{row['baseline']['name']} → {row['candidate']['name']}", row["device"]["id"]


def _shared(row: dict[str, Any]) -> dict[str, Any]:
    """Return settings and environment without the fields in which the two sides differ."""
    differing = {each["field"] for each in row["differences"]}
    return {name: value for name, value in (row["settings"] | row["environment"]).items() if name not in differing}


def _usual(row: dict[str, Any]) -> list[str]:
    """Return in words what every result has."""
    shared = _shared(row)
    words = []
    if "runtime" in shared:
        words.append(" ".join(filter(None, (shared["runtime"], shared.get("runtime_version")))))
    if "provider" in shared:
        words.append(shared["provider"])
    if "threads" in shared:
        words.append(_threads(shared["threads"]))
    states = {"governor": "governor", "kernel": "kernel", "agent_version": "agent"}
    return words + [f"{word} {shared[name] or 'unknown'}" for name, word in states.items() if name in shared]


def _threads(count: int) -> str:
    return f"{count} thread{'s' * (count != 1)}"


def _heading(row: dict[str, Any], words: Sequence[str]) -> list[Text]:
    baseline, candidate, device = row["baseline"], row["candidate"], row["device"]
    names = (
        [each["name"] for each in (baseline, candidate)]
        if baseline["name"] != candidate["name"]
        else [f"{each['name']} {each['sha256'][:8]}" for each in (baseline, candidate)]
    )
    if baseline["sha256"] == candidate["sha256"]:
        first = Text.assemble((candidate["name"], "bold"), f" {candidate['sha256'][:8]} on ", (device["name"], "bold"))
    else:
        first = Text.assemble((names[0], "bold"), " → ", (names[1], "bold"), " on ", (device["name"], "bold"))
    settings, environment = row["settings"], row["environment"]
    how = [
        device["board"],
        f"{settings['runtime']} {environment['runtime_version']}",
        settings["provider"],
        _threads(settings["threads"]),
    ]
    how += [word for word in words if word not in how]
    lines = [first, Text(", ".join(how), style="dim")]
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


def _overview(document: dict[str, Any], apart: Sequence[Sequence[str]]) -> Table:
    """Return a line for each row. Settings need room: with them a model or device that all rows share is in the title."""
    rows = document["rows"]
    figures = ("threads", "baseline", "p50", "change", "interval")
    settings = [
        [word for word in words if word != _threads(row["settings"]["threads"])]
        for row, words in zip(rows, apart, strict=True)
    ]
    names = {"model": [_names(row)[0] for row in rows], "device": [row["device"]["name"] for row in rows]}
    said = {column: values[0] for column, values in names.items() if any(settings) and len(set(values)) == 1}
    first = [column for column in names if column not in said] + ["settings"] * any(settings)
    table = render.table(*first, *figures, "decision", right=figures, title=" on ".join(said.values()) or None)
    if any(settings):
        table.columns[len(first) - 1].min_width = max(len(word) for words in settings for word in words) + 1
    for place, row in enumerate(rows):
        median = row["metrics"].get("p50")
        texts = {column: values[place] for column, values in names.items()} | {
            "settings": ", ".join(settings[place]) or render.DASH
        }
        render.add_row(
            table,
            *(texts[column] for column in first),
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
