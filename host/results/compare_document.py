"""The JSON document of `host compare --json`; docs/json-schema.md describes it. Nothing is rounded."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from device_agent.contract.plain_json import to_json
from host.results.compare import Change
from host.results.compare_bounds import Judgement, Met
from host.results.compare_match import Entry, Refusal
from host.results.compare_rules import Difference, setting_words, settings
from host.results.compare_run import Comparison, Row
from host.results.environment import Environment

SCHEMA = 1


def compare_document(comparison: Comparison, *, name_of: Callable[[str, str | None], str]) -> dict[str, Any]:
    """Return the document. `name_of(device_id, stored name)` is what this host calls a device."""
    return {
        "schema": SCHEMA,
        "baseline": comparison.baseline.side.text,
        "candidate": comparison.candidate.side.text,
        "across": list(comparison.across),
        "confidence": comparison.confidence,
        "difference": comparison.difference,
        "rows": sorted((_row(row, name_of) for row in comparison.rows), key=_place),
        "refused": sorted((_refusal(each, name_of) for each in comparison.refused), key=_place),
        "met": met_of(comparison.rows),
        "truncated": comparison.truncated,
    }


def met_of(rows: Sequence[Row]) -> str | None:
    """Return what all bounds together say: met if one is, else undecided if one is; None without bounds."""
    found: set[Met] = {judgement.met for row in rows for judgement in row.judgements}
    for each in (Met.MET, Met.UNDECIDED, Met.NOT_MET):
        if each in found:
            return str(each.value)
    return None


def _row(row: Row, name_of: Callable[[str, str | None], str]) -> dict[str, Any]:
    match = row.match
    return {
        "model": match.model,
        "device": _device(match.candidate[0], name_of),
        "environment": environment_document(match.candidate[0].environment),
        "settings": to_json(settings(match.candidate[0].environment, without={"device_id", "alone"})),
        "baseline": _side(match.baseline),
        "candidate": _side(match.candidate),
        "pairs": [number for number, _, _ in match.pairs],
        "metrics": {metric: _change(change) for metric, change in row.changes.items()},
        "decision": None if row.decision is None else row.decision.value,
        "bounds": [_judgement(each) for each in row.judgements],
        "differences": [_difference(each) for each in match.allowed],
        "remarks": list(row.remarks),
    }


def _place(row: Mapping[str, Any]) -> tuple[list[Any], ...]:
    """Return where a row or a refusal stands: by model, device and settings. Numbers within names count as numbers."""
    settings, environment = row.get("settings", {}), row.get("environment", {})
    texts = [
        *([row["model"]] if row["model"] else [row[side]["name"] for side in ("baseline", "candidate") if side in row]),
        row["device"]["name"],
        row["device"]["id"],
        *(str(settings.get(field, "")) for field in ("runtime", "provider", "threads")),
        ", ".join(setting_words(settings)),
        *map(str, environment.values()),
    ]
    return tuple([int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", text)] for text in texts)


def _side(entries: Sequence[Entry]) -> dict[str, Any]:
    first = entries[0].line
    return {
        "name": first.name,
        "sha256": first.sha256,
        "measurements": [each.number for each in entries],
        "newest": first.created_at.isoformat(),
        "oldest": entries[-1].line.created_at.isoformat(),
    }


def _change(change: Change) -> dict[str, Any]:
    return {
        "baseline": change.baseline,
        "candidate": change.candidate,
        "change": change.change,
        "change_interval": _interval(change.low, change.high),
        "candidate_interval": _interval(change.low_level, change.high_level),
        "method": change.method.value,
        "measurements": list(change.measurements),
        "run_to_run": change.run_to_run,
        "deviation": change.deviation,
    }


def _judgement(judgement: Judgement) -> dict[str, Any]:
    return {"text": judgement.bound.text, "met": judgement.met.value, "hint": judgement.hint}


def _refusal(refusal: Refusal, name_of: Callable[[str, str | None], str]) -> dict[str, Any]:
    return {
        "model": refusal.model,
        "device": {"id": refusal.device_id, "name": name_of(refusal.device_id, refusal.device_name)},
        "differences": [_difference(each) for each in refusal.differences],
    }


def _difference(difference: Difference) -> dict[str, Any]:
    return {
        "field": difference.field,
        "baseline": to_json(difference.baseline),
        "candidate": to_json(difference.candidate),
        "text": difference.text,
    }


def _device(entry: Entry, name_of: Callable[[str, str | None], str]) -> dict[str, Any]:
    line = entry.line
    return {
        "id": line.device_id,
        "name": name_of(line.device_id, line.device_name),
        "profile": line.profile,
        "board": entry.environment.board,
        "cpu": entry.environment.cpu,
    }


def environment_document(environment: Environment) -> dict[str, Any]:
    """Return what may change on its own and is compared."""
    return {
        name: getattr(environment, name)
        for name in ("runtime_version", "governor", "kernel", "agent_version", "operating_system", "python")
    }


def _interval(low: float | None, high: float | None) -> list[float] | None:
    return None if low is None or high is None else [low, high]
