"""Which results of the two sides belong together: the same device, the same settings, the same state of the device.

What differs where it must not is refused, with the fields. Results of different environments are never averaged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from device_agent.contract.device import DeviceInfo
from device_agent.contract.plain_json import from_json
from device_agent.contract.settings import Settings
from host.results import models
from host.results.compare_rules import Difference, Weight, differences, identity
from host.results.environment import Environment
from host.results.lines import ResultLine
from host.results.store import ResultStore

_CHUNK = 500
#: Environments of a side among which the nearest to the other side's is looked for.
_NEAR = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A measured artifact with its environment."""

    line: ResultLine
    environment: Environment

    @property
    def number(self) -> int:
        """The measurement's."""
        return self.line.measurement_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """Results that may be compared, the newest first. `pairs` are measurements of both in turns: (number, place, place).

    `model` is the name that both sides share, None where each side names its own artifact. `allowed` are the differences that
    are the comparison, or that were allowed; `remarks` are sentences about what was left out or hardly matters.
    """

    model: str | None
    baseline: tuple[Entry, ...]
    candidate: tuple[Entry, ...]
    pairs: tuple[tuple[int, int, int], ...]
    allowed: tuple[Difference, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Results of both sides that may not be compared, and the fields in which the nearest of them differ."""

    model: str | None
    device_id: str
    device_name: str | None
    differences: tuple[Difference, ...]


def entries_of(store: ResultStore, lines: Iterable[ResultLine]) -> tuple[Entry, ...]:
    """Return the lines with their environments, in their order."""
    lines = tuple(lines)
    numbers = sorted({line.measurement_id for line in lines})
    whole, device = models.Measurement, models.DeviceEnvironment
    facts: dict[int, tuple[Mapping[str, Any], Mapping[str, Any]]] = {}
    devices: dict[int, DeviceInfo] = {}
    with store.reading() as session:
        for start in range(0, len(numbers), _CHUNK):
            chosen = numbers[start : start + _CHUNK]
            for row in session.execute(select(whole.id, whole.request, whole.result).where(whole.id.in_(chosen))):
                facts[row.id] = (row.request, row.result)
        wanted = {line.environment_id for line in lines}
        for row in session.execute(select(device.id, device.info).where(device.id.in_(wanted))):
            devices[row.id] = from_json(DeviceInfo, row.info)
    known: dict[str, Settings] = {}
    return tuple(
        Entry(
            line=line,
            environment=_environment(line, devices[line.environment_id], *facts[line.measurement_id], known),
        )
        for line in lines
    )


def match(
    baseline: Sequence[Entry],
    candidate: Sequence[Entry],
    *,
    by_name: bool,
    same_file: bool,
    across: Collection[str] = (),
    last: int = 20,
) -> tuple[list[Match], list[Refusal]]:
    """Return what may be compared and what is refused. `by_name`: sides that hold many models are matched by their names.

    `same_file`: a file that both sides have is compared with itself rather than with another of its name. `last` is the most
    measurements of a side that are used, the newest.
    """
    sides = [_grouped(side, by_name=by_name, across=across) for side in (baseline, candidate)]
    matches: list[Match] = []
    refusals: list[Refusal] = []
    for key in sides[0]:
        if key not in sides[1]:
            continue
        found = _match_group(
            key[0], sides[0][key], sides[1][key], same_file=same_file, across=frozenset(across), last=last
        )
        (matches if isinstance(found[0], Match) else refusals).extend(found)  # type: ignore[arg-type]
    return matches, refusals


def _match_group(
    model: str | None,
    baseline: list[Entry],
    candidate: list[Entry],
    *,
    same_file: bool,
    across: frozenset[str],
    last: int,
) -> list[Match] | list[Refusal]:
    remarks: list[str] = []
    # In turns with others a model runs on other caches: such results serve as pairs, or where neither side has others.
    one, other = (
        dict.fromkeys(identity(each.environment, without=across | {"alone"}) for each in side)
        for side in (baseline, candidate)
    )
    common = [place for place in one if place in other]
    if not common:
        nearest = min(
            (
                (_forbidden(a.environment, b.environment, across), a.number, b.number)
                for a, b in ((a, b) for a in _newest_of_each(baseline) for b in _newest_of_each(candidate))
            ),
            key=lambda found: (len(found[0]), -found[1], -found[2]),
        )[0]
        first = baseline[0].line
        return [Refusal(model=model, device_id=first.device_id, device_name=first.device_name, differences=nearest)]
    matches: list[Match] = []
    refusals: list[Refusal] = []
    for place in common:
        sides = [
            [each for each in side if identity(each.environment, without=across | {"alone"}) == place]
            for side in (baseline, candidate)
        ]
        remarks = [
            f"{left} measurement{'s' * (left > 1)} of the {who} in another environment left out"
            for who, side, chosen in zip(("baseline", "candidate"), (baseline, candidate), sides, strict=True)
            if len(common) == 1 and (left := len(side) - len(chosen))
        ]
        sides, more = _one_file(sides, same_file=same_file)
        remarks += more
        pairs = _pairs(*sides)[:last]
        alone = [[each for each in side if each.environment.alone] for side in sides]
        if all(alone):
            sides = alone
        elif pairs:
            sides = [[each for each in side if each.number in {number for number, _, _ in pairs}] for side in sides]
        elif any(alone) and "alone" not in across:
            found = _forbidden(sides[0][0].environment, sides[1][0].environment, across)
            a, b = (any(each.environment.alone for each in side) for side in sides)
            gap = found or (Difference(field="alone", baseline=a, candidate=b),)
            first = sides[0][0].line
            refusals.append(
                Refusal(model=model, device_id=first.device_id, device_name=first.device_name, differences=gap)
            )
            continue
        else:
            remarks.append(
                "each ran in turns with other models, not with the other side: measured alone they compare better"
            )
        chosen = [_one_environment(side, across) for side in sides]
        for who, side, kept in zip(("baseline", "candidate"), sides, chosen, strict=True):
            if len(kept) < len(side):
                remarks.append(
                    f"of the {who} only the newest environment is taken, {len(kept)} of {len(side)} measurements"
                )
        ends = chosen[0][0].environment, chosen[1][0].environment
        remarks += [f"{each.text} (told, not held against it)" for each in differences(*ends, {Weight.REMARK})]
        matches.append(
            Match(
                model=model,
                baseline=tuple(chosen[0][:last]),
                candidate=tuple(chosen[1][:last]),
                pairs=pairs,
                allowed=tuple(each for each in differences(*ends) if each.field in across),
                remarks=tuple(remarks),
            )
        )
    return matches or refusals


def _forbidden(one: Environment, other: Environment, across: Collection[str]) -> tuple[Difference, ...]:
    found = differences(one, other, {Weight.SETTING, Weight.STATE})
    return tuple(each for each in found if each.field not in across and each.field != "alone")


def _newest_of_each(entries: Sequence[Entry]) -> list[Entry]:
    """Return the newest entry of every environment."""
    return list({each.environment: each for each in reversed(entries)}.values())[-_NEAR:]


def _grouped(
    entries: Sequence[Entry], *, by_name: bool, across: Collection[str]
) -> dict[tuple[str | None, str | None], list[Entry]]:
    groups: dict[tuple[str | None, str | None], list[Entry]] = defaultdict(list)
    for each in entries:
        device = None if "device_id" in across else each.line.device_id
        groups[(each.line.name if by_name else None, device)].append(each)
    return groups


def _one_file(sides: list[list[Entry]], *, same_file: bool) -> tuple[list[list[Entry]], list[str]]:
    """Return the entries of one file on each side: one that both have if that is wanted, else each side's newest."""
    files = [list(dict.fromkeys(each.line.sha256 for each in side)) for side in sides]
    shared = [sha256 for sha256 in files[1] if sha256 in files[0]] if same_file else []
    chosen = [shared[0], shared[0]] if shared else [files[0][0], files[1][0]]
    remarks = [
        f"the {who} has {len(names)} files of this name; {sha256[:12]}, the newest{' that both have' if shared else ''}, is taken"
        for who, names, sha256 in zip(("baseline", "candidate"), files, chosen, strict=True)
        if len(names) > 1
    ]
    return [
        [each for each in side if each.line.sha256 == sha256] for side, sha256 in zip(sides, chosen, strict=True)
    ], remarks


def _one_environment(side: Sequence[Entry], across: Collection[str]) -> list[Entry]:
    """Return the entries of the newest environment, also of the fields that may differ between the sides."""
    newest = identity(side[0].environment)
    return [each for each in side if identity(each.environment) == newest] if across else list(side)


def _pairs(baseline: Sequence[Entry], candidate: Sequence[Entry]) -> tuple[tuple[int, int, int], ...]:
    places = {each.number: each.line.position for each in baseline}
    return tuple(
        (each.number, places[each.number], each.line.position)
        for each in candidate
        if places.get(each.number, each.line.position) != each.line.position
    )


def _environment(
    line: ResultLine,
    device: DeviceInfo,
    request: Mapping[str, Any],
    result: Mapping[str, Any],
    known: dict[str, Settings],
) -> Environment:
    text = repr(request["settings"])
    settings = known.get(text)
    if settings is None:
        settings = known[text] = from_json(Settings, request["settings"])
    cpus = result.get("cpus")
    return Environment.built(
        device,
        settings,
        runtime=line.runtime,
        runtime_version=line.runtime_version,
        provider=result["artifacts"][line.position]["provider"],
        threads=line.threads,
        cpus=tuple(cpus) if cpus is not None else settings.cpus,
        alone=line.together == 1 and not request.get("profile_nodes", False),
        soak=request.get("soak_s") is not None,
    )
