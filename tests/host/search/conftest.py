"""Random small networks, and a synthetic device of known truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest

from host.search.granularity import Granularity, Role, Step
from host.search.network import Group, Layer, LayerKind, Network, Part, Plan
from host.search.probe import Probe


def mobile_network(blocks: int = 8, width: int = 32, pixels: int = 1024) -> Network:
    """Inverted bottlenecks: expand 1x1, depthwise 3x3, project 1x1, and a classifier. Two groups per
    block.
    """
    layers = [_layer("stem", LayerKind.CONV, (), 3, "s0", width, 9, pixels * 4, pixels)]
    groups = [("s0", width)]
    stream, channels = "s0", width
    for block in range(blocks):
        half = block % 2 == 1
        hidden, wide, shrunk = f"h{block}", channels * 4, pixels // 4 if half else pixels
        after, out = (f"s{block + 1}", channels + 16) if half else (stream, channels)
        layers += [
            _layer(f"b{block}.expand", LayerKind.POINTWISE, (stream,), 0, hidden, wide, 1, pixels, pixels),
            _layer(f"b{block}.depth", LayerKind.DEPTHWISE, (hidden,), 0, hidden, wide, 9, pixels, shrunk),
            _layer(f"b{block}.project", LayerKind.POINTWISE, (hidden,), 0, after, out, 1, shrunk, shrunk),
        ]
        groups.append((hidden, wide))
        if after != stream:
            groups.append((after, out))
        stream, channels, pixels = after, out, shrunk
    layers.append(_layer("head", LayerKind.LINEAR, (stream,), 0, None, 10, 1, 1, 1))
    return assembled(layers, groups)


def _layer(
    name: str,
    kind: LayerKind,
    inputs: tuple[str, ...],
    fixed: int,
    output: str | None,
    channels: int,
    kernel: int,
    pixels_in: int,
    pixels_out: int,
) -> Layer:
    return Layer(
        name=name,
        kind=kind,
        inputs=tuple(Part(group=group) for group in inputs),
        input_fixed=fixed,
        outputs=() if output is None else (Part(group=output),),
        output_fixed=channels if output is None else 0,
        kernel=kernel,
        input_pixels=pixels_in,
        output_pixels=pixels_out,
        groups=channels if kind is LayerKind.DEPTHWISE else 1,
    )


def assembled(layers: list[Layer], groups: list[tuple[str, int]]) -> Network:
    return Network(
        layers=tuple(layers),
        groups=tuple(
            Group(
                name=name,
                channels=channels,
                layers=tuple(
                    layer.name
                    for layer in layers
                    if any(part.group == name for part in (*layer.inputs, *layer.outputs))
                ),
            )
            for name, channels in groups
        ),
    )


@pytest.fixture
def make_mobile() -> Callable[..., Network]:
    return mobile_network


@pytest.fixture
def make_network() -> Callable[[list[Layer], list[tuple[str, int]]], Network]:
    return assembled


@dataclass
class Device:
    """Kernels that compute whole blocks of `step` channels, with noise per layer, drift per window and a
    profiler's cost.

    The truth is not the model's own form: every layer has a quirk of its own, and memory traffic overlaps
    with arithmetic.
    """

    network: Network
    step: int = 8
    noise: float = 0.01
    drift: float = 0.3
    quirk: float = 0.1
    profiler_ns: float = 1500.0
    seed: int = 0
    quirks: dict[str, float] = field(init=False)
    _rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)
        rng = np.random.default_rng(self.seed + 1)
        self.quirks = {layer.name: float(np.exp(self.quirk * rng.normal())) for layer in self.network.layers}

    def layer_ns(self, layer: Layer, plan: Mapping[str, int]) -> float:
        """Return the true time of a layer."""
        inward, outward = layer.widths(plan)
        outward = -(-outward // self.step) * self.step
        if layer.inputs:
            inward = -(-inward // self.step) * self.step
        rate, per_element = {
            LayerKind.CONV: (0.025, 0.10),
            LayerKind.POINTWISE: (0.02, 0.12),
            LayerKind.DEPTHWISE: (0.11, 0.15),
            LayerKind.GROUPED: (0.05, 0.2),
            LayerKind.LINEAR: (0.1, 0.1),
        }[layer.kind]
        taps = 1 if layer.kind is LayerKind.DEPTHWISE else inward
        arithmetic = rate * taps * outward * layer.kernel * layer.output_pixels / layer.groups ** (taps != 1)
        traffic = per_element * (inward * layer.input_pixels + outward * layer.output_pixels)
        return self.quirks[layer.name] * (1000 + (arithmetic**1.5 + traffic**1.5) ** (1 / 1.5))

    def total_ns(self, plan: Mapping[str, int]) -> float:
        """Return the true time of a plan, nodes that belong to no layer included."""
        return sum(self.layer_ns(layer, plan) for layer in self.network.layers) + self.other_ns(plan)

    def other_ns(self, plan: Mapping[str, int]) -> float:
        elements = sum(layer.widths(plan)[1] * layer.output_pixels for layer in self.network.layers)
        return 5000.0 + 0.05 * elements

    def ratio(self, plan: Plan) -> float:
        """Return the true ratio to the baseline."""
        return self.total_ns(plan.kept) / self.total_ns(self.network.full_plan().kept)

    def _noisy(self, value: float, share: float = 1.0) -> float:
        return value * float(np.exp(share * self.noise * self._rng.normal()))

    def measure(self, plan: Plan, *, nodes: bool = True) -> Probe:
        """Return a paired probe of `plan`: the window's drift hits both nets alike."""
        full = self.network.full_plan().kept
        speed = float(np.exp(self.drift * self._rng.normal()))
        ratio = self._noisy(self.ratio(plan), 0.5)
        times: dict[str, float] = {}
        baseline = speed * (self.total_ns(full) + self.profiler_ns * len(self.network.layers))
        for layer in self.network.layers:
            times[layer.name] = self._noisy(speed * (self.layer_ns(layer, plan.kept) + self.profiler_ns)) / baseline
        return Probe(
            plan=plan,
            ratio=ratio,
            ratio_low=ratio * (1 - self.noise),
            ratio_high=ratio * (1 + self.noise),
            nodes=times if nodes else None,
            other=self._noisy(speed * self.other_ns(plan.kept)) / baseline if nodes else None,
        )


@pytest.fixture
def make_device() -> type[Device]:
    return Device


@pytest.fixture
def granularity() -> Callable[[int], Granularity]:
    """Return a granularity of one multiple for every kind and role."""

    def uniform(multiple: int) -> Granularity:
        step = Step(multiple=multiple, over_next={}, decided=True)
        return Granularity(steps={(kind, role): step for kind in LayerKind for role in Role})

    return uniform
