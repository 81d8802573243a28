"""From united atoms to groups: atoms that go together are a channel, channels of the same use are a group."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from host.compress.channels.trace import Trace
from host.compress.channels.uses import Footprint, Uses, uses_of
from host.compress.cuts import Cut, Place, Side
from host.search.network import Group


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """Groups with their cuts, what the code does to their channels, and by layer why outputs belong to none.

    `atoms` holds the representatives of each group's channels.
    """

    groups: tuple[Group, ...]
    cuts: Mapping[str, tuple[Cut, ...]] = field(repr=False)
    notes: Mapping[str, tuple[str, ...]]
    reasons: Mapping[str, str]
    atoms: Mapping[str, tuple[int, ...]] = field(repr=False)


def group_channels(trace: Trace) -> Grouping:
    """Sort the atoms of a trace into groups, named after their first layer in the order of execution."""
    uses = uses_of(trace)
    pinned, remarks, names = trace.atoms.pinned(), trace.atoms.notes(), list(trace.executed)
    footprints: dict[Footprint, list[int]] = {}
    for atom in uses.of:
        if atom not in pinned:
            footprints.setdefault(uses.footprint(atom), []).append(atom)
    for footprint in list(footprints):
        reason = _unusable(trace, [uses.places[place] for place, _ in footprint])
        if reason is not None:
            pinned.update(dict.fromkeys(footprints.pop(footprint), reason))
    groups: list[Group] = []
    cuts: dict[str, tuple[Cut, ...]] = {}
    notes: dict[str, tuple[str, ...]] = {}
    atoms: dict[str, tuple[int, ...]] = {}
    constraints = _constraints(trace, {atom for atoms in footprints.values() for atom in atoms})
    found = _blocks(uses, footprints, constraints)
    for blocks in sorted(found, key=lambda blocks: min(uses.ranks[atom] for block in blocks for atom in block)):
        channels = [atom for block in blocks for atom in block]
        reason = _tied(channels, len(blocks), constraints)
        if reason is not None:
            pinned.update(dict.fromkeys(channels, reason))
            continue
        first = names[min(uses.ranks[atom] for atom in channels)[0]]
        name, number = first, 2
        while name in cuts:
            name, number = f"{first}#{number}", number + 1
        cuts[name], atoms[name] = _cuts(uses, channels, names), tuple(channels)
        layers = {cut.module for cut in cuts[name] if _produces(trace, cut.place)}
        groups.append(
            Group(
                name=name,
                channels=len(channels),
                layers=tuple(each for each in names if each in layers),
                multiple=len(blocks),
            )
        )
        notes[name] = tuple(dict.fromkeys(text for atom in channels for text in remarks.get(atom, ())))
    return Grouping(groups=tuple(groups), cuts=cuts, notes=notes, reasons=_reasons(trace, pinned), atoms=atoms)


def _produces(trace: Trace, place: Place) -> bool:
    return place.side is Side.OUTPUT and place.module in trace.executed


def _unusable(trace: Trace, places: Sequence[Place]) -> str | None:
    for place in places:
        if place.side is Side.INPUT and place.module not in trace.executed:
            return f"layer {place.module} is not called as a module"
    if not any(_produces(trace, place) for place in places):
        return "no layer makes its channels"
    if not any(place.side is Side.INPUT for place in places):
        return "no layer reads its channels"
    return None


#: By atom, how many of its places lie in each of some blocks that must lose as many.
_Counts = Mapping[int, tuple[int, ...]]


def _constraints(trace: Trace, free: set[int]) -> list[_Counts]:
    constraints: list[_Counts] = []
    for labels, count in trace.atoms.blocks:
        counts: dict[int, list[int]] = {}
        size = len(labels) // count
        for place, atom in enumerate(trace.atoms.representatives(labels).tolist()):
            if atom in free:
                counts.setdefault(atom, [0] * count)[place // size] += 1
        # A channel that has as many places in every block may go alone.
        uneven = {atom: tuple(each) for atom, each in counts.items() if len(set(each)) > 1}
        if uneven and uneven not in constraints:
            constraints.append(uneven)
    return constraints


def _blocks(
    uses: Uses, footprints: Mapping[Footprint, Sequence[int]], constraints: Sequence[_Counts]
) -> list[list[list[int]]]:
    """Return groups as lists of blocks of as many channels each, in the order of their first use.

    Channels of equal use under equal constraints are a cell. Cells of one use are one group, and so are those that share a
    constraint; a group of several cells takes as many channels from blocks of equal size.
    """
    parent: dict[object, object] = {}

    def find(key: object) -> object:
        while parent.setdefault(key, key) != key:
            key = parent[key]
        return key

    cells: dict[tuple[Footprint, object], list[int]] = {}
    for footprint, atoms in footprints.items():
        for atom in sorted(atoms, key=uses.ranks.__getitem__):
            under = tuple((number, each[atom]) for number, each in enumerate(constraints) if atom in each)
            cells.setdefault((footprint, under), []).append(atom)
            for number, _ in under:
                parent[find(number)] = find(footprint)
    united: dict[object, list[list[int]]] = {}
    for (footprint, _), members in sorted(cells.items(), key=lambda cell: uses.ranks[cell[1][0]]):
        united.setdefault(find(footprint), []).append(members)
    found = []
    for those in united.values():
        size = math.gcd(*(len(members) for members in those))
        found.append([members[at : at + size] for members in those for at in range(0, len(members), size)])
    return found


def _tied(channels: Sequence[int], blocks: int, constraints: Sequence[_Counts]) -> str | None:
    """Why channels in so many blocks cannot go; None if they can."""
    if len(channels) == 1:
        return "it has a single channel"
    if len(channels) == blocks:
        return f"its {blocks} channels could go only all at once: grouped convolutions, splits or shuffles tie them"
    members = set(channels)
    for counts in constraints:
        mine = [each for atom, each in counts.items() if atom in members]
        if len({sum(column) for column in zip(*mine, strict=True)}) > 1:
            return "splits, shuffles or grouped convolutions take as many channels from every block, and some have fewer to give"
    return None


def _cuts(uses: Uses, channels: Sequence[int], names: Sequence[str]) -> tuple[Cut, ...]:
    """What goes with each channel, in the order of execution, outputs first."""
    order = {name: number for number, name in enumerate(names)}
    numbers = dict.fromkeys(number for atom in channels for number in uses.of[atom])
    cuts = [
        Cut(**uses.places[number]._asdict(), indices=tuple(tuple(uses.of[atom].get(number, ())) for atom in channels))
        for number in numbers
    ]
    return tuple(sorted(cuts, key=lambda cut: (cut.side is not Side.OUTPUT, order.get(cut.module, len(order)))))


def _reasons(trace: Trace, pinned: Mapping[int, str]) -> dict[str, str]:
    """By layer, why outputs stay; only a part of them may."""
    reasons: dict[str, str] = {}
    for name in trace.executed:
        labels = trace.sides.get((name, Side.OUTPUT))
        if labels is None:
            reasons[name] = "what it computes could not be followed"
            continue
        roots = trace.atoms.representatives(labels).tolist()
        stay = [atom for atom in roots if atom in pinned]
        if stay:
            part = "" if len(stay) == len(roots) else f"{len(stay)} of its {len(roots)} channels stay: "
            reasons[name] = part + pinned[stay[0]]
    return reasons
