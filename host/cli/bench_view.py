"""What `host bench` shows of one model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from device_agent.contract.soak import throttle_words
from host.cli import render
from host.cli.layers_view import print_layers

_STATISTICS = ("p50", "p90", "p99", "min", "mean")


def print_bench(document: dict[str, Any]) -> None:
    """Print the document of `host bench` for people."""
    console = render.console()
    console.print(Group(title(document), *heading(document, document["runtime"]["provider"])))
    console.print(_latencies(document))
    console.print(render.facts(_facts(document)))
    console.print(remarks([("", verdict) for verdict in document["verdict"]], document["notes"]))
    if document["cold_starts"] is not None:
        console.print(_cold_starts(document["cold_starts"]))
    if document["soak"] is not None:
        console.print(_soak(document["soak"]))
        console.print(Text(_recorded(document), style="dim"))
    print_layers(console, document)


def title(document: dict[str, Any]) -> Text:
    """Return which model ran where."""
    artifact = document["artifact"]
    size = render.bytes_text(artifact["size_bytes"])
    return Text.assemble((artifact["name"], "bold"), f" ({size}) on ", (document["device"]["name"], "bold"))


def heading(document: dict[str, Any], provider: str) -> list[Text]:
    """Return where and how something was measured: board and processor, then runtime and settings."""
    device, runtime = document["device"], document["runtime"]
    where = f"{device['board']}, {device['cpu']}, {device['cores']} core{'s' * (device['cores'] != 1)}"
    threads = document["threads"]
    how = [f"{runtime['name']} {runtime['version']}, {provider}, {threads} thread{'s' * (threads != 1)}"]
    return [Text(where, style="dim"), Text(", ".join(how + _settings(document)), style="dim")]


def _settings(document: dict[str, Any]) -> list[str]:
    """Return what was asked for beyond the usual."""
    asked = document["settings"]
    words = []
    if asked["provider_options"]:
        words.append(" ".join(f"{name}={value}" for name, value in asked["provider_options"].items()))
    if document["cpus"] is not None:
        group = f" ({asked['cpu_group']})" if asked["cpu_group"] else ""
        words.append(f"pinned to {render.numbers_text(document['cpus'])}{group}")
    for name, word in (("nice", "nice"), ("batch", "batch"), ("graph_optimization", "graph optimization")):
        if asked[name] is not None:
            words.append(f"{word} {asked[name]}")
    if asked["memory_arena"] is not None:
        words.append("memory arena" if asked["memory_arena"] else "no memory arena")
    if asked["inputs"] != "random":
        words.append("inputs from a file" if asked["inputs"] == "data" else "inputs of zeros")
    return words


def _latencies(document: dict[str, Any]) -> Any:
    table = render.table("latency", *_STATISTICS, "runs", right=(*_STATISTICS, "runs"))
    rows = (
        ("all runs", document["latency_ns"], document["runs"]),
        ("undisturbed", document["latency_undisturbed_ns"], document["runs_undisturbed"]),
    )
    for name, latency, runs in rows:
        figures = [
            render.latency_text(latency[key], like_ns=latency["p50"]) if latency else render.DASH for key in _STATISTICS
        ]
        render.add_row(table, name, *figures, str(runs))
    return table


def _facts(document: dict[str, Any]) -> list[tuple[str, str]]:
    memory = render.bytes_text(document["peak_memory_bytes"])
    if document["peak_rss_bytes"] is not None:
        memory += f" above the runtime's own, {render.bytes_text(document['peak_rss_bytes'])} in all"
    rows = [
        ("verdict", ", ".join(dict.fromkeys(verdict["code"] for verdict in document["verdict"])) or render.DASH),
        ("peak memory", memory),
        ("memory by phase", _phases(document["memory"])),
        ("energy per run", _energy(document)),
        ("time to load", render.latency_text(document["load_ns"])),
    ]
    if document["measurement_id"] is not None:
        rows.append(("kept as", f"measurement {document['measurement_id']}"))
    return rows


def _energy(document: dict[str, Any]) -> str:
    """Return the preferred estimate; others, which are never added to it, are only named."""
    if not document["energy"]:
        return f"{render.DASH} ({document['energy_unavailable']})"
    first, *others = document["energy"]
    errors = first["uncertainty_j"]
    gross = f"{render.energy_interval_text(first['gross_j'], errors['gross'])} gross"
    if first["net_j"] is None:
        figure = f"{gross}, no net figure: {first['net_unavailable']}"
    else:
        net = render.energy_interval_text(first["net_j"], errors["net"])
        figure = f"{net} net of {render.power_text(first['idle_power_w'])} idle, {gross}"
    figure += f"; {first['meter']}" + (f" ({first['note']})" if first["note"] else "")
    return figure + (f"; also seen by {', '.join(other['meter'] for other in others)}" if others else "")


def _phases(memory: dict[str, int] | None) -> str:
    if memory is None:
        return render.DASH
    runtime, load, first, steady = (
        render.bytes_text(memory[f"{part}_bytes"]) for part in ("runtime", "load", "first_run", "steady")
    )
    return f"runtime {runtime}; above it {load} while loading, {first} in the first run, {steady} after it"


def remarks(verdicts: Sequence[tuple[str, dict[str, Any]]], notes: Sequence[str]) -> Table:
    """Return a line for every verdict but `stable`, with the name of what it is about, and for every note.

    Each says what was found, the figure behind it and what to do; a long one goes on below its own beginning.
    """
    made = Table.grid(padding=(0, 1))
    made.add_column(no_wrap=True)
    made.add_column()
    for name, verdict in verdicts:
        if verdict["code"] != "stable":
            made.add_row(Text("  !", style="bold yellow"), _explained(name, verdict))
    for note in notes:
        made.add_row(Text("  !", style="bold yellow"), Text(f"{note}."))
    return made


def _explained(name: str, verdict: dict[str, Any]) -> Text:
    line = Text.assemble(f"{name} " if name else "", (verdict["code"], "bold"))
    if verdict["value"] is not None:
        unit = f" {verdict['unit']}" if verdict["unit"] else ""
        line.append(f": {render.number_text(verdict['value'])}{unit}")
        if verdict["threshold"] is not None:
            line.append(f" (limit {render.number_text(verdict['threshold'])})")
    hint = verdict["hint"]
    return line.append(f". {hint[0].upper()}{hint[1:]}.") if hint else line


def _cold_starts(starts: dict[str, Any]) -> Table:
    table = render.table("cold start", "median", "fastest", "slowest", right=("median", "fastest", "slowest"))
    for name, part in (
        ("start and import", "import_ns"),
        ("load", "load_ns"),
        ("first run", "first_run_ns"),
        (f"in all, {starts['count']} processes", "total_ns"),
    ):
        found = starts[part]
        render.add_row(table, name, *(render.latency_text(found[key]) for key in ("median", "min", "max")))
    return table


def _soak(soak: dict[str, Any]) -> Table:
    right = ("until", "p50", "p90", "clock", "chip", "power", "runs")
    table = render.table(*right, "throttling", right=right)
    for window in soak["windows"]:
        render.add_row(
            table,
            render.seconds_text(window["end_s"]),
            render.latency_text(window["p50_ns"]),
            render.latency_text(window["p90_ns"], like_ns=window["p50_ns"]),
            render.frequency_text(window["clock_hz"]),
            render.temperature_text(window["temperature_c"]),
            render.power_text(window["power_w"]),
            str(window["runs"]),
            _throttling(window),
        )
    return table


def _throttling(window: dict[str, Any]) -> str:
    words = throttle_words(window["flags"], window["counts"])
    return render.DASH if words is None else ", ".join(words) or "none"


def _recorded(document: dict[str, Any]) -> str:
    unrecorded = document["soak"]["unrecorded_runs"]
    if not unrecorded:
        return "Every run was recorded."
    made = document["runs"] + unrecorded
    return (
        f"{made} runs were made; {document['runs']} of them, in turns at even distances, were recorded and are shown."
    )
