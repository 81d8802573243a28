"""What `host bench A B` shows: the models in turns, each against the first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from host.cli import render
from host.cli.bench_view import heading, remarks
from host.cli.layers_view import print_layers


def print_comparison(document: dict[str, Any]) -> None:
    """Print the document of a `host bench` of several models for people."""
    artifacts = document["artifacts"]
    names = labels([artifact["name"] for artifact in artifacts])
    console = render.console()
    title = Text.assemble(f"{len(artifacts)} models in turns on ", (document["device"]["name"], "bold"))
    providers = " and ".join(sorted({artifact["provider"] for artifact in artifacts}))
    console.print(Group(title, *heading(document, providers)))
    console.print(_latencies(document, names))
    console.print(_decisions(document, names))
    verdicts = [(name, verdict) for name, each in zip(names, artifacts, strict=True) for verdict in each["verdict"]]
    console.print(remarks(verdicts, document["notes"]))
    if any(artifact["cold_starts"] for artifact in artifacts):
        console.print(_cold_starts(artifacts, names))
    for name, artifact in zip(names, artifacts, strict=True):
        print_layers(console, artifact, name)
    if document["measurement_id"] is not None:
        console.print(render.facts([("kept as", f"measurement {document['measurement_id']}")]))


def labels(names: Sequence[str]) -> list[str]:
    """Return names that differ: the same file twice is numbered."""
    return [
        name if names.count(name) == 1 else f"{name} ({names[: place + 1].count(name)})"
        for place, name in enumerate(names)
    ]


def _latencies(document: dict[str, Any], names: Sequence[str]) -> Table:
    figures = ("p50", "p90", "undisturbed", "runs", "ratio")
    table = render.table("model", *figures, right=figures)
    ratios = {each["artifact"]: each for each in document["comparisons"]}
    for place, (name, artifact) in enumerate(zip(names, document["artifacts"], strict=True)):
        latency, undisturbed = artifact["latency_ns"], artifact["latency_undisturbed_ns"]
        ratio = ratios.get(place)
        render.add_row(
            table,
            name,
            render.latency_text(latency["p50"]),
            render.latency_text(latency["p90"], like_ns=latency["p50"]),
            render.latency_text(undisturbed and undisturbed["p50"], like_ns=latency["p50"]),
            str(artifact["runs"]),
            "baseline" if ratio is None else render.ratio_text(ratio["ratio"]),
        )
    return table


def _decisions(document: dict[str, Any], names: Sequence[str]) -> Table:
    return render.facts([(names[each["artifact"]], decision_text(each)) for each in document["comparisons"]])


def decision_text(comparison: dict[str, Any]) -> str:
    """Return a decision in words, such as `faster: 0.812x (0.809 - 0.815)`."""
    interval = comparison["ratio_interval"]
    figure = render.ratio_text(comparison["ratio"])
    if interval is not None:
        figure += f" {render.interval_text(*interval)}"
    least = render.share_text(comparison["difference"])
    words = {
        "faster": f"faster: {figure}",
        "slower": f"slower: {figure}",
        "no-difference": f"no difference of {least} or more: {figure}",
        "undecided": f"undecided: {figure}",
    }
    hint = comparison["hint"]
    return words[comparison["decision"]] + (f". {hint[0].upper()}{hint[1:]}" if hint else "")


def _cold_starts(artifacts: Sequence[dict[str, Any]], names: Sequence[str]) -> Table:
    figures = ("import", "load", "first run", "in all", "fastest", "slowest")
    table = render.table("cold start, medians", *figures, right=figures)
    for name, artifact in zip(names, artifacts, strict=True):
        starts = artifact["cold_starts"]
        medians = [starts and starts[part]["median"] for part in ("import_ns", "load_ns", "first_run_ns", "total_ns")]
        ends = [starts and starts["total_ns"][end] for end in ("min", "max")]
        render.add_row(table, name, *(render.latency_text(value) for value in (*medians, *ends)))
    return table
