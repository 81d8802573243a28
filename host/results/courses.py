"""The history of a model on devices: one course for each device and setting, with its level shifts and what explains them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from device_agent.contract.errors import InvalidRequest
from host.results.changepoints import RECENT, Course, Shift, course_of, recent_rise
from host.results.compare_match import Entry, entries_of
from host.results.compare_rules import Difference, Weight, differences, setting_words, settings
from host.results.compare_sides import find_side, parse_side
from host.results.lines import ResultLine, list_lines
from host.results.store import NotInHistory, ResultStore

#: Share of the points that must have enough undisturbed runs; else the median over all runs stands for every point.
_QUIET = 0.9
#: A small shift is found a point early or late.
_NEAR = 1
_METRICS: dict[str, Callable[[ResultLine], float | None]] = {
    "p50": lambda line: line.p50_ns,
    "p90": lambda line: line.p90_ns,
    "p99": lambda line: line.p99_ns,
    "peak_memory": lambda line: line.peak_memory_bytes,
    "energy": lambda line: line.energy_net_j if line.energy_net_j is not None else line.energy_gross_j,
}
METRICS = tuple(_METRICS)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedShift:
    """A shift and what changed where it began: of the environment, or the file (`before`, `after`: hashes; None if the same)."""

    shift: Shift
    causes: tuple[Difference, ...]
    before: str | None
    after: str | None
    recent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCourse:
    """What one model did on one device with one setting: points in the order of time, values in the metric's base unit.

    `undisturbed` says whether medians are over undisturbed runs only. `suspect` says that the last point is out of line: a shift
    may have begun with it, and only another measurement can tell. `slower` says whether the last shift is upwards and recent.
    """

    points: tuple[Entry, ...]
    values: tuple[float, ...]
    course: Course
    shifts: tuple[ExplainedShift, ...]
    suspect: bool
    slower: bool
    undisturbed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CourseOptions:
    """Which results make the courses. `devices` are ids; `last` is the most points of a course, the newest."""

    metric: str = "p50"
    devices: Collection[str] | None = None
    runtime: str | None = None
    threads: int | None = None
    stable_only: bool = False
    last: int = 300
    recent: int = RECENT

    def __post_init__(self) -> None:
        if self.metric not in _METRICS:
            raise InvalidRequest(f"--metric {self.metric} is none of {', '.join(METRICS)}")
        if self.last < 1 or self.recent < 1:
            raise InvalidRequest(f"--last {self.last} and --recent {self.recent} must be at least 1")


def courses_of(store: ResultStore, model: str, options: CourseOptions | None = None) -> tuple[ModelCourse, ...]:
    """Return the courses of what `model` names (a side of compare_sides), by device; all files of one name make one course.

    Raises InvalidRequest, and NotInHistory where there are no results.
    """
    options = options or CourseOptions()
    found = find_side(store, parse_side(model))
    wanted = found.wanted
    if options.runtime is not None:
        wanted = replace(wanted, runtime=options.runtime)
    if options.threads is not None:
        wanted = replace(wanted, threads=options.threads)
    devices: Sequence[Collection[str] | None] = (
        [wanted.devices] if options.devices is None else [(device,) for device in options.devices]
    )
    # In turns with others a model runs on other caches; such results are no points of its own history.
    lines = [
        line
        for chosen in devices
        for line in list_lines(store, replace(wanted, devices=chosen, alone=True), limit=options.last)
    ]
    if options.stable_only:
        lines = [line for line in lines if line.verdicts == ("stable",)]
    groups: dict[tuple[object, ...], list[Entry]] = defaultdict(list)
    for entry in entries_of(store, lines):
        name = None if found.artifact else entry.line.name
        if entry.environment.alone:
            key = (name, *settings(entry.environment).values())
            groups[key].append(entry)
    made = [_course(group[::-1], options) for group in groups.values()]
    kept = [each for each in made if each.points]
    if not kept:
        raise NotInHistory(
            f"the history has no results of {model} alone in its worker"
            f"{' that match the options' if options != CourseOptions() else ''}; `host bench {model} --device NAME` makes one"
        )
    return tuple(sorted(kept, key=_place))


def _place(course: ModelCourse) -> tuple[Any, ...]:
    """Return where a course stands: by device, then the longest first, then by model and settings."""
    last = course.points[-1]
    chosen = settings(last.environment)
    name, words = last.line.device_name or "", setting_words(chosen)
    return (name, -len(course.points), last.line.name, chosen["runtime"], chosen["provider"], chosen["threads"], words)


def _course(entries: Sequence[Entry], options: CourseOptions) -> ModelCourse:
    value_of = _METRICS[options.metric]
    quiet = False
    if options.metric == "p50":
        known = sum(entry.line.undisturbed_p50_ns is not None for entry in entries)
        quiet = known >= _QUIET * len(entries)
    points, values = [], []
    for entry in entries:
        value = entry.line.undisturbed_p50_ns if quiet else None
        value = value_of(entry.line) if value is None else value
        if value is not None and value > 0:
            points.append(entry)
            values.append(float(value))
    course = course_of(values)
    return ModelCourse(
        points=tuple(points),
        values=tuple(values),
        course=course,
        shifts=tuple(_explained(shift, points, options.recent) for shift in course.shifts),
        suspect=bool(course.outliers) and course.outliers[-1] == len(values) - 1,
        slower=recent_rise(course, recent=options.recent) is not None,
        undisturbed=quiet,
    )


def _explained(shift: Shift, points: Sequence[Entry], recent: int) -> ExplainedShift:
    causes: dict[str, Difference] = {}
    near = sorted(range(shift.at - _NEAR, shift.at + _NEAR + 1), key=lambda place: abs(place - shift.at))
    for place in near:
        if 0 < place < len(points):
            one, other = points[place - 1].environment, points[place].environment
            for each in differences(one, other, {Weight.STATE, Weight.REMARK}):
                causes.setdefault(each.field, each)
    before, after = points[shift.at - 1].line.sha256, points[shift.at].line.sha256
    changed = before != after
    return ExplainedShift(
        shift=shift,
        causes=tuple(causes.values()),
        before=before if changed else None,
        after=after if changed else None,
        recent=shift.at >= len(points) - recent,
    )
