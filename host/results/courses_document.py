"""The JSON document of `host history --json`; docs/json-schema.md describes it. Nothing is rounded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from device_agent.contract.plain_json import to_json
from host.results.compare_rules import settings
from host.results.courses import ExplainedShift, ModelCourse

SCHEMA = 1


def courses_document(
    model: str, metric: str, courses: Sequence[ModelCourse], *, name_of: Callable[[str, str | None], str]
) -> dict[str, Any]:
    """Return the document. `name_of(device_id, stored name)` is what this host calls a device."""
    return {
        "schema": SCHEMA,
        "model": model,
        "metric": metric,
        "courses": [_course(each, name_of) for each in courses],
        "slower": any(each.slower for each in courses),
    }


def _course(course: ModelCourse, name_of: Callable[[str, str | None], str]) -> dict[str, Any]:
    last = course.points[-1]
    outliers = set(course.course.outliers)
    return {
        "model": last.line.name,
        "device": {
            "id": last.line.device_id,
            "name": name_of(last.line.device_id, last.line.device_name),
            "profile": last.line.profile,
            "board": last.environment.board,
        },
        "settings": to_json(settings(last.environment, without={"device_id", "alone"})),
        "undisturbed": course.undisturbed,
        "noise": course.course.noise,
        "points": [
            {
                "measurement_id": entry.number,
                "created_at": entry.line.created_at.isoformat(),
                "value": value,
                "sha256": entry.line.sha256,
                "runtime_version": entry.environment.runtime_version,
                "verdict": list(entry.line.verdicts),
                "outlier": place in outliers,
            }
            for place, (entry, value) in enumerate(zip(course.points, course.values, strict=True))
        ],
        "shifts": [_shift(each, course) for each in course.shifts],
        "suspect": course.suspect,
        "slower": course.slower,
    }


def _shift(explained: ExplainedShift, course: ModelCourse) -> dict[str, Any]:
    shift = explained.shift
    first = course.points[shift.at]
    return {
        "point": shift.at,
        "measurement_id": first.number,
        "created_at": first.line.created_at.isoformat(),
        "change": shift.change,
        "change_interval": [shift.low, shift.high],
        "causes": [
            {
                "field": each.field,
                "before": to_json(each.baseline),
                "after": to_json(each.candidate),
                "text": each.text,
            }
            for each in explained.causes
        ],
        "artifact_before": explained.before,
        "artifact_after": explained.after,
        "recent": explained.recent,
    }
