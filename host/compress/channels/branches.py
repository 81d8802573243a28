"""Residual branches that may vanish: those whose inner group can go as a whole, and leave one value per channel of the stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from host.compress.channels.flow import Event
from host.compress.channels.trace import Trace
from host.compress.cuts import NORMS, Cut, Side, is_depthwise
from host.search.network import Branch, Group

_NORM = frozenset(
    {"native_batch_norm", "cudnn_batch_norm", "_native_batch_norm_legit", "_native_batch_norm_legit_no_training"}
)


def find_branches(trace: Trace, groups: Sequence[Group], cuts: Mapping[str, Sequence[Cut]]) -> tuple[Branch, ...]:
    """Return the branches of a traced module, in the order of execution.

    Such a branch's group is all that its layers make, one layer alone reads it, and that layer's output is added, straight or
    after one batch norm, to a stream that other layers made: with the group gone the network goes on.
    """
    namers = {group.layers[0] for group in groups if group.layers}
    found = (_branch(trace, group, cuts[group.name], namers) for group in groups)
    order = {name: place for place, name in enumerate(trace.executed)}
    return tuple(sorted((each for each in found if each is not None), key=lambda each: order[each.layers[0]]))


def _branch(trace: Trace, group: Group, cuts: Sequence[Cut], namers: set[str]) -> Branch | None:
    readers = [cut.module for cut in cuts if cut.side is Side.INPUT]
    others = [cut for cut in cuts if cut.side is not Side.INPUT]
    if len(readers) != 1 or any(cut.side is not Side.OUTPUT for cut in others):
        return None
    last, made = readers[0], [cut.module for cut in others]
    # The stream's group is named after its first layer, and has to keep its name.
    if last in namers or not all(_whole(trace, cut) for cut in cuts):
        return None
    if any(trace.executed[name].calls != 1 for name in (last, *made) if name in trace.executed):
        return None
    sum_after = _sum_after(trace, last)
    if sum_after is None:
        return None
    event, value, norm = sum_after
    flow, other = trace.flow, event.reads[1 - event.reads.index(value)]
    own = [value for event in flow.events if event.module in made for value in event.makes]
    if other in flow.downstream(own) or flow.values[other].shape != flow.values[value].shape:
        return None
    layers = [name for name in trace.executed if name in made or name == last]
    in_place = event.name == "add_" and event.reads[0] == value
    return Branch(group=group.name, layers=tuple(layers), norm=norm, in_place=in_place)


def _whole(trace: Trace, cut: Cut) -> bool:
    """Whether a cut takes all of its side of the module."""
    layer = trace.module.get_submodule(cut.module)
    taken = {index for indices in cut.indices for index in indices}
    if isinstance(layer, NORMS):
        return len(taken) == layer.num_features
    if isinstance(layer, nn.PReLU):
        return len(taken) == layer.num_parameters
    if isinstance(layer, nn.Linear):
        return len(taken) == (layer.in_features if cut.side is Side.INPUT else layer.out_features)
    if isinstance(layer, nn.Conv2d):
        return len(taken) == (layer.in_channels if cut.side is Side.INPUT else layer.out_channels) and (
            layer.groups == 1 or is_depthwise(layer)
        )
    return False


def _sum_after(trace: Trace, last: str) -> tuple[Event, int, str | None] | None:
    """Return the sum to which a layer's output comes, straight or after one batch norm; the value added, and that norm."""
    flow, norm = trace.flow, None
    values = flow.results(last)
    value = values[0] if len(values) == 1 else -1
    while len(readers := flow.readers(value)) == 1 or norm is None:
        event = next(iter(readers), None)
        if event is None:
            return None
        owner = trace.module.get_submodule(event.module)
        if event.name in _NORM and norm is None and isinstance(owner, NORMS) and len(flow.results(event.module)) == 1:
            norm, value = event.module, event.makes[0]
        elif event.name in ("add", "add_") and len(set(event.reads)) == 2:
            return event, value, norm
        else:
            return None
    return None
