"""What `host load` shows: a moving line while it works, trial by trial at the end, and the answer."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.text import Text

from device_agent.contract.load import LoadEvent
from device_agent.contract.measurement import Phase
from device_agent.contract.measurement import Progress as JobProgress
from device_agent.load_words import answer, percentiles
from host.cli import render
from host.cli.bench_progress import BenchProgress
from host.cli.bench_view import heading, remarks, title


class LoadProgress(BenchProgress):
    """The same line as of `host bench`, with requests."""

    def on_load(self, event: LoadEvent) -> None:
        """Show where the job is."""
        if isinstance(event, JobProgress) and event.phase is Phase.TIMING:
            self.show("putting load on it", event.fraction, f"{event.runs} requests")
        elif isinstance(event, JobProgress):
            self.on_event(event)


def print_load(document: dict[str, Any]) -> None:
    """Print the document of `host load` for people."""
    console = render.console()
    console.print(Group(title(document), *heading(document, document["runtime"]["provider"])))
    console.print(_trials(document))
    first, *others = answer(document, rate_text=render.number_text, time_text=render.latency_text)
    console.print(Text(first, style="bold"))
    for line in others:
        console.print(Text(line))
    console.print(render.facts(_facts(document)))
    console.print(remarks([("", verdict) for verdict in document["verdict"]], document["notes"]))


def _trials(document: dict[str, Any]) -> Any:
    bound = document["bound"]
    judged = () if bound is None else ("over", "within")
    unserved = ("unserved",) if any(trial["unserved"] for trial in document["trials"]) else ()
    shown = {**percentiles(document), "max": "max"}
    figures = ("asked/s", "served/s", *shown, "requests", *unserved)
    table = render.table(*figures, *judged, right=(*figures, *judged[:1]))
    for trial in document["trials"]:
        latency, rate = trial["latency_ns"], trial["rate_per_s"]
        row = ["closed" if rate is None else render.number_text(rate), render.number_text(trial["served_per_s"])]
        row += [render.latency_text(latency[key]) if latency else render.DASH for key in shown.values()]
        row.append(str(trial["requests"]))
        if unserved:
            row.append(str(trial["unserved"]))
        if bound is not None:
            row.append(render.percent_text(trial["over_bound"], 2))
            row.append(render.DASH if rate is None else _WITHIN[trial["within_bound"]])
        render.add_row(table, *row)
    return table


_WITHIN = {True: "yes", False: "no", None: "open"}


def _facts(document: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("verdict", ", ".join(verdict["code"] for verdict in document["verdict"]))]
    late = document["dispatch_late_ns"]
    if late is not None:
        rows.append(
            (
                "begun late",
                f"{render.latency_text(late['p50'])} (p99 {render.latency_text(late['p99'])}) where a stream was idle; it counts"
                " as latency",
            )
        )
    rows.append(("time to load", render.latency_text(document["load_ns"])))
    if document["load_id"] is not None:
        rows.append(("kept as", f"load {document['load_id']}"))
    return rows
