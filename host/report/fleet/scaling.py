"""What more threads bring: the median latency against their number, beside the line of a perfect division."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from host.cli import render
from host.report.axes import Axis, time_unit
from host.report.charts import Point, Series, chart, legend
from host.report.fleet.data import Cell, FleetData, artifact_names, cells
from host.report.markup import Markup, el
from host.report.tables import figure, folded, section, table

MOST_CHARTS = 12

_Key = tuple[str, str, str, str, str]


def threads(data: FleetData) -> Markup | None:
    """Return a chart per artifact, device and runtime that ran with several numbers of threads; None where none did."""
    names = artifact_names(data)
    found: dict[_Key, dict[int, Cell]] = defaultdict(dict)
    for cell in cells(data):
        setup = cell.setup
        key = (
            names[setup.artifact],
            setup.device,
            f"{setup.runtime} {setup.runtime_version}",
            setup.provider,
            setup.settings,
        )
        # Of several environments the one that was measured last: a line must not join two kernels.
        known = found[key].get(setup.threads)
        if known is None or cell.results[-1].created_at > known.results[-1].created_at:
            found[key][setup.threads] = cell
    several = {key: by_threads for key, by_threads in sorted(found.items()) if len(by_threads) > 1}
    if not several:
        return None
    shown = _one_per_profile(several)[:MOST_CHARTS]
    left = len(several) - len(shown)
    columns = ("artifact", "device", "runtime", "threads", "p50", "speed-up", "efficiency")
    rows = [row for key, by_threads in shown for row in _rows(key, by_threads)]
    return section(
        "threads",
        "Threads",
        el(
            "p",
            "Median latency by number of threads. The dashed line is what it would be if the work divided without loss. "
            "Efficiency is the speed-up over the number of threads."
            + (f" One device of each profile is shown; charts left out: {left}." if left else ""),
        ),
        el("div", *(_figure(key, by_threads) for key, by_threads in shown), class_="charts"),
        folded("The figures by threads as a table", table(columns, rows, right=columns[3:])),
    )


def _one_per_profile(several: dict[_Key, dict[int, Cell]]) -> list[tuple[_Key, dict[int, Cell]]]:
    """Return the first device of each profile, per artifact and runtime: boards of a kind tell the same."""
    kept: dict[tuple[str, ...], tuple[_Key, dict[int, Cell]]] = {}
    for key, by_threads in several.items():
        name, device, *how = key
        profile = next(iter(by_threads.values())).setup.profile or device
        kept.setdefault((name, profile, *how), (key, by_threads))
    return list(kept.values())


def _figure(key: _Key, by_threads: dict[int, Cell]) -> Markup:
    name, device, runtime, _, settings = key
    counts = sorted(by_threads)
    unit, scale = time_unit(by_threads[counts[0]].p50_ns)
    values = [by_threads[count].p50_ns / scale for count in counts]
    highest = max(cell.range_ns[1] for cell in by_threads.values()) / scale
    ideal = [values[0] * counts[0] / count for count in counts]
    where = ", ".join(filter(None, (f"{name} on {device}", runtime, settings)))
    drawn = chart(
        [
            Series(name="ideal", style="base", points=_points(counts, ideal), line=True, dots=False, dashed=True),
            Series(name="measured", style="accent", points=_measured(counts, by_threads, scale), line=True),
        ],
        title=f"Latency by threads of {where}",
        description=f"Median latency with {_listed(counts)} threads; the table below has the figures.",
        x=Axis(
            label="threads",
            low=counts[0] - 0.3,
            high=counts[-1] + 0.3,
            exact=True,
            step=max(1, round((counts[-1]) / 8)),
        ),
        y=Axis(label=f"latency, {unit}", low=0, high=highest * 1.05),
    )
    return figure(where, drawn, legend([("accent", "measured"), ("base", "if it divided without loss")]))


def _points(counts: Sequence[int], values: Sequence[float]) -> tuple[Point, ...]:
    return tuple(Point(x=count, y=value) for count, value in zip(counts, values, strict=True))


def _measured(counts: Sequence[int], by_threads: dict[int, Cell], scale: float) -> tuple[Point, ...]:
    made = []
    for count in counts:
        cell = by_threads[count]
        low, high = (value / scale for value in cell.range_ns)
        title = f"{count} threads: {render.latency_text(cell.p50_ns)}"
        made.append(Point(x=count, y=cell.p50_ns / scale, low=low if high > low else None, high=high, title=title))
    return tuple(made)


def _listed(counts: Sequence[int]) -> str:
    return f"{', '.join(map(str, counts[:-1]))} and {counts[-1]}"


def _rows(key: _Key, by_threads: dict[int, Cell]) -> list[tuple[str, ...]]:
    counts = sorted(by_threads)
    first = by_threads[counts[0]].p50_ns
    rows: list[tuple[str, ...]] = []
    for count in counts:
        gain = first / by_threads[count].p50_ns
        efficiency = gain * counts[0] / count
        rows.append(
            (
                key[0],
                key[1],
                ", ".join(filter(None, (key[2], key[4]))),
                str(count),
                render.latency_text(by_threads[count].p50_ns, like_ns=first),
                f"{render.number_text(gain)}x",
                render.percent_text(efficiency, 0),
            )
        )
    return rows
