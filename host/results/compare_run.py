"""`host compare A B` without the command line: find both sides, match their results, compare, judge."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from device_agent.contract.decision import DIFFERENCE, ERROR_RATE, DecisionCode, code_of
from device_agent.contract.errors import InvalidRequest, StableError
from device_agent.contract.pairs import PairedRatio
from host.results.compare import Change
from host.results.compare_bounds import Bound, Judgement, judge
from host.results.compare_figures import Figures, file_changes, file_facts, stored_facts
from host.results.compare_match import Match, Refusal, entries_of, match
from host.results.compare_rules import allowed_fields
from host.results.compare_sides import FoundSide, find_side, implied_differences, parse_side
from host.results.lines import ResultLine, list_lines
from host.results.store import NotInHistory, ResultStore

#: Results of a side that are looked at, the newest; of a sweep all of an ordinary one.
MOST_LINES, MOST_OF_SWEEP = 3_000, 30_000
#: With more matches than this samples are read only where they must be.
MANY = 20


class NotComparable(StableError):
    """The two sides were measured in environments that differ where they must not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOptions:
    """What is asked besides the sides. `devices` are ids; `across` names fields that may differ; `last` measurements a side."""

    devices: Collection[str] | None = None
    runtime: str | None = None
    threads: int | None = None
    across: tuple[str, ...] = ()
    stable_only: bool = False
    last: int = 20
    difference: float = DIFFERENCE
    bounds: tuple[Bound, ...] = ()

    def __post_init__(self) -> None:
        if self.last < 1:
            raise InvalidRequest(f"--last {self.last} leaves no measurement")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What became of one match. `decision` is on the median; None without one. `remarks` are sentences."""

    match: Match
    changes: dict[str, Change]
    decision: DecisionCode | None
    judgements: tuple[Judgement, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All that was compared, and what was refused. `across` are the fields that were allowed to differ.

    The error rate is that of all rows together: each interval is at `confidence`.
    """

    baseline: FoundSide
    candidate: FoundSide
    rows: tuple[Row, ...]
    refused: tuple[Refusal, ...]
    across: tuple[str, ...]
    confidence: float
    difference: float
    truncated: bool


def compare(
    store: ResultStore,
    baseline: str,
    candidate: str,
    options: CompareOptions | None = None,
    *,
    files: Sequence[Path | None] = (None, None),
) -> Comparison:
    """Compare what the texts name (see compare_sides). `files` are the models' own where the texts do not name them.

    Raises InvalidRequest for texts that make no sense, NotInHistory where a side has no results, or the two none of one model
    on one device. Results that may not be compared are in `refused`.
    """
    options = options or CompareOptions()
    sides = [find_side(store, parse_side(text)) for text in (baseline, candidate)]
    paths = [side.path or path for side, path in zip(sides, files, strict=True)]
    across = allowed_fields({*options.across, *implied_differences(sides[0].side, sides[1].side)})
    found = [_lines(store, side, options) for side in sides]
    shared = {(line.measurement_id, line.position) for line in found[0]} & {
        (line.measurement_id, line.position) for line in found[1]
    }
    if shared:
        raise InvalidRequest(
            f"{baseline!r} and {candidate!r} share {len(shared)} result{'s' * (len(shared) > 1)}, such as measurement "
            f"#{min(shared)[0]}; name sides that do not overlap"
        )
    by_name = not all(side.artifact for side in sides)
    entries = [entries_of(store, lines) for lines in found]
    matches, refused = match(
        *entries,
        by_name=by_name,
        same_file=by_name or sides[0].side.word == sides[1].side.word,
        across=across,
        last=options.last,
    )
    if not matches and not refused:
        raise NotInHistory(_nothing_shared(baseline, candidate, *found, by_name=by_name))
    confidence = 1 - ERROR_RATE / max(1, len(matches))
    figures = Figures(store, confidence=confidence, sparing=len(matches) > MANY)
    return Comparison(
        baseline=sides[0],
        candidate=sides[1],
        rows=tuple(
            _row(each, {**figures.changes(each), **_of_files(store, paths, each, confidence)}, options)
            for each in matches
        ),
        refused=tuple(refused),
        across=tuple(sorted(across)),
        confidence=confidence,
        difference=options.difference,
        truncated=any(len(lines) >= _most(side) for side, lines in zip(sides, found, strict=True)),
    )


def _most(side: FoundSide) -> int:
    return MOST_LINES if side.wanted.sweep_id is None else MOST_OF_SWEEP


def _lines(store: ResultStore, side: FoundSide, options: CompareOptions) -> tuple[ResultLine, ...]:
    """Return a side's results. NotInHistory if there are none."""
    wanted = side.wanted
    filters: dict[str, Any] = {"devices": options.devices, "runtime": options.runtime, "threads": options.threads}
    for field, value in filters.items():
        if value is not None:
            if getattr(wanted, field) not in (None, value):
                raise InvalidRequest(f"{side.side.text!r} and --{field} {value} exclude each other")
            wanted = replace(wanted, **{field: value})
    lines = list_lines(store, wanted, limit=_most(side))
    if side.side.place is not None:
        lines = tuple(line for line in lines if line.position == side.side.place - 1)
    elif side.side.measurement is not None and len(lines) > 1:
        names = ", ".join(f"#{line.measurement_id}:{line.position + 1} ({line.name})" for line in reversed(lines))
        raise InvalidRequest(f"measurement {side.side.text} has several models: {names}; name one of them")
    if options.stable_only:
        lines = tuple(line for line in lines if line.verdicts == ("stable",))
    lines = tuple(line for line in lines if line.p50_ns is not None)
    if not lines:
        raise NotInHistory(_no_results(side, options))
    return lines


def _no_results(side: FoundSide, options: CompareOptions) -> str:
    filters = [
        name
        for name, value in (
            ("--device", options.devices), ("--runtime", options.runtime), ("--threads", options.threads),
            ("--stable-only", options.stable_only or None),
        )
        if value is not None
    ]  # fmt: skip
    where = f" that match {' and '.join(filters)}" if filters else ""
    what = side.path.name if side.path is not None else side.side.text
    hint = (
        f"; measure it with `host bench {side.side.text} --device NAME`, or both in turns with --measure --device NAME"
        if side.path is not None
        else ""
    )
    file = f" (the content of {side.path})" if side.path is not None else ""
    return f"the history has no results of {what}{file}{where}{hint}"


def _nothing_shared(
    baseline: str, candidate: str, one: Sequence[ResultLine], other: Sequence[ResultLine], *, by_name: bool
) -> str:
    """Say why no result of the one has a counterpart."""

    def some(lines: Sequence[ResultLine], name: str) -> str:
        values = sorted({str(getattr(line, name) or line.device_id[:8]) for line in lines})
        return ", ".join(values[:5]) + (f" and {len(values) - 5} more" if len(values) > 5 else "")

    devices = f"devices {some(one, 'device_name')} against {some(other, 'device_name')}"
    if by_name:
        return (
            f"{baseline!r} and {candidate!r} have no model on the same device in common: models {some(one, 'name')} against "
            f"{some(other, 'name')}, {devices}"
        )
    return (
        f"{baseline!r} and {candidate!r} were not measured on the same device: {devices}. Measure both on one "
        "(--measure --device NAME), or compare the devices with --across device"
    )


def _of_files(store: ResultStore, paths: Sequence[Path | None], found: Match, confidence: float) -> dict[str, Change]:
    """Return the changes of size and accuracy, where each side is one model."""
    if found.model is not None:
        return {}
    files = [entries[0].line.sha256 for entries in (found.baseline, found.candidate)]
    facts = [{**stored_facts(store, sha256), **file_facts(path)} for path, sha256 in zip(paths, files, strict=True)]
    return file_changes(*facts, confidence=confidence)


def _row(found: Match, changes: dict[str, Change], options: CompareOptions) -> Row:
    median = changes.get("p50")
    decision = None
    if median is not None:
        low, high = (None if end is None else 1 + end for end in (median.low, median.high))
        ratio = PairedRatio(ratio=1 + median.change, low=low, high=high, blocks=0, confidence=median.confidence)
        decision = code_of(ratio, options.difference)
    remarks = list(found.remarks)
    if median is not None and not median.run_to_run:
        remarks.append(_not_contained(median))
    for who, side in (("baseline", found.baseline), ("candidate", found.candidate)):
        codes = [sorted(set(each.line.verdicts) - {"stable"}) for each in side]
        bad = sum(map(bool, codes))
        if bad:
            names = ", ".join(sorted({code for each in codes for code in each}))
            remarks.append(
                f"{bad} of {len(side)} measurements of the {who} {'is' if bad == 1 else 'are'} not stable: {names}"
            )
    return Row(
        match=found,
        changes=changes,
        decision=decision,
        judgements=tuple(judge(bound, changes.get(bound.metric)) for bound in options.bounds),
        remarks=tuple(remarks),
    )


def _not_contained(median: Change) -> str:
    """Say what an interval leaves out."""
    if median.method.value == "paired":
        return (
            f"the interval is from {median.measurements[0]} measurement{'s' * (median.measurements[0] > 1)} in turns and does "
            "not contain what differs from one start of the worker to the next"
        )
    return (
        "with one measurement on each side the interval does not contain what differs from one measurement to the next; measure "
        "each two more times, or in turns with --measure"
    )
