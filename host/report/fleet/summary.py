"""The top of a fleet report and its table of everything that was measured."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from device_agent.contract.measurement import VerdictCode
from device_agent.contract.statistics import median
from host.cli import render
from host.report.fleet.data import Cell, FleetData, artifact_names, cells
from host.report.markup import Markup, el, join
from host.report.tables import Cell as Shown
from host.report.tables import section, sortable, tiles

#: Rows of the table; more make a page that nobody reads and that a phone cannot open.
MOST_ROWS = 400
#: From so many rows on, artifacts are summed up by profile first.
MANY_ROWS = 40


def head(data: FleetData) -> Markup:
    """Return title, what was chosen, what is to be said first, and four figures."""
    return el(
        "header",
        el("p", f"Boardfit fleet report, {data.made_at:%Y-%m-%d %H:%M} UTC", class_="eyebrow"),
        el("h1", data.title),
        el("p", data.chosen, class_="lead"),
        _verdict(data),
        _tiles(data),
    )


def _verdict(data: FleetData) -> Markup | None:
    total = len(data.results)
    doubtful = sum(not each.stable for each in data.results)
    if data.sweep is not None:
        states = data.sweep.states
        lost = states.get("failed", 0) + states.get("skipped", 0)
        left = states.get("waiting", 0) + states.get("running", 0)
        every = sum(states.values())
        said = f"{states.get('done', 0)} of {every} jobs are done, {lost} failed or were skipped, {left} are still to come."
        style, lead = (
            ("unmet", "Some jobs failed.") if lost else ("open", "Under way.") if left else ("met", "Complete.")
        )
        more = f" {doubtful} of {total} results are not stable; see Verdicts." if doubtful else ""
        return el("p", el("b", lead), f" {said}{more}", class_=f"verdict {style}")
    if not total:
        return None
    if not doubtful:
        return el("p", el("b", "All stable."), " Nothing speaks against any of the figures.", class_="verdict met")
    return el(
        "p",
        el("b", f"{doubtful} of {total} results are not stable."),
        " Each says why; see Verdicts for what it means and what to do.",
        class_="verdict open",
    )


def _tiles(data: FleetData) -> Markup:
    devices = {each.setup.device for each in data.results}
    profiles = {each.setup.profile for each in data.results if each.setup.profile is not None}
    artifacts = {each.setup.artifact for each in data.results}
    stable = sum(each.stable for each in data.results)
    runs = sum(each.runs for each in data.results)
    ways = len({(each.setup.runtime, each.setup.threads, each.setup.settings) for each in data.results})
    share = render.percent_text(stable / len(data.results), 0) if data.results else render.DASH
    shown = (
        ("Results", f"{len(data.results):,}", f"{runs:,} timed runs"),
        ("Devices", f"{len(devices):,}", f"{_count(len(profiles), 'profile')} among them"),
        ("Artifacts", f"{len(artifacts):,}", f"measured in {_count(ways, 'way')}"),
        ("Stable", share, f"{stable:,} of {len(data.results):,} results"),
    )
    return tiles(shown)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def table(data: FleetData) -> Markup | None:
    """Return a row per artifact, device and settings; None without results."""
    every = cells(data)
    if not every:
        return None
    names = artifact_names(data)
    repeated = any(len(each.results) > 1 for each in every)
    shown = every[:MOST_ROWS]
    columns = (
        "artifact", "device", "threads", "p50", *(("range of p50",) if repeated else ()), "p90", "p99", "memory", "energy",
        "verdict", "runtime and settings",
    )  # fmt: skip
    words = (
        "A row is an artifact on a device with one runtime and one set of settings, in one environment. p50, p90 and p99 are of "
        "all timed runs; memory is the peak above the runtime's import; energy is per run, idle share included. What is not "
        "known is a dash."
    )
    if repeated:
        words += " Figures of repeats are their medians; their number is in brackets. Environments are kept apart."
    if len(every) > len(shown):
        words += f" The first {len(shown):,} of {len(every):,} rows are here; a report on one device or artifact has them all."
    return section(
        "summary",
        "Summary",
        el("p", words),
        _by_profile(every, names) if len(every) > MANY_ROWS else None,
        sortable(columns, (_row(each, names, repeated) for each in shown), right=columns[2:-2], whole=("device",)),
    )


def _row(cell: Cell, names: dict[str, str], repeated: bool) -> tuple[Shown, ...]:
    setup = cell.setup
    low, high = cell.range_ns
    like = cell.p50_ns
    low_text, high_text = (render.latency_text(each, like_ns=like) for each in (low, high))
    repeats = len(cell.results)
    spread = f"{low_text.split()[0]} - {high_text} ({repeats})" if repeats > 1 else render.DASH
    return (
        Shown(shown=names[setup.artifact]),
        Shown(shown=setup.device),
        Shown(shown=str(setup.threads), value=setup.threads),
        Shown(shown=render.latency_text(like), value=like),
        *((Shown(shown=spread, value=high - low, absent=repeats == 1),) if repeated else ()),
        *(Shown(shown=render.latency_text(each, like_ns=like), value=each) for each in (cell.p90_ns, cell.p99_ns)),
        _known(render.bytes_text(cell.peak_memory_bytes), cell.peak_memory_bytes),
        _known(render.energy_text(cell.energy_j), cell.energy_j),
        Shown(shown=codes(cell)),
        Shown(shown=setup.way),
    )


def _known(text: str, value: float | None) -> Shown:
    return Shown(shown=text, value=value, absent=value is None)


def codes(cell: Cell) -> Markup:
    """Return the verdicts of all repeats, each with how many have it where they differ."""
    found = Counter(code for result in cell.results for code in {each.code for each in result.verdicts})
    every = len(cell.results)
    return join(
        [
            code_mark(code, "" if count == every else f" {count}/{every}")
            for code, count in sorted(found.items(), key=lambda row: (row[0] is not VerdictCode.STABLE, row[0].value))
        ],
        " ",
    )


def code_mark(code: VerdictCode, more: str = "") -> Markup:
    """Return a verdict's code as it stands out in tables."""
    return el("span", code.value, more, class_=f"code {code.value}")


def _by_profile(every: Sequence[Cell], names: dict[str, str]) -> Markup:
    """Return a row per artifact, profile and settings: how far the devices lie apart."""
    groups: dict[tuple[str, str, str], list[Cell]] = defaultdict(list)
    for cell in every:
        groups[(names[cell.setup.artifact], cell.setup.profile or render.DASH, cell.setup.how)].append(cell)
    columns = (
        "artifact",
        "profile",
        "runtime and settings",
        "devices",
        "p50, middle device",
        "fastest",
        "slowest",
        "stable",
    )
    rows = []
    for (name, profile, how), members in sorted(groups.items())[:MOST_ROWS]:
        values = sorted((each.p50_ns, each.setup.device) for each in members)
        middle = median(value for value, _ in values)
        results = sum(len(each.results) for each in members)
        stable = sum(each.stable for each in members)
        rows.append(
            (
                Shown(shown=name),
                Shown(shown=profile),
                Shown(shown=how),
                Shown(shown=str(len({each.setup.device for each in members})), value=len(members)),
                Shown(shown=render.latency_text(middle), value=middle),
                *(
                    Shown(shown=f"{render.latency_text(value, like_ns=middle)} ({device})", value=value)
                    for value, device in (values[0], values[-1])
                ),
                Shown(shown=f"{stable} of {results}", value=stable / results),
            )
        )
    return join(
        [
            el("h3", "By artifact and profile"),
            sortable(columns, rows, right=columns[3:]),
            el("h3", "By device", class_="apart"),
        ]
    )
