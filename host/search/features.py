"""What a layer's time is made of, as far as its shape tells: the columns of the regression over layers of one kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from host.search.granularity import Granularity
from host.search.network import Layer, LayerKind, Network

Floats = npt.NDArray[np.float64]

#: MACs, MACs of one channel per pass, input elements, output elements, weights, one, and both of the last for following nodes.
FEATURES = 8
INPUT_ELEMENTS, OUTPUT_ELEMENTS = 2, 3
#: Output channels that a kernel may compute in one pass over its input. ONNX Runtime's blocked convolution takes four blocks of
#: eight: 40 channels cost two passes. Matrix kernels have tiles of 8 to 64.
PASSES = (16, 32, 64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What is fixed of a layer: layers of equal shape take equal times at equal widths, wherever they stand.

    `following` counts the nodes that run after the layer and are no layer's (sums, activations, changes of layout).
    """

    kind: LayerKind
    kernel: int
    input_pixels: int
    output_pixels: int
    groups: int
    following: int = 0

    @classmethod
    def of(cls, layer: Layer, following: int = 0) -> Shape:
        """Return the shape of `layer`. Its groups are its width in a depthwise layer, and then no part of the shape."""
        return cls(
            kind=layer.kind,
            kernel=layer.kernel,
            input_pixels=layer.input_pixels,
            output_pixels=layer.output_pixels,
            groups=1 if layer.kind is LayerKind.DEPTHWISE else layer.groups,
            following=following,
        )


def effective(layer: Layer, width_in: int, width_out: int, granularity: Granularity | None) -> tuple[int, int, float]:
    """Return the widths that the kernels compute, and the charge for widths off the device's multiples (1: none)."""
    inward, outward, charge = width_in, width_out, 1.0
    if granularity is not None:
        inward, outward, charge = granularity.effective(layer, width_in, width_out)
    return outward if layer.kind is LayerKind.DEPTHWISE else inward, outward, charge


def features(shape: Shape, inward: int, outward: int, charge: float = 1.0, channels_per_pass: int = 0) -> Floats:
    """Return the features, shape (8,), of effective widths. Without `channels_per_pass` the second one is 0."""
    per_output = shape.kernel * (1.0 if shape.kind is LayerKind.DEPTHWISE else inward / shape.groups)
    passes = -(-outward // channels_per_pass) if channels_per_pass else 0
    outputs = float(outward * shape.output_pixels)
    return charge * np.array(
        [
            per_output * outputs,
            per_output * passes * shape.output_pixels,
            inward * shape.input_pixels,
            outputs,
            per_output * outward,
            1.0,
            shape.following * outputs,
            shape.following,
        ]
    )


def plan_features(network: Network, plan: Mapping[str, int], granularity: Granularity | None) -> Floats:
    """Return the features of every layer under `plan`, shape (layers, 8); zeros for layers that are gone."""
    rows = np.zeros((len(network.layers), FEATURES))
    for place, layer in enumerate(network.layers):
        widths = layer.widths(plan)
        if all(widths):
            rows[place] = features(Shape.of(layer), *effective(layer, *widths, granularity))
    return rows
