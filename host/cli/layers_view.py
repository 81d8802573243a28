"""The table of `host bench --layers`: what each layer of the model costs, nodes of one layer together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from host.cli import render

MOST_ROWS = 30
#: Columns from which a table has room for the inputs and for long bars.
WIDE = 110
_RIGHT = ("median", "share")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Nodes that belong together: those of one layer, or of one kind if they belong to none. Shapes are the costliest node's."""

    name: str | None
    kind: str
    input_shape: tuple[int, ...] | None
    output_shape: tuple[int, ...] | None
    time_ns: float
    share: float


def rows_of(layers: Sequence[dict[str, Any]]) -> list[Row]:
    """Group the `layers` of a document, the costliest first. A node of no layer goes by the file's nodes that it is made of."""
    groups: dict[tuple[str | None, str], list[dict[str, Any]]] = {}
    for node in layers:
        name = node["layer"] or " + ".join(node["sources"]) or None
        groups.setdefault((name, "" if name else node["op_type"]), []).append(node)
    return sorted((_row(name, nodes) for (name, _), nodes in groups.items()), key=lambda row: -row.share)


def _row(name: str | None, nodes: Sequence[dict[str, Any]]) -> Row:
    main = max(nodes, key=lambda node: node["median_ns"])
    kinds = Counter(node["op_type"] for node in sorted(nodes, key=lambda node: -node["median_ns"]))
    return Row(
        name=name,
        kind=", ".join(kind if count == 1 else f"{count} {kind}" for kind, count in kinds.items()),
        input_shape=tuple(main["input_shapes"][0]) if main["input_shapes"] else None,
        output_shape=tuple(main["output_shapes"][0]) if main["output_shapes"] else None,
        time_ns=sum(node["median_ns"] for node in nodes),
        share=sum(node["share"] for node in nodes),
    )


def print_layers(console: Console, document: dict[str, Any], title: str | None = None) -> None:
    """Print the layers of a document of `bench`, or of an artifact in one, if they were asked for."""
    if document.get("layers"):
        console.print(_table(rows_of(document["layers"]), title, console.width))
        console.print(Text(_total(document), style="dim"))
    elif "layers" in document:
        why = document["layers_unavailable"] or "the runtime gives none"
        console.print(Text(f"No times of single layers{f' of {title}' if title else ''}: {why}.", style="dim"))


def _total(document: dict[str, Any]) -> str:
    total, count = document["layers_total"], len(document["layers"])
    plain = render.latency_text(total["plain_ns"])
    return (
        f"{count} node{'s' * (count != 1)} of profiled runs add up to {render.latency_text(total['sum_ns'])},"
        f" {render.percent_text(total['ratio'], 0)} of the plain runs beside them ({plain})."
        " Profiling costs time of its own: compare the shares."
    )


def _table(rows: Sequence[Row], title: str | None, width: int) -> Table:
    wide = width >= WIDE
    shapes = ("input", "output") if wide else ("output",)
    table = render.table("layer", "kind", *shapes, *_RIGHT, "", right=(*shapes, *_RIGHT), title=title)
    bar = 20 if wide else 6
    shown, rest = rows[:MOST_ROWS], rows[MOST_ROWS:]
    kinds = [_shortened(row.kind, 24 if wide else 14) for row in shown]
    cells = [
        (
            *((_shape(row.input_shape),) if wide else ()),
            _shape(row.output_shape),
            _time(row.time_ns),
            render.percent_text(row.share),
        )
        for row in shown
    ]
    if rest:
        cells.append(
            (
                *[""] * len(shapes),
                render.latency_text(sum(row.time_ns for row in rest)),
                render.percent_text(sum(row.share for row in rest)),
            )
        )
    titles = (*shapes, *_RIGHT)
    taken = sum(max(len(titles[place]), *(len(row[place]) for row in cells)) for place in range(len(titles)))
    # Three spaces stand between columns, one at each end.
    room = max(12, width - taken - max(len("kind"), *map(len, kinds)) - bar - 3 * (len(titles) + 2) - 2)
    largest = rows[0].share or 1.0
    for row, kind, own in zip(shown, kinds, cells, strict=False):
        name = render.DASH if row.name is None else _tail(row.name, room)
        render.add_row(table, name, kind, *own, "█" * round(bar * row.share / largest))
    if rest:
        render.add_row(table, f"{len(rest)} others", "", *cells[-1], "")
    return table


def _time(time_ns: float) -> str:
    """Profilers count whole microseconds: what is below one is known to be short, and no more."""
    return render.latency_text(time_ns) if time_ns >= 1000 else "< 1 µs"


def _shape(sizes: Sequence[int] | None) -> str:
    return render.DASH if sizes is None else "x".join(map(str, sizes)) or "scalar"


def _shortened(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: room - 1]}…"


def _tail(text: str, room: int) -> str:
    """Cut the beginning: paths differ at their ends."""
    return text if len(text) <= room else f"…{text[-(room - 1) :]}"
