"""Which layers must lose the same channels together: Torch-Pruning's dependency graph, each group proved
before it is used.

Torch-Pruning (DepGraph, Fang et al., CVPR 2023, arXiv 2301.12900) follows the autograd graph and guesses at
operations that it doesn't know. So every group is tried: the network with a few of its channels cut out must
run, and must yield the same outputs as the network with the weights that read these channels set to zero.
What fails is left alone, with the reason.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch_pruning
from torch import Tensor, nn

from device_agent.contract.errors import StableError
from host.compress.cuts import SLICEABLE, Cut, PrunableNetwork, Side, is_depthwise, width
from host.compress.layers import Executed, executed_layers, layer_views
from host.compress.proof import Refused, first_line, make_probe, outputs_of, prove, prove_together
from host.search.network import Group, LeftAlone, Network

# Operations through which Torch-Pruning passes indices unchanged although they may move or mix channels.
_SUSPECTS = {
    "pad": "a zero-padded shortcut",
    "softmax": "a softmax",
    "transpose": "a transposition",
    "permute": "a permutation",
    "bmm": "a matrix product of activations",
    "index": "an indexing operation",
    "roll": "a rolled tensor",
    "copyslices": "an assignment to a slice",
}


class ModelNotPrunable(StableError):
    """The model as a whole cannot be analysed; the message names it and says why."""


def analyse(module: nn.Module, example: Tensor) -> PrunableNetwork:
    """Find the layers and groups of `module` from a run on images like `example` (N, C, H, W). `module` is
    not changed.

    Groups are named after their first layer in the order of execution. Raises ModelNotPrunable if the module
    doesn't run on `example`, if its graph can't be traced, or if it has no convolution or linear layer.
    """
    title = type(module).__name__
    if example.ndim != 4:
        raise ModelNotPrunable(f"{title}: the example must be images (N, C, H, W), got shape {tuple(example.shape)}")
    probe, images = make_probe(module, example)
    try:
        executed = executed_layers(probe, images)
    except Exception as error:
        raise ModelNotPrunable(
            f"{title} does not run on images of shape {tuple(example.shape)}: {first_line(error)}. "
            f"Build it for this input size and number of channels."
        ) from error
    if not executed:
        raise ModelNotPrunable(f"{title} runs no nn.Conv2d and no nn.Linear, so there are no channels to prune")
    graph = _dependency_graph(probe, images, title)
    if not any(probe.get_submodule(name) in graph.module2node for name in executed):
        raise ModelNotPrunable(
            f"{title} cannot be traced for pruning: its outputs do not depend on its layers by operations that torch's "
            f"autograd records (a detach, or a step outside of torch). It can still be measured, exported and quantized."
        )

    with torch.no_grad():
        whole = outputs_of(probe, images)
    cuts: dict[str, tuple[Cut, ...]] = {}
    groups: list[Group] = []
    reasons: dict[str, str] = {}
    owners: set[str] = set()
    for name in executed:
        if name in owners:
            continue
        coupled, found = _members(graph, probe, name)
        members = [member for member in executed if member in coupled]
        owners.update(members)
        try:
            if found is None:
                raise Refused("its channels take a way that Torch-Pruning cannot follow")
            candidate = _cuts(probe, name, found, executed)
            multiple = _multiple(probe, candidate)
            prove(probe, images, whole, candidate, multiple)
        except Refused as refusal:
            suspects = _suspects(found or ())
            reason = (
                f"its channels go through {suspects} ({refusal})" if suspects and not refusal.head else str(refusal)
            )
            reasons.update(dict.fromkeys(members, reason))
            continue
        cuts[name] = candidate
        channels = width(probe.get_submodule(name), Side.OUTPUT)
        groups.append(Group(name=name, channels=channels, layers=tuple(members), multiple=multiple))

    _drop_sharedoutputs_of(cuts, groups, reasons)
    if len(groups) > 1 and (problem := prove_together(probe, images, whole, cuts, groups)):
        raise ModelNotPrunable(
            f"{title}: each of its {len(groups)} groups can be pruned alone, but not all together: {problem}"
        )
    return PrunableNetwork(
        network=Network(
            layers=layer_views(probe, executed, cuts),
            groups=tuple(groups),
            left_alone=tuple(LeftAlone(layer=name, reason=reasons[name]) for name in executed if name in reasons),
        ),
        cuts=cuts,
        input_shape=(example.shape[1], example.shape[2], example.shape[3]),
    )


def _dependency_graph(probe: nn.Module, images: Tensor, title: str) -> Any:
    try:
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            return torch_pruning.DependencyGraph().build_dependency(probe, images, verbose=False)
    except Exception as error:
        raise ModelNotPrunable(
            f"{title} cannot be traced for pruning ({type(error).__name__}: {first_line(error)}). "
            f"It can still be measured, exported and quantized."
        ) from error


def _members(graph: Any, probe: nn.Module, root: str) -> tuple[set[str], list[Any] | None]:
    """Names of all layers whose output goes with that of `root`, and Torch-Pruning's group of all its
    channels.
    """
    layer = probe.get_submodule(root)
    pruner = graph.get_pruner_of_module(layer)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = list(
                graph.get_pruning_group(layer, pruner.prune_out_channels, list(range(width(layer, Side.OUTPUT))))
            )
    except Exception:
        # Besides its own errors: IndexError, ZeroDivisionError and others from graphs that it misreads.
        return {root}, None
    names = {module: name for name, module in probe.named_modules()}
    members = {
        names[item.dep.target.module]
        for item in found
        if isinstance(item.dep.target.module, (nn.Conv2d, nn.Linear)) and _side(graph, item) is Side.OUTPUT
    }
    for item in found:
        item.side = _side(graph, item)
        item.module_name = names.get(item.dep.target.module)
    return members, found


def _side(graph: Any, item: Any) -> Side:
    return Side.OUTPUT if graph.is_out_channel_pruning_fn(item.dep.handler) else Side.INPUT


def _cuts(probe: nn.Module, root: str, found: Sequence[Any], executed: Mapping[str, Executed]) -> tuple[Cut, ...]:
    """Turn Torch-Pruning's group into cuts. Raises Refused for what cuts can't describe."""
    channels = width(probe.get_submodule(root), Side.OUTPUT)
    if channels == 1:
        raise Refused("it has a single channel")
    merged: dict[tuple[str, Side], list[set[int]]] = {}
    for item in found:
        target = item.dep.target.module
        if isinstance(target, nn.Parameter):
            raise Refused("its channels meet a bare parameter of the model, whose meaning is unknown")
        if item.module_name is None or (type(target).__module__.startswith("torch_pruning")):
            continue
        if not isinstance(target, SLICEABLE):
            if next(target.parameters(), None) is not None:
                raise Refused(f"its channels go through {item.module_name} ({type(target).__name__}), which has no cut")
            continue
        if isinstance(target, nn.PReLU) and target.num_parameters == 1:
            continue
        if item.module_name in executed and executed[item.module_name].calls > 1:
            raise Refused(f"layer {item.module_name} is called {executed[item.module_name].calls} times in one run")
        side = item.side if isinstance(target, (nn.Conv2d, nn.Linear)) else Side.OUTPUT
        if len(item.idxs) != len(item.root_idxs):
            raise Refused("its channels are rearranged in a way that Torch-Pruning cannot follow")
        by_channel = merged.setdefault((item.module_name, side), [set() for _ in range(channels)])
        for index, channel in zip(item.idxs, item.root_idxs, strict=True):
            if channel is None or not 0 <= index < width(target, side):
                raise Refused(f"its channels do not match those of layer {item.module_name}")
            by_channel[channel].add(index)
    cuts = []
    for (name, side), by_channel in merged.items():
        total = sum(len(indices) for indices in by_channel)
        if len({len(indices) for indices in by_channel}) != 1 or len(set().union(*by_channel)) != total:
            raise Refused(f"its channels are of unequal or overlapping use in layer {name}")
        layer = probe.get_submodule(name)
        if side is Side.OUTPUT and isinstance(layer, (nn.Conv2d, nn.Linear)) and total != width(layer, side):
            raise Refused(f"only a part of the outputs of layer {name} goes with it")
        cuts.append(Cut(module=name, side=side, indices=tuple(tuple(sorted(indices)) for indices in by_channel)))
    if not any(cut.side is Side.INPUT for cut in cuts):
        raise Refused("it produces the network's output", head=True)
    return tuple(cuts)


def _multiple(probe: nn.Module, cuts: Sequence[Cut]) -> int:
    """The least common multiple of the groups of the grouped convolutions that the cuts touch."""
    multiple = 1
    for cut in cuts:
        layer = probe.get_submodule(cut.module)
        if isinstance(layer, nn.Conv2d) and layer.groups > 1 and not is_depthwise(layer):
            if cut.indices != tuple((channel,) for channel in range(width(layer, cut.side))):
                raise Refused(f"layer {cut.module} convolves in {layer.groups} groups over more than these channels")
            multiple = math.lcm(multiple, layer.groups)
    channels = len(cuts[0].indices)
    if channels % multiple or channels == multiple:
        raise Refused(f"grouped convolutions allow {channels} channels only in multiples of {multiple}")
    return multiple


def _drop_sharedoutputs_of(cuts: dict[str, tuple[Cut, ...]], groups: list[Group], reasons: dict[str, str]) -> None:
    """Leave alone groups that share the output of a layer: a layer's output belongs to one group in the
    planner's view.
    """
    owners: dict[str, list[str]] = {}
    for group in groups:
        for name in group.layers:
            owners.setdefault(name, []).append(group.name)
    shared = {owner: name for name, those in owners.items() if len(those) > 1 for owner in those}
    for group in [group for group in groups if group.name in shared]:
        groups.remove(group)
        del cuts[group.name]
        reasons.update(
            dict.fromkeys(group.layers, f"layer {shared[group.name]} takes its channels from several groups")
        )


def _suspects(found: Sequence[Any]) -> str | None:
    names = {str(getattr(item.dep.target.grad_fn, "name", str)()).lower() for item in found}
    hits = [text for key, text in _SUSPECTS.items() if any(key in name for name in names)]
    return " and ".join(hits) or None
