"""Carrying out a plan: which channels stay, the smaller module, and its file.

A file of a compressed model is a checkpoint whose tensors are already small. It is loaded by building the
original from its factory and shrinking each layer to the shape of its tensors, so loading needs no analysis.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from host.compress.cuts import (
    SLICEABLE,
    PadsChannels,
    PrunableNetwork,
    Shortcut,
    Side,
    is_depthwise,
    slice_channels,
    slice_layer,
    width,
)
from host.compress.depth import ConstantChannels, Vanished, drop_again, drop_branches, dropped_of
from host.search.network import Group, Plan
from host.zoo.checkpoint import Checkpoint, CheckpointError, load_checkpoint, load_state, save_checkpoint

#: The entry of a checkpoint's metadata that marks a compressed model.
COMPRESSED = "compressed"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompressedModel:
    """A compressed module with the plan that made it, the indices kept by group, and the metadata saved with
    it.
    """

    module: nn.Module
    plan: Plan
    kept: Mapping[str, tuple[int, ...]] = field(repr=False)
    metadata: Mapping[str, Any] = field(default_factory=dict)


def channels_to_keep(network: PrunableNetwork, scores: Mapping[str, Tensor], plan: Plan) -> dict[str, list[int]]:
    """Keep the channels of the highest scores (channels,), as many as `plan` says; of equals the lower index.

    Where the structure asks for a multiple (grouped convolutions), each of that many consecutive blocks keeps
    as many. Groups that `plan` does not name keep all, those whose branch may vanish can keep none. Raises ValueError for counts
    that don't fit the group.
    """
    kept: dict[str, list[int]] = {}
    vanishing = {branch.group for branch in network.network.branches}
    for group in network.network.groups:
        count = plan.kept.get(group.name, group.channels)
        if not count and group.name in vanishing:
            kept[group.name] = []
            continue
        if not 0 < count <= group.channels or count % group.multiple:
            raise ValueError(
                f"group {group.name} has {group.channels} channels in multiples of {group.multiple}, "
                f"the plan keeps {count}"
            )
        if count == group.channels:
            kept[group.name] = list(range(count))
            continue
        values = scores[group.name].detach().double().cpu()
        if values.shape != (group.channels,) or not torch.isfinite(values).all():
            raise ValueError(
                f"group {group.name}: scores must be {group.channels} finite numbers, got shape {tuple(values.shape)}"
            )
        size = group.channels // group.multiple
        kept[group.name] = sorted(
            block * size + int(index)
            for block, part in enumerate(values.view(group.multiple, size))
            for index in torch.argsort(part, descending=True, stable=True)[: count // group.multiple]
        )
    _check_names(network, plan.kept)
    return kept


def prune(network: PrunableNetwork, module: nn.Module, kept: Mapping[str, Sequence[int]]) -> nn.Module:
    """Return a copy of `module` with only the channels `kept` of each group; groups not named keep all.

    A branch whose group keeps none is dropped: it then yields what it does once batch norm is fitted to it (`depth`). The order
    in which indices are given does not matter. Raises ValueError for indices or groups that don't fit.
    """
    _check_names(network, kept)
    removed = {}
    dropped = [each for each in network.network.branches if each.group in kept and not kept[each.group]]
    gone = {branch.group for branch in dropped}
    for group in network.network.groups:
        if group.name in kept and group.name not in gone:
            _check_kept(group, kept[group.name])
            removed[group.name] = sorted(set(range(group.channels)) - set(kept[group.name]))
    pruned = copy.deepcopy(module)
    slice_channels(pruned, network.cuts, removed)
    drop_branches(pruned, network.cuts, dropped)
    check_widths(network, pruned, plan_of(network, kept))
    return pruned


def prune_to(network: PrunableNetwork, module: nn.Module, plan: Plan) -> nn.Module:
    """Return `module` pruned to the widths of `plan`, the first channels of each group kept.

    For timing only: what a width costs does not depend on the weights, so the first channels stand for any.
    """
    return prune(network, module, {name: range(count) for name, count in plan.kept.items()})


def plan_of(network: PrunableNetwork, kept: Mapping[str, Sequence[int]]) -> Plan:
    """The channel counts that the indices `kept` amount to."""
    counts = {group.name: len(kept.get(group.name, range(group.channels))) for group in network.network.groups}
    return Plan(kept=counts)


def check_widths(network: PrunableNetwork, module: nn.Module, plan: Plan) -> None:
    """Raise ValueError unless every layer of `module` has the widths that `plan` gives it, or is gone where that is 0."""
    for layer in network.network.layers:
        own = module.get_submodule(layer.name)
        if 0 in layer.widths(plan.kept) and isinstance(own, (Vanished, ConstantChannels)):
            continue
        found = (width(own, Side.INPUT), width(own, Side.OUTPUT))
        if found != layer.widths(plan.kept):
            raise ValueError(
                f"layer {layer.name} is {found[0]} wide at its input and {found[1]} at its output, "
                f"but the plan says {layer.widths(plan.kept)}: the module is not the one that was analysed"
            )


def save_compressed(
    module: nn.Module,
    path: Path,
    *,
    kept: Mapping[str, Sequence[int]],
    architecture: str | None = None,
    arguments: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write a pruned module with the indices kept by group; `architecture` and `arguments` say how the
    original is built.

    `metadata` must hold plain numbers, strings, lists and dicts only.
    """
    note = {
        "kept": {group: sorted(int(index) for index in indices) for group, indices in kept.items()},
        "pads": {
            name: {"before": int(layer.before), "after": int(layer.after), "stride": getattr(layer, "stride", None)}
            for name, layer in module.named_modules()
            if isinstance(layer, PadsChannels)
        },
        "dropped": dropped_of(module),
    }
    save_checkpoint(
        path,
        Checkpoint(
            state=module.state_dict(),
            architecture=architecture,
            arguments=dict(arguments or {}),
            metadata={**(metadata or {}), COMPRESSED: note},
        ),
    )


def load_compressed(path: Path, factory: Callable[[], nn.Module]) -> CompressedModel:
    """Read what `save_compressed` wrote; `factory` builds the original module. Raises CheckpointError."""
    checkpoint = load_checkpoint(path)
    if COMPRESSED not in checkpoint.metadata:
        raise CheckpointError(f"{path} holds no compressed model, but an ordinary checkpoint: load it as one")
    kept = {group: tuple(indices) for group, indices in checkpoint.metadata[COMPRESSED]["kept"].items()}
    module = factory()
    drop_again(module, checkpoint.metadata[COMPRESSED].get("dropped", {}))
    shrink_to(module, checkpoint.state)
    for name, pads in checkpoint.metadata[COMPRESSED].get("pads", {}).items():
        layer = module.get_submodule(name)
        if not isinstance(layer, PadsChannels):
            layer = Shortcut(**pads).build()
            module.set_submodule(name, layer)
        layer.before, layer.after = pads["before"], pads["after"]
    load_state(module, checkpoint, source=str(path))
    metadata = {key: value for key, value in checkpoint.metadata.items() if key != COMPRESSED}
    plan = Plan(kept={group: len(indices) for group, indices in kept.items()})
    return CompressedModel(module=module, plan=plan, kept=kept, metadata=metadata)


def shrink_to(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Shrink the layers of `module`, in place, to the shapes of the tensors in `state`. Weights are not taken
    over.

    Layers that don't fit are left as they are, for `load_state` to name.
    """
    for name, layer in module.named_modules():
        if not isinstance(layer, SLICEABLE):
            _shrink_tensors(layer, name, state)
        weight = state.get(f"{name}.weight" if name else "weight")
        if not isinstance(layer, SLICEABLE) or weight is None or weight.shape == getattr(layer.weight, "shape", None):
            continue
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and not is_depthwise(layer):
            groups = layer.groups if isinstance(layer, nn.Conv2d) else 1
            if weight.shape[0] % groups:
                continue
            # In blocks, so that each group of a grouped convolution keeps as many.
            size = width(layer, Side.INPUT) // groups
            slice_layer(
                layer,
                Side.INPUT,
                [block * size + i for block in range(groups) for i in range(min(size, weight.shape[1]))],
            )
        slice_layer(layer, Side.OUTPUT, range(min(weight.shape[0], width(layer, Side.OUTPUT))))


@torch.no_grad()
def _shrink_tensors(layer: nn.Module, name: str, state: Mapping[str, Tensor]) -> None:
    for own, value in [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]:
        wanted = state.get(f"{name}.{own}" if name else own)
        if wanted is None or wanted.ndim != value.ndim or wanted.shape == value.shape:
            continue
        if all(new <= old for new, old in zip(wanted.shape, value.shape, strict=True)):
            smaller = value[tuple(slice(size) for size in wanted.shape)].clone()
            setattr(layer, own, nn.Parameter(smaller) if isinstance(value, nn.Parameter) else smaller)


def _check_names(network: PrunableNetwork, named: Mapping[str, object]) -> None:
    unknown = sorted(set(named) - set(network.cuts))
    if unknown:
        raise ValueError(f"no group is named {', '.join(unknown)}; there are {', '.join(network.cuts) or 'none'}")


def _check_kept(group: Group, indices: Sequence[int]) -> None:
    if not indices or len(set(indices)) != len(indices) or not 0 <= min(indices) <= max(indices) < group.channels:
        raise ValueError(
            f"group {group.name}: kept indices must be different numbers in 0 - {group.channels - 1}, "
            f"at least one; got {len(indices)} of them, {len(set(indices))} different"
        )
    size = group.channels // group.multiple
    counts = [sum(index // size == block for index in indices) for block in range(group.multiple)]
    if len(set(counts)) != 1:
        raise ValueError(
            f"group {group.name} must keep as many channels in each of {group.multiple} blocks, got {counts}"
        )
