"""What is known of a run while it is followed: the labels of tensors, layers and parameters.

Tensors are known by where they lie in memory, which views and aliases share; the trace keeps all of them alive.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree
from torch.utils._python_dispatch import _disable_current_modes

from host.compress.channels.atoms import FIXED, Atoms, collapsed
from host.compress.channels.flow import Event, Flow, Key, key_of
from host.compress.cuts import PadsChannels, Shortcut, Side, width
from host.compress.layers import Executed


@dataclass(frozen=True, slots=True, kw_only=True)
class Bare:
    """A parameter or buffer: `name` in the module `owner`. `bound` holds a label for each place of its storage."""

    owner: str
    name: str
    value: Tensor = field(repr=False)
    bound: Tensor = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pads:
    """Zeros that the module named `module` puts around channels; `atoms` are those before, then those after.

    `shortcut` is what it does as a whole, if it does not PadsChannels itself.
    """

    module: str
    shortcut: Shortcut | None = None
    atoms: Tensor = field(repr=False)


class Trace:
    """What a run showed. `sides` holds labels (width,) by layer and side; `executed` is in the order of first execution."""

    def __init__(self, module: nn.Module) -> None:
        self.atoms = Atoms()
        self.flow = Flow()
        self.module = module
        self.executed: dict[str, Executed] = {}
        self.pads: dict[str, Pads] = {}
        self.followed_outputs = False
        self.stack: list[str] = []
        self.sides: dict[tuple[str, Side], Tensor] = {}
        self.bare: dict[int, list[Bare]] = {}
        self._labels: dict[Key, Tensor] = {}
        self._alive: list[Tensor] = []
        for name, owner in module.named_modules():
            for own, value in [*owner.named_parameters(recurse=False), *owner.named_buffers(recurse=False)]:
                if value.is_floating_point() and value.numel():
                    places = torch.full((value.untyped_storage().nbytes() // value.element_size(),), FIXED)
                    entry = Bare(owner=name, name=own, value=value, bound=places)
                    self.bare.setdefault(value.untyped_storage().data_ptr(), []).append(entry)

    def where(self) -> str:
        """The module that runs now, in words."""
        return self.stack[-1] or "the model" if self.stack else "the model"

    def labels(self, value: Tensor) -> Tensor | None:
        """Labels of a tensor that comes from the input; None for constants, parameters and what was not followed."""
        found = self._labels.get(key_of(value))
        return None if found is None else self.atoms.canonical(found)

    def set_labels(self, value: Tensor, labels: Tensor) -> None:
        """Say what a tensor holds; `labels` are of as many dimensions, each of full size or 1."""
        self._alive.append(value)
        self._labels[key_of(value)] = collapsed(labels)

    def fix(self, value: Tensor) -> None:
        """Say that a tensor comes from the input and holds no channels that can go."""
        self.set_labels(value, torch.full((1,) * value.ndim, FIXED))

    def saw(self, name: str, reads: list[Tensor], makes: list[Tensor], *, pointwise: bool) -> None:
        """Remember an operation, of the tensors those that come from the network's input."""
        numbers: list[tuple[int, ...]] = []
        for values, written in ((reads, False), (makes, name.endswith("_"))):
            labelled = [(value, labels) for value in values if (labels := self.labels(value)) is not None]
            numbers.append(tuple(self.flow.number(value, labels, written=written) for value, labels in labelled))
        if numbers[1]:
            where = self.stack[-1] if self.stack else ""
            event = Event(name=name, module=where, pointwise=pointwise, reads=numbers[0], makes=numbers[1])
            self.flow.events.append(event)

    def side(self, layer: str, side: Side) -> Tensor:
        """Labels (width,) of one side of a layer, by its name."""
        if (layer, side) not in self.sides:
            self.sides[layer, side] = self.atoms.new(width(self.module.get_submodule(layer), side))
        return self.sides[layer, side]

    def layers_of(self, weight: Tensor, shape: tuple[int, ...], strides: tuple[int, ...]) -> list[str]:
        """Names of the convolutions and linear layers whose weight lies there; several if they share it."""
        found = []
        for entry in self.bare.get(weight.untyped_storage().data_ptr(), ()):
            layer = self.module.get_submodule(entry.owner)
            same = entry.value.shape == shape and entry.value.stride() == strides
            if entry.name == "weight" and isinstance(layer, (nn.Conv2d, nn.Linear)) and same:
                found.append(entry.owner)
        return found

    def bind(self, value: Tensor, labels: Tensor) -> bool:
        """Tie the places of a parameter, of which `value` is a view, to labels of its shape. False if it is none."""
        entries = self.bare.get(value.untyped_storage().data_ptr())
        if entries is None:
            return False
        count = len(entries[0].bound)
        places = torch.arange(count).as_strided(value.shape, value.stride(), value.storage_offset()).reshape(-1)
        wanted = labels.reshape(-1)
        for entry in entries:
            layer = self.module.get_submodule(entry.owner)
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                if entry.name == "bias" and entry.owner == self.where():
                    own = self.side(entry.owner, Side.OUTPUT)[places - int(entry.value.storage_offset())]
                    self.atoms.unite(wanted, own, f"the bias of {entry.owner} meets channels that stay")
                else:
                    self.atoms.pin(wanted, f"its channels meet the weights of {entry.owner} outside of that layer")
                continue
            before = entry.bound[places]
            both = torch.where(before >= 0, before, wanted)
            self.atoms.unite(both, wanted, f"{entry.owner}.{entry.name} meets channels that stay")
            entry.bound[places] = both
        return True

    def pad(self, before: int, after: int) -> Tensor | None:
        """Labels (before + after,) of zeros that the running module puts around channels; None if it cannot be told fewer."""
        name = self.stack[-1] if self.stack else ""
        owner = self.module.get_submodule(name)
        if isinstance(owner, PadsChannels):
            if (owner.before, owner.after) != (before, after):
                return None
        elif not name or next(owner.parameters(), None) is not None or next(owner.buffers(), None) is not None:
            return None
        if name not in self.pads:
            # Whether the whole of a foreign module can be replaced shows when it is left.
            shortcut = None if isinstance(owner, PadsChannels) else Shortcut(stride=1, before=before, after=after)
            self.pads[name] = Pads(module=name, shortcut=shortcut, atoms=self.atoms.new(before + after))
        pads = self.pads[name]
        return pads.atoms if len(pads.atoms) == before + after else None

    def leave(self, name: str, inputs: tuple[Any, ...], output: Any) -> None:
        """See whether a foreign module that padded channels did nothing else than a Shortcut does."""
        pads = self.pads.get(name)
        if pads is None or pads.shortcut is None:
            return
        if len(inputs) == 1 and all(isinstance(each, Tensor) and each.ndim == 4 for each in (*inputs, output)):
            shortcut = pads.shortcut._replace(stride=-(-inputs[0].shape[-1] // output.shape[-1]))
            with torch.no_grad(), _disable_current_modes():
                if torch.equal(shortcut.build()(inputs[0]), output):
                    self.pads[name] = replace(pads, shortcut=shortcut)
                    return
        self.atoms.pin(
            pads.atoms, f"{name} pads channels with zeros and does more; give it attributes `before` and `after`"
        )


def tensors_in(values: Any) -> list[Tensor]:
    """All tensors in whatever tuples, lists or dicts."""
    return [leaf for leaf in _pytree.tree_leaves(values) if isinstance(leaf, Tensor)]
