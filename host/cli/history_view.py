"""What `host history` shows: a spark line of every course, and a table of its shifts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from host.cli import render
from host.cli.compare_sides_view import change_text
from host.results.compare_rules import setting_words

_BARS = "▁▂▃▄▅▆▇█"
_WIDEST = 60
_UNITS: dict[str, Callable[[float], str]] = {"peak_memory": render.bytes_text, "energy": render.energy_text}


def print_history(document: dict[str, Any]) -> None:
    """Print the document of `host history` for people."""
    console = render.console()
    text = _UNITS.get(document["metric"], render.latency_text)
    for course in document["courses"]:
        points = course["points"]
        values = [point["value"] for point in points]
        settings = course["settings"]
        threads = settings["threads"]
        words = "".join(f", {word}" for word in setting_words(settings))
        console.print(Text.assemble((course["model"], "bold"), " on ", (course["device"]["name"], "bold")))
        console.print(
            Text(
                f"{course['device']['board']}, {settings['runtime']} {points[-1]['runtime_version']}, "
                f"{settings['provider']}, {threads} thread{'s' * (threads != 1)}{words}; {document['metric']}"
                f"{' of undisturbed runs' if course['undisturbed'] else ''}",
                style="dim",
            )
        )
        console.print(Text(sparkline(values, [shift["point"] for shift in course["shifts"]])))
        console.print(render.facts(_facts(course, values, text)))
        if course["shifts"]:
            console.print(_shifts(course))
        if course["suspect"]:
            last = points[-1]
            console.print(
                Text.assemble(
                    ("! ", "bold yellow"),
                    f"the last measurement, #{last['measurement_id']}, is out of line: an outlier, or the first of a new level. "
                    "Measure again; one more of the kind tells.",
                )
            )
        console.print()


def sparkline(values: Sequence[float], cuts: Sequence[int] = ()) -> str:
    """Return a line of bars between the smallest and the largest of the middle 98 % of values; a cut is a vertical stroke.

    Long series are thinned by medians of neighbours, so that the line fits a terminal.
    """
    if not values:
        return ""
    per = -(-len(values) // _WIDEST)
    starts = list(range(0, len(values), per))
    heights = [sorted(values[start : start + per])[len(values[start : start + per]) // 2] for start in starts]
    ordered = sorted(heights)
    aside = len(ordered) // 100
    low, high = ordered[aside], ordered[len(ordered) - 1 - aside]
    marked = {min(-(-cut // per), len(starts) - 1) for cut in cuts}
    line = ""
    for place, height in enumerate(heights):
        share = 0.5 if high <= low * 1.001 else min(max((height - low) / (high - low), 0.0), 1.0)
        line += ("│" if place in marked else "") + _BARS[min(int(share * len(_BARS)), len(_BARS) - 1)]
    return line


def _facts(course: dict[str, Any], values: Sequence[float], text: Callable[[float], str]) -> list[tuple[str, str]]:
    points = course["points"]
    span = f"{points[0]['created_at'][:10]} to {points[-1]['created_at'][:10]}"
    files = len({point["sha256"] for point in points})
    rows = [
        ("measurements", f"{len(points)} of {files} file{'s' * (files > 1)}, {span}"),
        ("last", text(values[-1])),
        (
            "from time to time",
            render.DASH if course["noise"] is None else f"± {render.percent_text(course['noise'], 2)}",
        ),
    ]
    if course["noise"] is None:
        rows.append(("shifts", "too few measurements to tell"))
    elif not course["shifts"]:
        rows.append(("shifts", "none"))
    return rows


def _shifts(course: dict[str, Any]) -> Table:
    table = render.table(
        "shift from", "measurement", "change", "interval", "what changed then", right=("change", "interval")
    )
    for shift in course["shifts"]:
        causes = [each["text"] for each in shift["causes"]]
        if shift["artifact_after"] is not None:
            causes.append(f"file {shift['artifact_before'][:8]} → {shift['artifact_after'][:8]}")
        low, high = shift["change_interval"]
        style = "bold red" if shift["recent"] and shift["change"] > 0 else ""
        render.add_row(
            table,
            shift["created_at"][:16].replace("T", " "),
            f"#{shift['measurement_id']}",
            Text(change_text(shift["change"]), style=style),
            f"{change_text(low)} to {change_text(high)}",
            "; ".join(causes) or "nothing that is recorded",
        )
    return table
