"""Random problems for the planner, small enough for brute force."""

from __future__ import annotations

from itertools import product

import numpy as np

from host.search.network import Branch, Group, Layer, LayerKind, LiveTensor, Network, Part, Plan
from host.search.solution import Price, total


def random_problem(
    seed: int, groups: int, options: int, joined: bool = True
) -> tuple[Network, dict[str, tuple[int, ...]], dict[str, dict[int, float]]]:
    """Return a network with every kind of coupling: chains, residual loops, depthwise, joins on both sides, a head."""
    rng = np.random.default_rng(seed)
    names = [f"g{index}" for index in range(groups)]
    channels = {name: int(rng.integers(options, options + 3)) * 8 for name in names}
    layers = []
    for index in range(int(1.3 * groups)):
        target = names[index % groups]
        count = int(rng.choice([0, 1, 1, 1, 2, 3] if joined else [1]))
        sources = [names[int(rng.integers(groups))] for _ in range(count)]
        if index % 4 == 3:
            kind, sources = LayerKind.DEPTHWISE, [target]
        else:
            kind = LayerKind.CONV if index % 2 else LayerKind.POINTWISE
        outputs = [] if index % 7 == 6 and kind is not LayerKind.DEPTHWISE else [target]
        if joined and outputs and kind is not LayerKind.DEPTHWISE and index % 5 == 2:
            outputs.append(names[int(rng.integers(groups))])
        layers.append(
            Layer(
                name=f"l{index}",
                kind=kind,
                inputs=tuple(Part(group=name, features=int(rng.choice([1, 1, 4]))) for name in sources),
                input_fixed=0 if sources else 3,
                outputs=tuple(Part(group=name) for name in outputs),
                output_fixed=0 if outputs else channels[target],
                kernel=9 if kind is not LayerKind.POINTWISE else 1,
                input_pixels=64,
                output_pixels=64,
                groups=channels[target] if kind is LayerKind.DEPTHWISE else 1,
            )
        )
    network = Network(
        layers=tuple(layers),
        groups=tuple(Group(name=name, channels=channels[name], layers=()) for name in names),
    )
    widths = {name: (*tuple(range(8, channels[name], 8))[-(options - 1) :], channels[name]) for name in names}
    losses = {
        name: {width: float(rng.random() * (1 - width / channels[name])) for width in widths[name]} for name in names
    }
    return network, widths, losses


def bilinear(network: Network, seed: int) -> Price:
    """Return a random price, bilinear in the two widths, that sums to 1 at the full plan."""
    rng = np.random.default_rng(seed)
    weights = {layer.name: rng.random(4) * (1, 0.1, 0.1, 0.01) for layer in network.layers}

    def raw(layer: Layer, inward: int, outward: int) -> float:
        return float(np.dot(weights[layer.name], (1, inward, outward, inward * outward)))

    whole = total(network, raw, network.full_plan().kept)
    return lambda layer, inward, outward: raw(layer, inward, outward) / whole


def every_plan(network: Network, widths: dict[str, tuple[int, ...]]) -> list[Plan]:
    names = [group.name for group in network.groups]
    return [Plan(kept=dict(zip(names, each, strict=True))) for each in product(*(widths[name] for name in names))]


def with_branches(network: Network) -> Network:
    """Let every group vanish that is all there is on its side of each of its layers, as a branch's inner group is."""
    shared = {
        part.group
        for layer in network.layers
        for parts, fixed in ((layer.inputs, layer.input_fixed), (layer.outputs, layer.output_fixed))
        if len(parts) > 1 or fixed
        for part in parts
    }
    free = [group.name for group in network.groups if group.name not in shared]
    return Network(
        layers=network.layers, groups=network.groups, branches=tuple(Branch(group=name, layers=()) for name in free)
    )


def with_tensors(network: Network, seed: int, count: int = 8) -> Network:
    """Give the network activations that live at random, some of them only while a branch is there."""
    rng = np.random.default_rng(seed)
    names = [group.name for group in network.groups]
    gone = [*(branch.group for branch in network.branches), None, None]
    tensors = []
    for _ in range(count):
        born, chosen = int(rng.integers(count)), rng.choice(names, size=int(rng.integers(3)), replace=False)
        tensors.append(
            LiveTensor(
                parts=tuple(Part(group=str(name), features=int(rng.choice([1, 4, 16]))) for name in chosen),
                fixed=int(rng.integers(200)),
                born=born,
                last=born + int(rng.integers(3)),
                gone_with=gone[int(rng.integers(len(gone)))],
            )
        )
    return Network(layers=network.layers, groups=network.groups, branches=network.branches, tensors=tuple(tensors))
