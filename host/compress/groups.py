"""Which layers must lose the same channels together: Torch-Pruning's dependency graph, each group proved
before it is used.

Torch-Pruning (DepGraph, Fang et al., CVPR 2023, arXiv 2301.12900) follows the autograd graph and guesses at
operations that it doesn't know. So every group is tried: the network with a few of its channels cut out must
run, and must yield the same outputs as the network with the weights that read these channels set to zero.
What fails is left alone, with the reason.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch_pruning
from torch import Tensor, nn
from torch.utils import _pytree

from device_agent.contract.errors import StableError
from host.compress.cuts import (
    SLICEABLE,
    Cut,
    PrunableNetwork,
    Side,
    is_depthwise,
    mask_consumers,
    slice_channels,
    width,
)
from host.compress.layers import Executed, executed_layers, layer_views
from host.search.network import Group, LeftAlone, Network

#: Largest difference allowed between a cut and a masked network, as a share of the largest output (float32).
TOLERANCE = 1e-4

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


class _Refused(Exception):
    """One group cannot be pruned; the message is the reason, for a user. `head` if it makes the network's
    output.
    """

    def __init__(self, reason: str, *, head: bool = False) -> None:
        super().__init__(reason)
        self.head = head


def analyse(module: nn.Module, example: Tensor) -> PrunableNetwork:
    """Find the layers and groups of `module` from a run on images like `example` (N, C, H, W). `module` is
    not changed.

    Groups are named after their first layer in the order of execution. Raises ModelNotPrunable if the module
    doesn't run on `example`, if its graph can't be traced, or if it has no convolution or linear layer.
    """
    title = type(module).__name__
    if example.ndim != 4:
        raise ModelNotPrunable(
            f"{title}: the example must be images (N, C, H, W), got shape {tuple(example.shape)}"
        )
    probe, images = _probe(module, example)
    try:
        executed = executed_layers(probe, images)
    except Exception as error:
        raise ModelNotPrunable(
            f"{title} does not run on images of shape {tuple(example.shape)}: {_first_line(error)}. "
            f"Build it for this input size and number of channels."
        ) from error
    if not executed:
        raise ModelNotPrunable(
            f"{title} runs no nn.Conv2d and no nn.Linear, so there are no channels to prune"
        )
    graph = _dependency_graph(probe, images, title)

    with torch.no_grad():
        whole = _outputs(probe, images)
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
                raise _Refused("its channels take a way that Torch-Pruning cannot follow")
            candidate = _cuts(probe, name, found, executed)
            multiple = _multiple(probe, candidate)
            _prove(probe, images, whole, candidate, multiple)
        except _Refused as refusal:
            suspects = _suspects(found or ())
            reason = (
                f"its channels go through {suspects} ({refusal})"
                if suspects and not refusal.head
                else str(refusal)
            )
            reasons.update(dict.fromkeys(members, reason))
            continue
        cuts[name] = candidate
        channels = width(probe.get_submodule(name), Side.OUTPUT)
        groups.append(Group(name=name, channels=channels, layers=tuple(members), multiple=multiple))

    _drop_shared_outputs(cuts, groups, reasons)
    if len(groups) > 1:
        _prove_together(probe, images, whole, cuts, groups, title)
    return PrunableNetwork(
        network=Network(
            layers=layer_views(probe, executed, cuts),
            groups=tuple(groups),
            left_alone=tuple(
                LeftAlone(layer=name, reason=reasons[name]) for name in executed if name in reasons
            ),
        ),
        cuts=cuts,
        input_shape=(example.shape[1], example.shape[2], example.shape[3]),
    )


def _probe(module: nn.Module, example: Tensor) -> tuple[nn.Module, Tensor]:
    """A copy with random weights, so that a wrong cut shows: trained or freshly made weights may be zero
    where it matters.
    """
    generator = torch.Generator().manual_seed(0)

    def uniform(like: Tensor, low: float, high: float) -> Tensor:
        return torch.rand(like.shape, generator=generator) * (high - low) + low

    probe = copy.deepcopy(module).cpu().float().eval()
    with torch.no_grad():
        for layer in probe.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                if layer.running_mean is not None and layer.running_var is not None:
                    layer.running_mean.copy_(uniform(layer.running_mean, -0.3, 0.3))
                    layer.running_var.copy_(uniform(layer.running_var, 0.5, 1.5))
                if layer.affine:
                    layer.weight.copy_(uniform(layer.weight, 0.5, 1.5))
                    layer.bias.copy_(uniform(layer.bias, -0.3, 0.5))
            elif isinstance(layer, (nn.Conv2d, nn.Linear)):
                fan_in = layer.weight[0].numel()
                layer.weight.copy_(
                    torch.randn(layer.weight.shape, generator=generator) * math.sqrt(2 / fan_in)
                )
                if layer.bias is not None:
                    layer.bias.copy_(uniform(layer.bias, -0.1, 0.3))
    for parameter in probe.parameters():
        parameter.requires_grad_(True)
    images = torch.randn((1, *example.shape[1:]), generator=generator)
    return probe, images


def _dependency_graph(probe: nn.Module, images: Tensor, title: str) -> Any:
    try:
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            return torch_pruning.DependencyGraph().build_dependency(probe, images, verbose=False)
    except Exception as error:
        raise ModelNotPrunable(
            f"{title} cannot be traced for pruning ({type(error).__name__}: {_first_line(error)}). "
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
                graph.get_pruning_group(
                    layer, pruner.prune_out_channels, list(range(width(layer, Side.OUTPUT)))
                )
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


def _cuts(
    probe: nn.Module, root: str, found: Sequence[Any], executed: Mapping[str, Executed]
) -> tuple[Cut, ...]:
    """Turn Torch-Pruning's group into cuts. Raises _Refused for what cuts can't describe."""
    channels = width(probe.get_submodule(root), Side.OUTPUT)
    if channels == 1:
        raise _Refused("it has a single channel")
    merged: dict[tuple[str, Side], list[set[int]]] = {}
    for item in found:
        target = item.dep.target.module
        if isinstance(target, nn.Parameter):
            raise _Refused("its channels meet a bare parameter of the model, whose meaning is unknown")
        if item.module_name is None or (type(target).__module__.startswith("torch_pruning")):
            continue
        if not isinstance(target, SLICEABLE):
            if next(target.parameters(), None) is not None:
                raise _Refused(
                    f"its channels go through {item.module_name} ({type(target).__name__}), which has no cut"
                )
            continue
        if isinstance(target, nn.PReLU) and target.num_parameters == 1:
            continue
        if item.module_name in executed and executed[item.module_name].calls > 1:
            raise _Refused(
                f"layer {item.module_name} is called {executed[item.module_name].calls} times in one run"
            )
        side = item.side if isinstance(target, (nn.Conv2d, nn.Linear)) else Side.OUTPUT
        if len(item.idxs) != len(item.root_idxs):
            raise _Refused("its channels are rearranged in a way that Torch-Pruning cannot follow")
        by_channel = merged.setdefault((item.module_name, side), [set() for _ in range(channels)])
        for index, channel in zip(item.idxs, item.root_idxs, strict=True):
            if channel is None or not 0 <= index < width(target, side):
                raise _Refused(f"its channels do not match those of layer {item.module_name}")
            by_channel[channel].add(index)
    cuts = []
    for (name, side), by_channel in merged.items():
        total = sum(len(indices) for indices in by_channel)
        if len({len(indices) for indices in by_channel}) != 1 or len(set().union(*by_channel)) != total:
            raise _Refused(f"its channels are of unequal or overlapping use in layer {name}")
        layer = probe.get_submodule(name)
        if side is Side.OUTPUT and isinstance(layer, (nn.Conv2d, nn.Linear)) and total != width(layer, side):
            raise _Refused(f"only a part of the outputs of layer {name} goes with it")
        cuts.append(
            Cut(module=name, side=side, indices=tuple(tuple(sorted(indices)) for indices in by_channel))
        )
    if not any(cut.side is Side.INPUT for cut in cuts):
        raise _Refused("it produces the network's output", head=True)
    return tuple(cuts)


def _multiple(probe: nn.Module, cuts: Sequence[Cut]) -> int:
    """The least common multiple of the groups of the grouped convolutions that the cuts touch."""
    multiple = 1
    for cut in cuts:
        layer = probe.get_submodule(cut.module)
        if isinstance(layer, nn.Conv2d) and layer.groups > 1 and not is_depthwise(layer):
            if cut.indices != tuple((channel,) for channel in range(width(layer, cut.side))):
                raise _Refused(
                    f"layer {cut.module} convolves in {layer.groups} groups over more than these channels"
                )
            multiple = math.lcm(multiple, layer.groups)
    channels = len(cuts[0].indices)
    if channels % multiple or channels == multiple:
        raise _Refused(f"grouped convolutions allow {channels} channels only in multiples of {multiple}")
    return multiple


def _some_channels(channels: int, multiple: int, seed: int) -> list[int]:
    """About a quarter of the channels, at random, as many in each block."""
    size = channels // multiple
    count = min(size - 1, max(1, size // 4))
    generator = torch.Generator().manual_seed(seed)
    return [
        block * size + int(index)
        for block in range(multiple)
        for index in torch.randperm(size, generator=generator)[:count]
    ]


def _outputs(module: nn.Module, images: Tensor) -> list[Tensor]:
    return [leaf for leaf in _pytree.tree_leaves(module(images)) if isinstance(leaf, Tensor)]


@torch.no_grad()
def _agreement(
    probe: nn.Module,
    images: Tensor,
    whole: Sequence[Tensor],
    cuts: Mapping[str, Sequence[Cut]],
    removed: Mapping[str, Sequence[int]],
) -> tuple[float, float]:
    """(difference of the cut from the masked network, of the masked from the whole), as shares of the largest
    output.
    """
    masked_probe, cut_probe = copy.deepcopy(probe), copy.deepcopy(probe)
    mask_consumers(masked_probe, cuts, removed)
    slice_channels(cut_probe, cuts, removed)
    masked, cut = _outputs(masked_probe, images), _outputs(cut_probe, images)
    if [value.shape for value in cut] != [value.shape for value in whole]:
        raise _Refused("it produces the network's output", head=True)

    def difference(left: Sequence[Tensor], right: Sequence[Tensor]) -> float:
        return max(
            float((a - b).abs().max() / b.abs().max().clamp_min(1e-12))
            for a, b in zip(left, right, strict=True)
        )

    return difference(cut, masked), difference(masked, whole)


def _prove(
    probe: nn.Module, images: Tensor, whole: Sequence[Tensor], cuts: Sequence[Cut], multiple: int
) -> None:
    name, channels = cuts[0].module, len(cuts[0].indices)
    removed = {name: _some_channels(channels, multiple, 0)}
    try:
        error, effect = _agreement(probe, images, whole, {name: cuts}, removed)
    except _Refused:
        raise
    except Exception as failure:
        raise _Refused(f"the network does not run without some of them: {_first_line(failure)}") from failure
    if not error <= TOLERANCE:
        raise _Refused(f"without some of them the outputs are off by {error:.2g} of the largest")
    if not effect > TOLERANCE:
        raise _Refused("removing its channels has no effect on the outputs, so the cut cannot be checked")


def _prove_together(
    probe: nn.Module,
    images: Tensor,
    whole: Sequence[Tensor],
    cuts: Mapping[str, Sequence[Cut]],
    groups: Sequence[Group],
    title: str,
) -> None:
    removed = {
        group.name: _some_channels(group.channels, group.multiple, seed) for seed, group in enumerate(groups)
    }
    try:
        error, _ = _agreement(probe, images, whole, cuts, removed)
        problem = None if error <= TOLERANCE else f"the outputs are off by {error:.2g} of the largest"
    except Exception as failure:
        problem = _first_line(failure)
    if problem is not None:
        raise ModelNotPrunable(
            f"{title}: each of its {len(groups)} groups can be pruned, but not all together: {problem}"
        )


def _drop_shared_outputs(
    cuts: dict[str, tuple[Cut, ...]], groups: list[Group], reasons: dict[str, str]
) -> None:
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


def _first_line(error: BaseException) -> str:
    return (str(error).strip().partition("\n")[0] or type(error).__name__)[:200]
