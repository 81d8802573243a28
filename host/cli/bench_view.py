"""What `host bench` shows: a moving line while it works, a table at the end."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from rich.console import Group
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.text import Text

from device_agent.contract.measurement import MeasureEvent, Phase
from device_agent.contract.measurement import Progress as JobProgress
from host.cli import render

_WORDS = {
    Phase.STARTING: "starting a worker",
    Phase.LOADING: "loading the model",
    Phase.WARM_UP: "warming up",
    Phase.TIMING: "timing",
    Phase.PROFILING: "timing layers",
}
_STATISTICS = ("p50", "p90", "p99", "min", "mean")
MOST_LAYERS = 30


class BenchProgress:
    """One line on stderr if it is a terminal, nothing otherwise."""

    def __init__(self) -> None:
        console = render.console(stderr=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[detail]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task("", total=None, detail="")

    def __enter__(self) -> BenchProgress:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def say(self, what: str) -> None:
        """Show a step of unknown length."""
        self._progress.update(self._task, description=escape(what), total=None, detail="")

    def on_push(self, position: int, size: int) -> None:
        """Show bytes of the upload."""
        detail = f"{render.bytes_text(position)} of {render.bytes_text(size)}"
        self._progress.update(
            self._task, description="sending the model", completed=position, total=size, detail=detail
        )

    def on_event(self, event: MeasureEvent) -> None:
        """Show where the job is."""
        if isinstance(event, JobProgress):
            detail = f"{event.runs} runs" if event.runs else ""
            self._progress.update(
                self._task, description=_WORDS[event.phase], completed=event.fraction, total=1.0, detail=detail
            )


def print_bench(document: dict[str, Any]) -> None:
    """Print the document of `host bench` for people."""
    device, runtime, artifact = document["device"], document["runtime"], document["artifact"]
    console = render.console()
    title = Text.assemble(
        (artifact["name"], "bold"), f" ({render.bytes_text(artifact['size_bytes'])}) on ", (device["name"], "bold")
    )
    where = f"{device['board']}, {device['cpu']}, {device['cores']} cores"
    threads = document["threads"]
    how = f"{runtime['name']} {runtime['version']}, {runtime['provider']}, {threads} thread{'s' * (threads != 1)}"
    console.print(Group(title, Text(where, style="dim"), Text(how, style="dim")))
    console.print(_latencies(document))
    console.print(render.facts(_facts(document)))
    for verdict in document["verdict"]:
        if verdict["code"] != "stable":
            console.print(_explained(verdict))
    if document.get("layers"):
        console.print(_layers(document["layers"]))
        console.print(
            Text("From profiled runs, which cost time of their own: compare shares; latency is above.", style="dim")
        )
    elif "layers" in document:
        console.print(Text("No times of single layers: only ONNX Runtime gives them so far.", style="dim"))


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
        ("verdict", ", ".join(verdict["code"] for verdict in document["verdict"]) or render.DASH),
        ("peak memory", memory),
        ("energy per run", f"{render.DASH} ({document['energy_unavailable']})"),
        ("time to load", render.latency_text(document["load_ns"])),
    ]
    if document["measurement_id"] is not None:
        rows.append(("kept as", f"measurement {document['measurement_id']}"))
    return rows


def _explained(verdict: dict[str, Any]) -> Text:
    """Return one line: what was found, the figure behind it, what to do."""
    line = Text.assemble(("  ! ", "bold yellow"), (verdict["code"], "bold"))
    if verdict["value"] is not None:
        unit = f" {verdict['unit']}" if verdict["unit"] else ""
        line.append(f": {render.number_text(verdict['value'])}{unit}")
        if verdict["threshold"] is not None:
            line.append(f" (limit {render.number_text(verdict['threshold'])})")
    return line.append(f". {verdict['hint']}.") if verdict["hint"] else line


def _layers(layers: list[dict[str, Any]]) -> Any:
    table = render.table("layer", "kind", "median", "share", "", right=("median", "share"))
    shown = sorted(layers, key=lambda layer: -layer["share"])
    largest = shown[0]["share"] or 1.0
    for layer in shown[:MOST_LAYERS]:
        bar = "█" * round(20 * layer["share"] / largest)
        name = Text(layer["name"], overflow="ellipsis", no_wrap=True)
        render.add_row(
            table,
            name,
            layer["op_type"],
            render.latency_text(layer["median_ns"]),
            render.percent_text(layer["share"]),
            bar,
        )
    if len(shown) > MOST_LAYERS:
        rest = shown[MOST_LAYERS:]
        median = render.latency_text(sum(layer["median_ns"] for layer in rest))
        share = render.percent_text(sum(layer["share"] for layer in rest))
        render.add_row(table, f"{len(rest)} others", "", median, share, "")
    return table
