"""From united atoms to groups: atoms that go together are a channel, channels of the same use are a group."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn

from host.compress.channels.atoms import FIXED, varying
from host.compress.channels.trace import Trace
from host.compress.cuts import NORMS, Cut, Place, Side, is_depthwise
from host.search.network import Group

#: What one channel owns: places with the indices there.
Use = Mapping[Place, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """Groups with their cuts, what the code does to their channels, and by layer why outputs belong to none."""

    groups: tuple[Group, ...]
    cuts: Mapping[str, tuple[Cut, ...]] = field(repr=False)
    notes: Mapping[str, tuple[str, ...]]
    reasons: Mapping[str, str]


def group_channels(trace: Trace) -> Grouping:
    """Sort the atoms of a trace into groups, named after their first layer in the order of execution."""
    uses = _uses(trace)
    order = {name: place for place, name in enumerate(trace.executed)}
    pinned, atoms = trace.atoms.pinned(), trace.atoms
    free: dict[int, Use] = {}
    for atom, use in uses.items():
        if atom not in pinned and (reason := _unusable(trace, use)) is not None:
            pinned[atom] = reason
        if atom not in pinned:
            free[atom] = use
    cells = _Cells(trace, free, order)
    groups: dict[str, tuple[Group, tuple[Cut, ...]]] = {}
    notes: dict[str, tuple[str, ...]] = {}
    remarks = atoms.notes()
    for blocks in cells.groups():
        channels = [atom for block in blocks for atom in block]
        reason = _uneven(cells, blocks, channels) or _single(len(channels), len(blocks))
        if reason is not None:
            pinned.update(dict.fromkeys(channels, reason))
            continue
        first = min(
            (order[place.module], place.module) for place in _places(free, channels) if _produces(trace, place)
        )[1]
        name, number = first, 2
        while name in groups:
            name, number = f"{first}#{number}", number + 1
        cuts = _cuts(free, channels, order, first)
        layers = tuple(sorted({cut.module for cut in cuts if _produces(trace, cut.place)}, key=order.__getitem__))
        groups[name] = Group(name=name, channels=len(channels), layers=layers, multiple=len(blocks)), cuts
        notes[name] = tuple(dict.fromkeys(text for atom in channels for text in remarks.get(atom, ())))
    ordered = sorted(groups, key=lambda name: order[groups[name][0].layers[0]])
    return Grouping(
        groups=tuple(groups[name][0] for name in ordered),
        cuts={name: groups[name][1] for name in ordered},
        notes=notes,
        reasons=_reasons(trace, pinned),
    )


def _uses(trace: Trace) -> dict[int, dict[Place, tuple[int, ...]]]:
    """What every atom owns, by its representative."""
    found: dict[int, dict[Place, set[int]]] = {}

    def add(labels: Iterable[int], place: Place) -> None:
        for index, atom in enumerate(labels):
            if atom != FIXED:
                found.setdefault(trace.atoms.find(atom), {}).setdefault(place, set()).add(index)

    for (name, side), labels in trace.sides.items():
        if side is Side.OUTPUT or not is_depthwise(trace.module.get_submodule(name)):
            add(labels.tolist(), Place(name, side))
    for pads in trace.pads.values():
        add(pads.atoms.tolist(), Place(pads.module, Side.PADDING, shortcut=pads.shortcut))
    for entries in trace.bare.values():
        for entry in entries:
            value = entry.value
            labels = entry.bound.as_strided(value.shape, value.stride(), value.storage_offset())
            if not bool((labels != FIXED).any()):
                continue
            labels = trace.atoms.canonical(labels)
            dims = varying(labels)
            if len(dims) != 1:
                trace.atoms.pin(labels, f"{entry.owner}.{entry.name} holds its channels along several dimensions")
                continue
            layer = trace.module.get_submodule(entry.owner)
            # The tensors of a norm are cut together.
            whole = isinstance(layer, (*NORMS, nn.PReLU))
            place = Place(entry.owner, Side.OUTPUT) if whole else Place(entry.owner, Side.TENSOR, entry.name, dims[0])
            add(labels.reshape(-1).tolist(), place)
    return {atom: {place: tuple(sorted(indices)) for place, indices in use.items()} for atom, use in found.items()}


def _produces(trace: Trace, place: Place) -> bool:
    return place.side is Side.OUTPUT and place.module in trace.executed


def _unusable(trace: Trace, use: Use) -> str | None:
    for name, side, *_ in use:
        if side is Side.INPUT and name not in trace.executed:
            return f"layer {name} is not called as a module"
    if not any(_produces(trace, place) for place in use):
        return "no layer makes its channels"
    if not any(place.side is Side.INPUT for place in use):
        return "no layer reads its channels"
    return None


def _single(channels: int, multiple: int) -> str | None:
    if channels == 1:
        return "it has a single channel"
    if channels == multiple:
        return f"its {channels} channels could go only all at once: grouped convolutions, splits or shuffles tie them"
    return None


def _places(free: Mapping[int, Use], channels: Sequence[int]) -> dict[Place, None]:
    return dict.fromkeys(place for atom in channels for place in free[atom])


def _cuts(free: Mapping[int, Use], channels: Sequence[int], order: Mapping[str, int], first: str) -> tuple[Cut, ...]:
    places = sorted(
        _places(free, channels),
        key=lambda place: (place.module != first or place.side is not Side.OUTPUT, order.get(place.module, len(order))),
    )
    return tuple(
        Cut(
            **place._asdict(),
            indices=tuple(free[atom].get(place, ()) for atom in channels),
        )
        for place in places
    )


class _Cells:
    """Channels of equal use under equal constraints are a cell; cells that constraints tie are one group of equal blocks."""

    def __init__(self, trace: Trace, free: Mapping[int, Use], order: Mapping[str, int]) -> None:
        self._free, self._order, self._trace = free, order, trace
        constraints: list[dict[int, list[int]]] = []
        for labels, count in trace.atoms.blocks:
            counts: dict[int, list[int]] = {}
            size = len(labels) // count
            for place, label in enumerate(labels.tolist()):
                atom = trace.atoms.find(label) if label != FIXED else FIXED
                if atom in free:
                    counts.setdefault(atom, [0] * count)[place // size] += 1
            # A channel that has as many places in every block may go alone.
            counts = {atom: each for atom, each in counts.items() if len(set(each)) > 1}
            if counts and counts not in constraints:
                constraints.append(counts)
        self.constraints = constraints
        self._where: dict[int, list[tuple[int, tuple[int, ...]]]] = {}
        for number, counts in enumerate(constraints):
            for atom, each in counts.items():
                self._where.setdefault(atom, []).append((number, tuple(each)))

    def groups(self) -> list[list[list[int]]]:
        """Return groups as lists of blocks of as many channels each, all in the order of their first use."""
        cells: dict[tuple[object, object], list[int]] = {}
        ranks = {atom: self._rank(atom) for atom in self._free}
        footprints: dict[object, set[int]] = {}
        for atom in sorted(self._free, key=ranks.__getitem__):
            footprint = tuple(sorted((place, len(indices)) for place, indices in self._free[atom].items()))
            where = tuple(self._where.get(atom, ()))
            cells.setdefault((footprint, where), []).append(atom)
            footprints.setdefault(footprint, set()).update(number for number, _ in where)
        # Channels of one use are one group, and so are those that share a constraint.
        parent: dict[object, object] = {}

        def find(key: object) -> object:
            while parent.setdefault(key, key) != key:
                key = parent[key]
            return key

        for key, numbers in footprints.items():
            for number in numbers:
                parent[find(number)] = find(key)
        united: dict[object, list[list[int]]] = {}
        for (key, _), members in cells.items():
            united.setdefault(find(key), []).append(members)
        found = []
        for those in united.values():
            size = math.gcd(*(len(members) for members in those))
            found.append([members[at : at + size] for members in those for at in range(0, len(members), size)])
        return found

    def _rank(self, atom: int) -> tuple[int, int]:
        return min(
            (self._order[place.module], indices[0])
            for place, indices in self._free[atom].items()
            if place.side is Side.OUTPUT and place.module in self._order
        )

    def balanced(self, channels: Sequence[int]) -> bool:
        """Whether taking as many of each block takes as many from each block of every constraint."""
        members = set(channels)
        for counts in self.constraints:
            mine = [each for atom, each in counts.items() if atom in members]
            if len({sum(column) for column in zip(*mine, strict=True)}) > 1:
                return False
        return True


def _uneven(cells: _Cells, blocks: Sequence[Sequence[int]], channels: Sequence[int]) -> str | None:
    if len(blocks) == 1:
        return None
    if not cells.balanced(channels):
        return (
            "grouped convolutions, splits or shuffles ask for as many channels from blocks that hold different numbers"
        )
    return None


def _reasons(trace: Trace, pinned: Mapping[int, str]) -> dict[str, str]:
    """By layer, why outputs stay; only a part of them may."""
    reasons: dict[str, str] = {}
    for name in trace.executed:
        labels = trace.sides.get((name, Side.OUTPUT))
        if labels is None:
            reasons[name] = "what it computes could not be followed"
            continue
        roots = [trace.atoms.find(atom) for atom in labels.tolist()]
        stay = [atom for atom in roots if atom in pinned]
        if stay:
            part = "" if len(stay) == len(roots) else f"{len(stay)} of its {len(roots)} channels stay: "
            reasons[name] = part + pinned[stay[0]]
    return reasons
