"""Which operator of a `.tflite` file is which call of a module's layers, by the values of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from host.compress.tflite.flatbuffer import FLOAT32, Graph
from host.compress.tflite.operators import WEIGHTED
from host.compress.tflite.parameters import CallKey, Parameters, laid_out, parameters_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """`calls` by weight tensor, `others` by constant tensor, as numbered after `Graph.part_constants`.

    `by_place` are the weight tensors whose values the converter scaled by what follows: their calls are known by the order.
    `complete`: every float constant of more than one value is a parameter of the module.
    """

    calls: Mapping[int, CallKey]
    others: Mapping[int, str]
    by_place: frozenset[int]
    complete: bool


def match(graph: Graph, parameters: Parameters) -> Matches:
    """Match the constants of a file, each operator's own, with what the module that it was exported from has."""
    calls: dict[int, CallKey] = {}
    others: dict[int, str] = {}
    left: list[tuple[int, int]] = []
    complete = True
    for operator in graph.operators:
        inputs = graph.inputs(operator)
        if graph.code(operator) in WEIGHTED and (weight := graph.values(inputs[1])) is not None:
            bias = graph.values(inputs[2]) if len(inputs) > 2 else None
            key = parameters.find_call(graph.code(operator), weight, bias)
            if key is None:
                left.append((inputs[1], graph.code(operator)))
            else:
                calls[inputs[1]] = key
            continue
        for tensor in inputs:
            values = graph.values(tensor)
            if values is None or graph.type(tensor) != FLOAT32 or values.size < 2:
                continue
            name = parameters.find_other(values)
            if name is None:
                complete = False
            else:
                others[tensor] = name
    placed = _by_place(graph, parameters, left, set(calls.values()))
    return Matches(calls={**calls, **placed}, others=others, by_place=frozenset(placed), complete=complete and not left)


def _by_place(
    graph: Graph, parameters: Parameters, left: Sequence[tuple[int, int]], found: set[CallKey]
) -> dict[int, CallKey]:
    """Match what is left in order, where there is as much of it on both sides, and of the same shapes; else nothing."""
    places = {place for place, _ in found}
    calls = {place: (place, folded) for place, folded in sorted(parameters.calls) if place not in places}
    pairs = list(zip(left, calls.values(), strict=False))
    fit = all(
        laid_out(parameters.calls[key].weight, code).shape == graph.shape(weight) for (weight, code), key in pairs
    )
    return {weight: key for (weight, _), key in pairs} if fit and len(left) == len(calls) else {}


def weighted(graph: Graph) -> Iterator[tuple[Any, int]]:
    """Yield (operator, weight tensor) of all operators with weights."""
    for operator in graph.operators:
        if graph.code(operator) in WEIGHTED:
            yield operator, graph.inputs(operator)[1]


def layers_of(graph: Graph, parameters: Parameters, matches: Matches) -> dict[str, str]:
    """Return the layer of each matched operator, by the name of the operator's output tensor, as runtimes name operators."""
    return {
        graph.name(graph.outputs(operator)[0]): parameters.calls[matches.calls[weight]].layer
        for operator, weight in weighted(graph)
        if weight in matches.calls
    }


def match_file(path: Path, module: nn.Module, input_shape: tuple[int, int, int]) -> dict[str, str]:
    """Return `layers_of` a file that was exported from `module`. Raises BadTflite, TfliteUnavailable."""
    graph = Graph.read(path)
    graph.part_constants()
    parameters = parameters_of(module, torch.zeros((1, *input_shape)))
    return layers_of(graph, parameters, match(graph, parameters))
