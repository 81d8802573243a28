"""Cuts: which slices of which layers belong to a channel of a group, and how a layer is sliced or masked by
them.

Nothing here knows how the cuts were found, so a compressed model can be built and loaded without a dependency
graph.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from host.search.network import Network
from host.zoo.cifar_resnet import ZeroPadShortcut

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
SLICEABLE = (nn.Conv2d, nn.Linear, nn.PReLU, *NORMS)


class Side(str, Enum):
    """What of a module a cut takes. Layers with one width for both sides (depthwise, batch norm) are cut at OUTPUT.

    PADDING are the zeros of a module that PadsChannels, those before counted first; TENSOR is a bare parameter or buffer.
    """

    OUTPUT = "output"
    INPUT = "input"
    PADDING = "padding"
    TENSOR = "tensor"


@runtime_checkable
class PadsChannels(Protocol):
    """A module that puts zeros around the channels of its input: `before` and `after` of them, read at every call.

    A network of one's own whose shortcuts pad is pruned along them if the module that calls `pad` has these two attributes.
    """

    before: int
    after: int


class Shortcut(NamedTuple):
    """What a module without weights was seen to do: take every `stride`-th pixel, and put zeros around the channels."""

    stride: int
    before: int
    after: int

    def build(self) -> ZeroPadShortcut:
        """A module that does the same and PadsChannels."""
        module = ZeroPadShortcut(0, self.before + self.after, self.stride)
        module.before, module.after = self.before, self.after
        return module


class Place(NamedTuple):
    """What is cut, whatever the channels: as in Cut."""

    module: str
    side: Side
    tensor: str | None = None
    dimension: int = 0
    shortcut: Shortcut | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Channel c of the group owns the places `indices[c]` of one side of the module named `module`.

    For TENSOR, `tensor` is the name of the parameter or buffer in the module, and `dimension` where it is cut. For PADDING,
    `shortcut` is what the module is replaced by if it does not PadsChannels itself.
    """

    module: str
    side: Side
    indices: tuple[tuple[int, ...], ...] = field(repr=False)
    tensor: str | None = None
    dimension: int = 0
    shortcut: Shortcut | None = None

    @property
    def place(self) -> Place:
        """What is cut, whatever the channels."""
        return Place(self.module, self.side, self.tensor, self.dimension, self.shortcut)


@dataclass(frozen=True, slots=True, kw_only=True)
class PrunableNetwork:
    """The planner's view of a module, and for each of its groups the cuts that carry a plan out.

    `input_shape` is (C, H, W) of the images that the analysis saw; pixel counts belong to it.
    """

    network: Network
    cuts: Mapping[str, tuple[Cut, ...]] = field(repr=False)
    input_shape: tuple[int, int, int]


def is_depthwise(layer: nn.Module) -> bool:
    """True for a convolution with one filter per channel, which has one width for both sides."""
    return isinstance(layer, nn.Conv2d) and 1 < layer.groups == layer.in_channels == layer.out_channels


def width(layer: nn.Module, side: Side) -> int:
    """Output channels or input features of a sliceable layer."""
    if isinstance(layer, nn.Conv2d):
        return layer.out_channels if side is Side.OUTPUT else layer.in_channels
    if isinstance(layer, nn.Linear):
        return layer.out_features if side is Side.OUTPUT else layer.in_features
    if isinstance(layer, NORMS):
        return layer.num_features
    if isinstance(layer, nn.PReLU):
        return layer.num_parameters
    raise TypeError(f"{type(layer).__name__} has no width that can be cut")


def removed_indices(cuts: Mapping[str, Sequence[Cut]], removed: Mapping[str, Collection[int]]) -> dict[Place, set[int]]:
    """Gather what goes from each side of each module when the channels `removed` (by group) go."""
    gone: dict[Place, set[int]] = defaultdict(set)
    for group, channels in removed.items():
        for cut in cuts[group]:
            gone[cut.place].update(index for channel in channels for index in cut.indices[channel])
    return {key: indices for key, indices in gone.items() if indices}


@torch.no_grad()
def slice_channels(
    module: nn.Module, cuts: Mapping[str, Sequence[Cut]], removed: Mapping[str, Collection[int]]
) -> None:
    """Take the channels `removed` (by group) out of `module`, in place. Raises ValueError where nothing would
    remain.
    """
    sharing = _shared_parameters(module)
    for (name, side, tensor, dimension, shortcut), gone in removed_indices(cuts, removed).items():
        layer = module.get_submodule(name)
        if side is Side.PADDING:
            if shortcut is not None and not isinstance(layer, PadsChannels):
                layer = shortcut.build()
                module.set_submodule(name, layer)
            assert isinstance(layer, PadsChannels)
            total, before = layer.before + layer.after, layer.before
            layer.before = sum(index not in gone for index in range(before))
            layer.after = sum(index not in gone for index in range(before, total))
            continue
        total = width(layer, side) if tensor is None else getattr(layer, tensor).shape[dimension]
        keep = [index for index in range(total) if index not in gone]
        if not keep:
            raise ValueError(f"layer {name} would lose all of its {len(gone)} {side.value} channels")
        if tensor is None:
            slice_layer(layer, side, keep)
        else:
            value = getattr(layer, tensor)
            _replace(layer, tensor, value.index_select(dimension, torch.as_tensor(keep, device=value.device)))
    for first, *others in sharing:
        for owner, name in others:
            setattr(owner, name, getattr(*first))


def _shared_parameters(module: nn.Module) -> list[list[tuple[nn.Module, str]]]:
    """Where one parameter has several places, all of them: cut apart, they would be trained apart."""
    places: dict[int, list[tuple[nn.Module, str]]] = defaultdict(list)
    for owner in module.modules():
        for name, value in owner.named_parameters(recurse=False):
            places[id(value)].append((owner, name))
    return [each for each in places.values() if len(each) > 1]


@torch.no_grad()
def mask_consumers(
    module: nn.Module, cuts: Mapping[str, Sequence[Cut]], removed: Mapping[str, Collection[int]]
) -> dict[str, Tensor]:
    """Zero the input weights that read the channels `removed`: the outputs become those of the sliced
    network.

    Only dense layers read across channels, so zeroing their input weights is exact, also with batch norm in
    between. Returns the former weights by layer name, for `restore_weights`.
    """
    former: dict[str, Tensor] = {}
    for (name, side, *_), gone in removed_indices(cuts, removed).items():
        if side is Side.INPUT:
            layer = module.get_submodule(name)
            assert isinstance(layer, (nn.Conv2d, nn.Linear))
            former[name] = layer.weight.detach().clone()
            mask = input_mask(layer, gone)
            layer.weight.mul_(mask)
    return former


@torch.no_grad()
def restore_weights(module: nn.Module, former: Mapping[str, Tensor]) -> None:
    """Undo `mask_consumers`."""
    for name, weight in former.items():
        layer = module.get_submodule(name)
        assert isinstance(layer, (nn.Conv2d, nn.Linear))
        layer.weight.copy_(weight)


def input_mask(layer: nn.Conv2d | nn.Linear, gone: Collection[int]) -> Tensor:
    """0 for the weights that read the input features `gone`, 1 for the others; broadcasts over the layer's
    weight.
    """
    alive = torch.ones(width(layer, Side.INPUT), dtype=layer.weight.dtype, device=layer.weight.device)
    alive[sorted(gone)] = 0
    if isinstance(layer, nn.Linear):
        return alive[None, :]
    if layer.groups == 1:
        return alive[None, :, None, None]
    blocks = alive.view(layer.groups, -1)
    return blocks.repeat_interleave(layer.out_channels // layer.groups, 0)[:, :, None, None]


def slice_layer(layer: nn.Module, side: Side, keep: Sequence[int]) -> None:
    """Keep only the output channels or input features `keep` (ascending) of one layer, in place."""
    index = torch.as_tensor(list(keep))
    if isinstance(layer, nn.Conv2d):
        if side is Side.INPUT:
            _replace(layer, "weight", _conv_inputs(layer, keep))
            layer.in_channels = len(keep)
            return
        depthwise = is_depthwise(layer)
        _select(layer, "weight", index)
        _select(layer, "bias", index)
        layer.out_channels = len(keep)
        if depthwise:
            layer.in_channels = layer.groups = len(keep)
    elif isinstance(layer, nn.Linear):
        if side is Side.INPUT:
            _replace(layer, "weight", layer.weight[:, index.to(layer.weight.device)])
            layer.in_features = len(keep)
            return
        _select(layer, "weight", index)
        _select(layer, "bias", index)
        layer.out_features = len(keep)
    elif isinstance(layer, NORMS):
        for name in ("weight", "bias", "running_mean", "running_var"):
            _select(layer, name, index)
        layer.num_features = len(keep)
    elif isinstance(layer, nn.PReLU):
        _select(layer, "weight", index)
        layer.num_parameters = len(keep)
    else:
        raise TypeError(f"{type(layer).__name__} cannot be sliced")


def _conv_inputs(layer: nn.Conv2d, keep: Sequence[int]) -> Tensor:
    size = layer.in_channels // layer.groups
    rows = layer.weight.shape[0] // layer.groups
    local = [[index - block * size for index in keep if index // size == block] for block in range(layer.groups)]
    if len({len(indices) for indices in local}) != 1:
        raise ValueError(
            f"a convolution with {layer.groups} groups must keep as many input channels in each, "
            f"got {[len(indices) for indices in local]}"
        )
    device = layer.weight.device
    return torch.cat(
        [
            layer.weight[block * rows : (block + 1) * rows, torch.as_tensor(indices, device=device)]
            for block, indices in enumerate(local)
        ]
    )


def _select(layer: nn.Module, name: str, index: Tensor) -> None:
    value = getattr(layer, name)
    if value is not None:
        _replace(layer, name, value[index.to(value.device)])


def _replace(layer: nn.Module, name: str, value: Tensor) -> None:
    old = getattr(layer, name)
    value = value.detach().clone(memory_format=torch.contiguous_format)
    if isinstance(old, nn.Parameter):
        setattr(layer, name, nn.Parameter(value, requires_grad=old.requires_grad))
    else:
        setattr(layer, name, value)
