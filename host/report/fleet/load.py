"""From the history to a fleet report: lines first, then the samples of those few measurements that are drawn."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import islice

from sqlalchemy import select

import device_agent
from device_agent.contract.device import DeviceInfo
from device_agent.contract.disturbance import marks_are_void
from device_agent.contract.measurement import MeasureResult, VerdictCode
from device_agent.contract.plain_json import from_json
from device_agent.contract.settings import MeasureRequest
from host.report.fleet.data import (
    ArtifactFacts,
    Change,
    DeviceFacts,
    FleetData,
    LayerTimes,
    Result,
    Setup,
    Spread,
    SweepFacts,
)
from host.report.fleet.layers import MOST_CHARTS as MOST_LAYERS
from host.report.fleet.sensors import course_of, layer_times
from host.report.fleet.setups import Whole, setups_of
from host.report.fleet.spreads import MOST_CHARTS, MOST_ROWS
from host.results import models
from host.results.changepoints import course_of as level_course
from host.results.lines import LineFilter, ResultLine, count_lines, stream_lines
from host.results.store import ResultStore

#: Results of one page; of more the newest. A page of so many is some 2 MB.
MOST_RESULTS = 5000
MOST_COURSES = 8
_CHUNK = 500
_FEWEST_FOR_CHANGES = 6
#: The gravest first: of a device, the measurement is shown that says most about it.
_GRAVITY = (
    VerdictCode.UNDER_VOLTAGE, VerdictCode.THROTTLED, VerdictCode.HOT, VerdictCode.UNSTABLE, VerdictCode.CONTENDED,
    VerdictCode.FELL_BACK, VerdictCode.TOO_SHORT,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a page is about: a filter of the history, and the words for it. `name_of` names a device by its id and stored name."""

    filter: LineFilter
    title: str
    chosen: str
    command: str
    name_of: Callable[[str, str | None], str]
    sweep: SweepFacts | None = None


def load_fleet(
    store: ResultStore,
    wanted: Wanted,
    *,
    most: int = MOST_RESULTS,
    samples: bool = True,
    now: datetime | None = None,
) -> FleetData:
    """Return what the page shows, of `most` results, without `samples` neither single runs nor sensors. HistoryUnavailable."""
    total = count_lines(store, wanted.filter)
    lines = list(islice(stream_lines(store, wanted.filter), most))
    wholes = _wholes(store, {line.measurement_id for line in lines})
    devices = _devices(store, {line.environment_id for line in lines})
    setups = setups_of(lines, wholes, devices, wanted.name_of)
    results = tuple(
        _result(line, setups[index], wholes[line.measurement_id]) for index, line in enumerate(lines) if line.runs
    )
    left_out = []
    if total > len(lines):
        left_out.append(
            f"{total - len(lines):,} older results: the newest {len(lines):,} of {total:,} are here; choose a device, an "
            "artifact or a date, or take all with host export"
        )
    unread = len(lines) - len(results)
    if unread:
        left_out.append(f"{unread:,} results without a timed run")
    places = {(line.measurement_id, line.position): setups[index] for index, line in enumerate(lines)}
    spreads = _spreads(store, results, places) if samples else ()
    if samples and len(spreads) < len({each.setup for each in results}):
        left_out.append("the distributions of most artifacts and settings: the largest groups are shown")
    return FleetData(
        title=wanted.title,
        made_at=now or datetime.now(timezone.utc),
        boardfit=device_agent.__version__,
        command=wanted.command,
        chosen=wanted.chosen,
        results=results,
        spreads=spreads,
        courses=tuple(
            course
            for result, why in (_worst_per_device(results) if samples else ())
            if (course := course_of(store.get_measurement(result.measurement_id), result, why)) is not None
        ),
        layers=_layers(lines, wholes, places),
        changes=tuple(_changes(results)),
        artifacts=_artifacts(store, {line.sha256 for line in lines}),
        devices=_device_facts(lines, devices, wanted.name_of),
        sweep=wanted.sweep,
        left_out=tuple(left_out),
    )


def _wholes(store: ResultStore, numbers: Iterable[int]) -> dict[int, Whole]:
    found = {}
    ordered, row_of = sorted(numbers), models.Measurement
    with store.reading() as session:
        for start in range(0, len(ordered), _CHUNK):
            chosen = ordered[start : start + _CHUNK]
            # Not the samples, which are a hundred times larger.
            query = select(row_of.id, row_of.request, row_of.result).where(row_of.id.in_(chosen))
            for row in session.execute(query):
                found[row.id] = Whole(
                    request=from_json(MeasureRequest, row.request), result=from_json(MeasureResult, row.result)
                )
    return found


def _devices(store: ResultStore, numbers: Iterable[int]) -> dict[int, DeviceInfo]:
    device = models.DeviceEnvironment
    with store.reading() as session:
        rows = session.execute(select(device.id, device.info).where(device.id.in_(sorted(numbers))))
        return {row.id: from_json(DeviceInfo, row.info) for row in rows}


def _result(line: ResultLine, setup: Setup, whole: Whole) -> Result:
    assert line.runs is not None
    assert line.p50_ns is not None
    assert line.p90_ns is not None
    assert line.p99_ns is not None
    return Result(
        measurement_id=line.measurement_id,
        created_at=line.created_at,
        setup=setup,
        runs=line.runs,
        p50_ns=line.p50_ns,
        p90_ns=line.p90_ns,
        p99_ns=line.p99_ns,
        undisturbed_p50_ns=line.undisturbed_p50_ns,
        peak_memory_bytes=line.peak_memory_bytes,
        energy_j=line.energy_gross_j,
        verdicts=whole.result.artifacts[line.position].verdicts,
    )


def _spreads(
    store: ResultStore, results: Sequence[Result], places: Mapping[tuple[int, int], Setup]
) -> tuple[Spread, ...]:
    """Return the runs of the newest result of each setup, of as many as a page has room for."""
    newest: dict[Setup, Result] = {}
    for result in results:
        newest.setdefault(result.setup, result)
    by_artifact: dict[str, list[Result]] = defaultdict(list)
    for result in newest.values():
        by_artifact[result.setup.artifact].append(result)
    chosen = sorted(by_artifact.values(), key=lambda each: (-len(each), each[0].setup.artifact_name))[:MOST_CHARTS]
    spreads = []
    for members in chosen:
        ordered = sorted(members, key=lambda each: (each.setup.device, each.setup.runtime, each.setup.threads))
        for result in ordered[:MOST_ROWS]:
            measurement = store.get_measurement(result.measurement_id).measurement
            position = next(
                place
                for place in range(len(measurement.request.artifacts))
                if places.get((result.measurement_id, place)) == result.setup
            )
            runs = measurement.timed(position)
            void = marks_are_void(runs)
            spreads.append(
                Spread(
                    setup=result.setup,
                    measurement_id=result.measurement_id,
                    latencies_ns=tuple(run.latency_ns for run in runs),
                    disturbed=tuple(run.disturbed and not void for run in runs),
                )
            )
    return tuple(spreads)


def _worst_per_device(results: Sequence[Result]) -> list[tuple[Result, str]]:
    """Return a result per device and why it is shown, the gravest first."""

    def gravity(result: Result) -> int:
        return min(
            (_GRAVITY.index(each.code) for each in result.verdicts if each.code in _GRAVITY), default=len(_GRAVITY)
        )

    by_device: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        by_device[result.setup.device].append(result)
    found = []
    for members in by_device.values():
        result = min(members, key=lambda each: (gravity(each), -each.runs * each.p50_ns))
        grave = gravity(result)
        why = "its timed part is the longest" if grave == len(_GRAVITY) else f"its verdict is {_GRAVITY[grave].value}"
        found.append((grave, result.setup.device, result, why))
    return [(result, why) for _, _, result, why in sorted(found, key=lambda row: row[:2])[:MOST_COURSES]]


def _layers(
    lines: Sequence[ResultLine], wholes: Mapping[int, Whole], places: Mapping[tuple[int, int], Setup]
) -> tuple[LayerTimes, ...]:
    """Return the newest node times per device and baseline, those with something to compare first."""
    seen: set[tuple[str, str]] = set()
    found: list[LayerTimes] = []
    for number in dict.fromkeys(line.measurement_id for line in lines):
        artifacts = wholes[number].result.artifacts
        timed = [place for place, each in enumerate(artifacts) if each.nodes and (number, place) in places]
        if not timed:
            continue
        setups = [places[number, place] for place in timed]
        key = (setups[0].device, setups[0].artifact)
        if key not in seen:
            seen.add(key)
            nodes = [artifacts[place].nodes or () for place in timed[:2]]
            found.append(layer_times(number, setups, nodes))
    return tuple(sorted(found, key=lambda each: each.compressed is None)[: 4 * MOST_LAYERS])


def _changes(results: Sequence[Result]) -> Iterable[Change]:
    by_setup: dict[Setup, list[Result]] = defaultdict(list)
    for result in results:
        by_setup[result.setup].append(result)
    for setup, members in by_setup.items():
        if len(members) >= _FEWEST_FOR_CHANGES:
            ordered = sorted(members, key=lambda each: (each.created_at, each.measurement_id))
            for shift in level_course([each.undisturbed_p50_ns or each.p50_ns for each in ordered]).shifts:
                yield Change(setup=setup, at=ordered[shift.at].created_at, ratio=1 + shift.change)


def _artifacts(store: ResultStore, wanted: set[str]) -> dict[str, ArtifactFacts]:
    """Return accuracies and sizes from the records of compressions, the newest that knows an artifact."""
    found: dict[str, ArtifactFacts] = {}
    for stored in store.list_compressions():
        for side in ("baseline", "result"):
            known = stored.record.get(side) or {}
            sha256 = known.get("sha256")
            if sha256 in wanted and sha256 not in found:
                found[sha256] = ArtifactFacts(accuracy=known.get("accuracy"), size_bytes=known.get("size_bytes"))
    return found


def _device_facts(
    lines: Sequence[ResultLine], devices: Mapping[int, DeviceInfo], name_of: Callable[[str, str | None], str]
) -> tuple[DeviceFacts, ...]:
    found: dict[str, DeviceFacts] = {}
    for line in lines:
        info, name = devices[line.environment_id], name_of(line.device_id, line.device_name)
        found.setdefault(
            name,
            DeviceFacts(
                name=name,
                profile=info.profile,
                board=info.board,
                cpu=info.cpu,
                cores=info.cores,
                memory_bytes=info.memory_bytes,
                governor=info.governor,
                system=f"{info.operating_system}, kernel {info.kernel}, Python {info.python}",
                agent_version=info.agent_version,
            ),
        )
    return tuple(sorted(found.values(), key=lambda each: each.name))
