"""Narrower variants cut straight from a network's `.tflite` file, in a tenth of a second instead of a fresh export's half minute.

The file's operators with weights are matched with the calls of the module's layers, by the values of the weights. What a plan
takes from these layers is followed through the file, sizes and constants are cut, and the weights become those of the pruned
module. Every variant is run here, and its outputs are compared with those of the pruned module.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from host.compress.cuts import PrunableNetwork, Side, removed_indices
from host.compress.tflite.drops import Axis, CannotSlice, Drops, Mask, settle
from host.compress.tflite.flatbuffer import Graph
from host.compress.tflite.matching import layers_of, match, weighted
from host.compress.tflite.operators import DEPTHWISE, RULES, rewrite
from host.compress.tflite.parameters import LayerCall, Values, laid_out, parameters_of
from host.compress.tflite.running import difference
from host.search.network import Plan

#: Largest error of a variant, as a share of the pruned module's largest output.
TOLERANCE = 1e-4

Kept = Mapping[str, Sequence[int]]


class Slicer:
    """Cuts variants of one file. `module` is what the file was exported from, `network` the analysis of it."""

    def __init__(self, path: Path, module: nn.Module, network: PrunableNetwork) -> None:
        """Raises CannotSlice if a layer that can be cut is not found in the file, BadTflite, TfliteUnavailable."""
        self._content, self._name, self._network = path.read_bytes(), str(path), network
        self._example = torch.randn((1, *network.input_shape), generator=torch.Generator().manual_seed(0))
        self._parameters = parameters_of(module, self._example)
        graph = self._graph()
        self._matches = match(graph, self._parameters)
        self._order = {key: call.layer for key, call in self._parameters.calls.items()}
        #: The layer of each operator with weights, by the name of the operator's output tensor.
        self.layers = layers_of(graph, self._parameters, self._matches)
        cut = {each.module for cuts in network.cuts.values() for each in cuts if each.side in (Side.OUTPUT, Side.INPUT)}
        missing = {layer.name for layer in network.network.layers} & cut - set(self.layers.values())
        if missing:
            raise CannotSlice(f"{path} has no operator with the weights of {', '.join(sorted(missing))}")

    def cut(self, kept: Kept, module: nn.Module, path: Path, *, exact: bool = False) -> bool:
        """Write the variant that keeps the channels `kept` of each group to `path`; `module` is the network pruned likewise.

        Returns whether it computes what `module` computes. Otherwise it has the right sizes, and is good for timing: a
        constant of the file is no parameter of the module, or `module` keeps other channels. With `exact` only the first excuse
        holds.
        Raises CannotSlice, CannotWrite.
        """
        graph = self._graph()
        drops = self._settled(graph, kept)
        fresh = parameters_of(module, self._example)
        if {key: call.layer for key, call in fresh.calls.items()} != self._order:
            raise CannotSlice("the pruned module calls other layers than the whole one")
        for operator in graph.operators:
            rewrite(drops, operator)
        for tensor in graph.tensors():
            if drops.touched(tensor):
                _cut_tensor(graph, drops, tensor)
        for operator, weight in weighted(graph):
            if weight in self._matches.calls and weight not in self._matches.by_place:
                _put_weights(graph, operator, fresh.calls[self._matches.calls[weight]])
        for tensor, name in self._matches.others.items():
            _put_other(graph, tensor, fresh.others.get(name))
        graph.write(path)
        error = difference(path, module, self._example)
        if error == float("inf") or (exact and self._matches.complete and error > TOLERANCE):
            raise CannotSlice(f"the variant's outputs are off by {error:.3g} of the largest")
        return error <= TOLERANCE

    def _graph(self) -> Graph:
        graph = Graph.parse(self._content, self._name)
        graph.part_constants()
        return graph

    def _settled(self, graph: Graph, kept: Kept) -> Drops:
        seeds = dict(self._seeds(graph, kept))
        drops = Drops(graph, seeds)
        settle(drops, RULES)
        for axis, mask in seeds.items():
            if not np.array_equal(drops.gone(axis), mask):
                raise CannotSlice(f"more channels than planned would go at {graph.name(axis[0])!r}")
        for tensor in (*graph.graph_inputs, *graph.graph_outputs):
            if drops.touched(tensor):
                raise CannotSlice(
                    f"{graph.name(tensor)!r}, an input or output of the whole network, would become smaller"
                )
        return drops

    def _seeds(self, graph: Graph, kept: Kept) -> Iterator[tuple[Axis, Mask]]:
        """Yield what goes at the weights of each matched operator."""
        removed = {
            group.name: sorted(set(range(group.channels)) - set(kept[group.name]))
            for group in self._network.network.groups
            if group.name in kept
        }
        gone: dict[tuple[str, Side], set[int]] = {}
        for place, indices in removed_indices(self._network.cuts, removed).items():
            gone.setdefault((place.module, place.side), set()).update(indices)
        for operator, weight in weighted(graph):
            if weight not in self._matches.calls:
                continue
            source, output = graph.inputs(operator)[0], graph.outputs(operator)[0]
            layer = self._parameters.calls[self._matches.calls[weight]].layer
            ends = [(output, Side.OUTPUT)]
            if graph.code(operator) != DEPTHWISE or graph.shape(source)[-1] != graph.shape(output)[-1]:
                ends.append((source, Side.INPUT))
            for tensor, side in ends:
                last = len(graph.shape(tensor)) - 1
                mask = np.zeros(graph.shape(tensor)[last], np.bool_)
                mask[sorted(gone.get((layer, side), ()))] = True
                yield (tensor, last), mask


def _cut_tensor(graph: Graph, drops: Drops, tensor: int) -> None:
    values = graph.values(tensor)
    if values is None:
        graph.set_shape(tensor, drops.kept(tensor))
        return
    for axis in range(values.ndim):
        values = values.compress(~drops.gone((tensor, axis)), axis=axis)
    graph.set_values(tensor, values)


def _put_weights(graph: Graph, operator: Any, call: LayerCall) -> None:
    inputs = graph.inputs(operator)
    weight = laid_out(call.weight, graph.code(operator)).astype(np.float32)
    if weight.shape != graph.shape(inputs[1]):
        raise CannotSlice(
            f"{graph.name(graph.outputs(operator)[0])!r} would have weights {graph.shape(inputs[1])}, and in the pruned module "
            f"they are {weight.shape}"
        )
    graph.set_values(inputs[1], weight)
    if len(inputs) > 2:
        graph.set_values(inputs[2], call.bias.astype(np.float32))


def _put_other(graph: Graph, tensor: int, values: Values | None) -> None:
    shape = graph.shape(tensor)
    if values is None or values.size != math.prod(shape):
        raise CannotSlice(
            f"{graph.name(tensor)!r} has sizes {shape}, and the pruned module another number of values there"
        )
    graph.set_values(tensor, values.reshape(shape).astype(np.float32))


def one_per_block(network: PrunableNetwork, plan: Plan) -> dict[str, tuple[int, ...]]:
    """Return the first channels of each block that a group's structure asks for, as many as `plan` keeps.

    What a width costs does not depend on which channels stay, and the same ones of each block fit through any reshape.
    """
    found = {}
    for group in network.network.groups:
        blocks, size = range(group.multiple), group.channels // group.multiple
        each = range(plan.kept[group.name] // group.multiple)
        found[group.name] = tuple(block * size + index for block in blocks for index in each)
    return found
