"""What a faster artifact costs: fronts of accuracy, memory, energy and size against latency, one device at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from host.cli import render
from host.report.axes import spread_axis, time_unit
from host.report.charts import Point, Series, chart, legend
from host.report.fleet.data import Cell, FleetData, artifact_names, cells
from host.report.markup import Markup, el, join
from host.report.ridges import shortened
from host.report.tables import figure, folded, section, table

#: Devices with charts of their own; those with the most artifacts come first.
MOST_DEVICES = 6
_LABELLED = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Something that is weighed against latency. `rises`: more of it is better."""

    name: str
    label: str
    scale: float
    rises: bool
    missing: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One artifact in one setting on a device; `values` by the names of QUALITIES."""

    name: str
    how: str
    p50_ns: float
    values: dict[str, float | None]


QUALITIES = (
    Quality(
        name="accuracy", label="accuracy, %", scale=0.01, rises=True,
        missing="No accuracy is known: it comes from the records of host compress, and these artifacts are in none.",
    ),
    Quality(
        name="memory", label="peak memory, MB", scale=1e6, rises=False,
        missing="No peak memory is known: it is taken where an artifact has the worker for itself.",
    ),
    Quality(
        name="energy", label="energy per run, mJ", scale=1e-3, rises=False,
        missing="No energy is known: the device has no power sensor that the agent can read.",
    ),
    Quality(
        name="size", label="file size, MB", scale=1e6, rises=False,
        missing="No file size is known.",
    ),
)  # fmt: skip


def front(points: Sequence[tuple[float, float]], *, rises: bool) -> list[int]:
    """Return the places of the points (latency, quality) that no other beats in both, the fastest first; of equals the first."""
    sign = -1.0 if rises else 1.0
    ordered = sorted(range(len(points)), key=lambda place: (points[place][0], sign * points[place][1], place))
    kept: list[int] = []
    best = float("inf")
    for place in ordered:
        cost = sign * points[place][1]
        if cost < best:
            kept.append(place)
            best = cost
    return kept


def tradeoffs(data: FleetData) -> Markup | None:
    """Return the fronts of the devices on which there is something to choose; None where there is none."""
    names = artifact_names(data)
    by_device: dict[str, list[Cell]] = defaultdict(list)
    for cell in cells(data):
        by_device[cell.setup.device].append(cell)
    ranked = sorted(by_device.items(), key=lambda row: (-len({each.setup.artifact for each in row[1]}), row[0]))
    several = [(device, members) for device, members in ranked if len({each.setup.artifact for each in members}) > 1]
    if not several:
        return None
    shown = one_per_profile(several)[:MOST_DEVICES]
    left = len(several) - len(shown)
    more = (
        f" One device of each profile is shown; left out: {left}. A report on a device alone shows it." if left else ""
    )
    return section(
        "tradeoffs",
        "Trade-offs",
        el(
            "p",
            "Full points lie on the front: no other artifact or setting is both faster and better. Hollow "
            f"ones are beaten by one that is.{more}",
        ),
        *(_device(device, _options(data, members, names)) for device, members in shown),
    )


def one_per_profile(devices: Sequence[tuple[str, list[Cell]]]) -> list[tuple[str, list[Cell]]]:
    """Return the first device of each profile, and those that have none, in their order: boards of a kind tell the same."""
    seen: set[str] = set()
    found = []
    for device, members in devices:
        profile = members[0].setup.profile
        if profile is None or profile not in seen:
            found.append((device, members))
        if profile is not None:
            seen.add(profile)
    return found


def _options(data: FleetData, members: Sequence[Cell], names: dict[str, str]) -> list[Option]:
    found = []
    for cell in members:
        facts = data.artifacts.get(cell.setup.artifact)
        found.append(
            Option(
                name=names[cell.setup.artifact],
                how=cell.setup.how,
                p50_ns=cell.p50_ns,
                values={
                    "accuracy": None if facts is None else facts.accuracy,
                    "memory": cell.peak_memory_bytes,
                    "energy": cell.energy_j,
                    "size": None if facts is None or facts.size_bytes is None else float(facts.size_bytes),
                },
            )
        )
    return found


def _device(device: str, options: Sequence[Option]) -> Markup:
    drawn, missing, fronts = [], [], {}
    for quality in QUALITIES:
        known = [(place, each) for place, each in enumerate(options) if each.values[quality.name] is not None]
        if len({each.name for _, each in known}) < 2:
            missing.append(
                quality.missing if not known else f"{quality.name.capitalize()} is known of one artifact only."
            )
            continue
        made, kept = _figure(device, quality, [each for _, each in known])
        drawn.append(made)
        fronts[quality.name] = {known[place][0] for place in kept}
    columns = ("artifact", "runtime and settings", "p50", "accuracy", "memory", "energy", "size", "on a front")
    rows = [
        (
            each.name,
            each.how,
            render.latency_text(each.p50_ns),
            render.percent_text(each.values["accuracy"], 2),
            render.bytes_text(each.values["memory"]),
            render.energy_text(each.values["energy"]),
            render.bytes_text(each.values["size"]),
            ", ".join(name for name, places in fronts.items() if place in places) or render.DASH,
        )
        for place, each in enumerate(options)
    ]
    return join(
        [
            el("h3", device, class_="apart"),
            el("div", *drawn, class_="charts") if drawn else None,
            el("p", " ".join(missing), class_="muted after") if missing else None,
            folded(f"The figures of {device} as a table", table(columns, rows, right=columns[2:7])),
        ]
    )


def _figure(device: str, quality: Quality, options: Sequence[Option]) -> tuple[Markup, list[int]]:
    values = [(each.values[quality.name] or 0.0) / quality.scale for each in options]
    unit, scale = time_unit(min(each.p50_ns for each in options))
    latencies = [each.p50_ns / scale for each in options]
    kept = front(list(zip(latencies, values, strict=True)), rises=quality.rises)
    # Several settings of one artifact have its name once, at the fastest.
    names = [options[place].name for place in kept]
    labelled = {kept[names.index(name)] for name in names} if len(set(names)) <= _LABELLED else set()

    def point(place: int, label: bool) -> Point:
        each = options[place]
        figures = f"{render.latency_text(each.p50_ns)}, {quality.label} {render.number_text(values[place])}"
        title = f"{each.name}, {each.how}: {figures}"
        return Point(x=latencies[place], y=values[place], title=title, label=shortened(each.name, 26) if label else "")

    beaten = [place for place in range(len(options)) if place not in kept]
    drawn = chart(
        [
            Series(name="beaten", style="accent", points=tuple(point(place, False) for place in beaten), hollow=True),
            Series(
                name="front",
                style="accent",
                points=tuple(point(place, place in labelled) for place in kept),
                line=len(kept) > 1,
                stairs=True,
            ),
        ],
        title=f"{quality.name.capitalize()} against latency on {device}",
        description=f"{len(options)} artifacts and settings, {len(kept)} of them on the front; the table below has the figures.",
        x=spread_axis(f"latency, {unit}", latencies),
        y=spread_axis(quality.label, values, wide=20.0),
    )
    entries = [("accent", "on the front"), *([("hollow", "beaten")] if beaten else [])]
    return figure(f"{quality.name.capitalize()} and latency", drawn, legend(entries)), kept
