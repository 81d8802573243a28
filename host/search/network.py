"""A network as the planner sees it: layers with widths, groups that tie widths together, and plans over groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class LayerKind(str, Enum):
    """Kinds of layers that a runtime runs with different kernels."""

    CONV = "conv"  # dense, kernel larger than 1x1
    POINTWISE = "pointwise"  # dense, 1x1
    DEPTHWISE = "depthwise"
    GROUPED = "grouped"
    LINEAR = "linear"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A share of a layer's width that follows a group: `features` of it for every `per` kept channels.

    H*W for one at an input after a flatten; one for two where half of the channels goes elsewhere.
    """

    group: str
    features: int = 1
    per: int = 1

    def width(self, kept: int) -> int:
        """Return the features that belong to `kept` channels, a number that the group allows."""
        return self.features * kept // self.per


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A convolution or linear layer. Each of its widths is a fixed number plus the parts that follow groups.

    `kernel` is the number of taps (9 for 3x3), `input_pixels` and `output_pixels` are H*W (1 for linear layers).
    No output parts mean that the output is never pruned (a head, or a layer left alone); several, that it joins channels of
    different groups (a shortcut padded with zeros). For depthwise layers the input is the output, and `groups` is the number
    of channels.
    """

    name: str
    kind: LayerKind
    inputs: tuple[Part, ...]
    input_fixed: int
    outputs: tuple[Part, ...]
    output_fixed: int
    kernel: int
    input_pixels: int
    output_pixels: int
    groups: int = 1
    bias: bool = True

    def widths(self, plan: Mapping[str, int]) -> tuple[int, int]:
        """Return (input width, output width) under `plan`."""
        width_in = self.input_fixed + sum(part.width(plan[part.group]) for part in self.inputs)
        width_out = self.output_fixed + sum(part.width(plan[part.group]) for part in self.outputs)
        return width_in, width_out

    def macs(self, plan: Mapping[str, int]) -> int:
        """Return the multiply-accumulates of one inference under `plan`. For display and features, never as a price."""
        width_in, width_out = self.widths(plan)
        if self.kind is LayerKind.DEPTHWISE:
            return width_out * self.kernel * self.output_pixels
        return width_in * width_out * self.kernel * self.output_pixels // self.groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Layers that must lose the same channels together. `multiple` is what the structure itself requires (1 if nothing)."""

    name: str
    channels: int
    layers: tuple[str, ...]
    multiple: int = 1

    def __post_init__(self) -> None:
        if self.channels < 1 or self.multiple < 1 or self.channels % self.multiple:
            raise ValueError(f"group {self.name}: {self.channels} channels, multiple {self.multiple}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """A residual branch that vanishes when `group` keeps no channel: what it adds to its stream is then one value per channel.

    `layers` vanish with it, in the order of execution; the last of them reads the group and writes the stream. `norm` is the
    batch norm between it and the sum, if there is one. `in_place`: the sum is written over the branch's output (`y += x`).
    """

    group: str
    layers: tuple[str, ...]
    norm: str | None = None
    in_place: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveTensor:
    """An activation that a runtime keeps in memory from step `born` to step `last`, both included.

    Its elements (for one image) are `fixed` and the parts that follow groups. It does not exist where the group
    `gone_with` keeps no channel.
    """

    parts: tuple[Part, ...]
    fixed: int
    born: int
    last: int
    gone_with: str | None = None

    def elements(self, plan: Mapping[str, int]) -> int:
        """Return its elements under `plan`."""
        if self.gone_with is not None and plan[self.gone_with] == 0:
            return 0
        return self.fixed + sum(part.width(plan[part.group]) for part in self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftAlone:
    """A layer that is not pruned, and why."""

    layer: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """All layers in the order of execution, all groups, and what is left alone with the reason.

    `branches` are those that may vanish as a whole, `tensors` the activations with the steps during which they are kept.
    """

    layers: tuple[Layer, ...]
    groups: tuple[Group, ...]
    left_alone: tuple[LeftAlone, ...] = ()
    branches: tuple[Branch, ...] = ()
    tensors: tuple[LiveTensor, ...] = ()

    def full_plan(self) -> Plan:
        """Return the plan that keeps every channel."""
        return Plan(kept={group.name: group.channels for group in self.groups})

    def macs(self, plan: Mapping[str, int]) -> int:
        """Return the MACs of all layers under `plan`."""
        return sum(layer.macs(plan) for layer in self.layers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A decision per group: channels kept, by group name; 0 drops the group's branch. A value: stored, diffed, replayed."""

    kept: Mapping[str, int] = field(default_factory=dict)

    def key(self) -> tuple[tuple[str, int], ...]:
        """Return a hashable, ordered form."""
        return tuple(sorted(self.kept.items()))
