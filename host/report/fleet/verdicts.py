"""What the results say about themselves: how often, where, what it means, and what to do. And jobs that gave no result."""

from __future__ import annotations

from collections import Counter, defaultdict

from device_agent.contract.measurement import Verdict, VerdictCode
from host.cli import render
from host.report.fleet.data import FleetData, Result
from host.report.fleet.summary import code_mark
from host.report.markup import Markup, el, join
from host.report.tables import facts, section, table

_DEVICES = 6
_FAILURES = 60
#: What a code means, in the words of docs/measuring.md.
MEANINGS = {
    VerdictCode.STABLE: "Nothing speaks against the figures.",
    VerdictCode.UNSTABLE: "The latency drifted, jumped between two levels, or spread so wide that its median is not known well "
    "enough. The figure may be another one next time.",
    VerdictCode.CONTENDED: "Other work took the processor meanwhile. The undisturbed median stands where there is one; mean, "
    "tail and energy hold the waiting.",
    VerdictCode.THROTTLED: "Kernel or firmware capped the clock during the runs: a cool board is faster than this figure.",
    VerdictCode.UNDER_VOLTAGE: "The supply voltage fell too low. Clocks are capped, and crashes may follow.",
    VerdictCode.HOT: "The board came within five degrees of where it throttles; a longer run would have been slower.",
    VerdictCode.TOO_SHORT: "A run is so short that the clock and the loop are a visible part of it.",
    VerdictCode.FELL_BACK: "The execution provider or delegate that was asked for ran none or not all of the nodes: this is not "
    "the figure that was asked for.",
}


def verdicts(data: FleetData) -> Markup | None:
    """Return a row per code that occurs, the most frequent first."""
    if not data.results:
        return None
    found: dict[VerdictCode, list[tuple[Result, Verdict]]] = defaultdict(list)
    for result in data.results:
        for verdict in result.verdicts:
            found[verdict.code].append((result, verdict))
    ordered = sorted(found.items(), key=lambda row: (row[0] is VerdictCode.STABLE, -len(row[1]), row[0].value))
    columns = ("verdict", "results", "where", "what it means", "worst figure", "what to do")
    rows = []
    for code, cases in ordered:
        hints = Counter(verdict.hint for _, verdict in cases if verdict.hint)
        rows.append(
            (
                code_mark(code),
                str(len({(each.measurement_id, each.setup.artifact) for each, _ in cases})),
                _where(cases),
                MEANINGS[code],
                _worst(cases),
                join([el("p", f"{_sentence(hint)}") for hint, _ in hints.most_common(3)]) if hints else render.DASH,
            )
        )
    return section("verdicts", "Verdicts", el("div", table(columns, rows), class_="wide"))


def _where(cases: list[tuple[Result, Verdict]]) -> str:
    devices = Counter(result.setup.device for result, _ in cases)
    named = [f"{name} ({count})" for name, count in devices.most_common(_DEVICES)]
    left = len(devices) - len(named)
    return ", ".join(named) + (f" and {left} more" if left else "")


def _worst(cases: list[tuple[Result, Verdict]]) -> str:
    known = [(verdict, result) for result, verdict in cases if verdict.value is not None and verdict.threshold]
    if not known:
        return render.DASH
    verdict, result = max(known, key=lambda row: abs(row[0].value or 0.0) / abs(row[0].threshold or 1.0))
    value, threshold = render.number_text(verdict.value), render.number_text(verdict.threshold)
    return f"{value} against {threshold} ({verdict.unit}), {result.setup.artifact_name} on {result.setup.device}"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def failures(data: FleetData) -> Markup | None:
    """Return the jobs of a sweep that gave no result, those of one error together; None where there are none."""
    if data.sweep is None or not data.sweep.failures:
        return None
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for each in data.sweep.failures:
        groups[(each.state, each.error)].append(f"{each.artifact_name} on {each.device}")
    ordered = sorted(groups.items(), key=lambda row: -len(row[1]))
    columns = ("state", "jobs", "which", "error")
    rows = []
    for (state, error), jobs in ordered[:_FAILURES]:
        more = len(jobs) - _DEVICES
        which = "; ".join(jobs[:_DEVICES]) + (f"; and {more} more" if more > 0 else "")
        rows.append((state, str(len(jobs)), which, error))
    left = len(ordered) - len(rows)
    words = (
        "Errors that another attempt may mend were tried again; these were not mended, or no attempt could mend them."
    )
    return section(
        "failures",
        "Jobs without a result",
        el("p", words + (f" {left} more errors are left out." if left else "")),
        el("div", table(columns, rows, right=("jobs",)), class_="wide"),
    )


def environment(data: FleetData) -> Markup:
    """Return the devices, where the report comes from, and what it leaves out."""
    columns = ("device", "profile", "board", "processor", "memory", "governor", "system", "agent")
    rows = [
        (
            each.name,
            render.text_or_dash(each.profile),
            each.board,
            f"{each.cpu}, {each.cores} cores",
            render.bytes_text(each.memory_bytes),
            render.text_or_dash(each.governor),
            each.system,
            each.agent_version,
        )
        for each in data.devices
    ]
    about = [("made by", f"Boardfit {data.boardfit}"), ("command", data.command)]
    if data.sweep is not None:
        about += [
            ("sweep", f"{data.sweep.name} (#{data.sweep.id})"),
            ("created", f"{data.sweep.created_at:%Y-%m-%d %H:%M} UTC"),
            ("seed of the order", str(data.sweep.seed)),
        ]
    return section(
        "environment",
        "Environment",
        facts(about),
        el("h3", "Devices", class_="apart") if rows else None,
        table(columns, rows) if rows else None,
        el("h3", "Left out of this page", class_="apart") if data.left_out else None,
        el("ul", *(el("li", each) for each in data.left_out), class_="plain") if data.left_out else None,
    )
