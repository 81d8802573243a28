"""What every atom owns: places in layers, norms, pads and parameters, with the indices there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from host.compress.channels.atoms import FIXED, varying
from host.compress.channels.trace import Trace
from host.compress.cuts import NORMS, Place, Side, is_depthwise

#: By number of a place, the indices there.
Use = Mapping[int, list[int]]
#: Numbers of places, with how many indices there.
Footprint = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Uses:
    """`of` holds uses by representative of atoms. `ranks` holds, of atoms that layers make, the first layer's number in the
    order of execution, and the first index in it.
    """

    places: list[Place]
    of: dict[int, dict[int, list[int]]] = field(repr=False)
    ranks: dict[int, tuple[int, int]] = field(repr=False)

    def footprint(self, atom: int) -> Footprint:
        """What an atom uses, whatever the indices. Equal for atoms of equal use."""
        return tuple((place, len(indices)) for place, indices in self.of[atom].items())


def uses_of(trace: Trace) -> Uses:
    """Gather what a finished trace says of every atom."""
    order = {name: number for number, name in enumerate(trace.executed)}
    found = Uses(places=[], of={}, ranks={})
    for place, labels in _places(trace):
        number = len(found.places)
        found.places.append(place)
        layer = order.get(place.module) if place.side is Side.OUTPUT else None
        for index, atom in enumerate(trace.atoms.representatives(labels).tolist()):
            if atom == FIXED:
                continue
            found.of.setdefault(atom, {}).setdefault(number, []).append(index)
            if layer is not None:
                found.ranks[atom] = min((layer, index), found.ranks.get(atom, (layer, index)))
    return found


def _places(trace: Trace) -> Iterator[tuple[Place, Tensor]]:
    for (name, side), labels in trace.sides.items():
        if side is Side.OUTPUT or not is_depthwise(trace.module.get_submodule(name)):
            yield Place(name, side), labels
    for pads in trace.pads.values():
        yield Place(pads.module, Side.PADDING, shortcut=pads.shortcut), pads.atoms
    norms: set[str] = set()
    for entries in trace.bare.values():
        for entry in entries:
            value = entry.value
            labels = entry.bound.as_strided(value.shape, value.stride(), value.storage_offset())
            if entry.owner in norms or bool((labels == FIXED).all()):
                continue
            labels = trace.atoms.canonical(labels)
            dims = varying(labels)
            if len(dims) != 1:
                trace.atoms.pin(labels, f"{entry.owner}.{entry.name} holds its channels along several dimensions")
                continue
            # The tensors of a norm are bound and cut together.
            if isinstance(trace.module.get_submodule(entry.owner), (*NORMS, nn.PReLU)):
                norms.add(entry.owner)
                yield Place(entry.owner, Side.OUTPUT), labels.reshape(-1)
            else:
                yield Place(entry.owner, Side.TENSOR, entry.name, dims[0]), labels.reshape(-1)
