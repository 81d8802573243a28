"""Models of a few equal layers as `.tflite` files, for asking a device which widths it runs fast. No converter is needed.

As in `host.compress.layers_probe`: dense layers stand side by side on one input, depthwise ones in a chain. Images are
(1, H, W, C), the runtime's own layout, and every layer's result is an output of the model: nothing but the layers is timed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from host.compress.layers_probe import REPEATS, groups_of
from host.compress.tflite.flatbuffer import FLOAT32, Array, Graph, schema
from host.compress.tflite.operators import CONV, DEPTHWISE, FULLY_CONNECTED
from host.search.network import LayerKind

SAME, RELU = 0, 1  # Padding, ActivationFunctionType


def tflite_layer_model(
    kind: LayerKind, *, width_in: int, width_out: int, side: int, kernel: int, path: Path, seed: int = 0
) -> Path:
    """Write a model of REPEATS[kind] layers of these widths on a (1, side, side, width_in) or (1, width_in) input to `path`.

    ValueError for a depthwise layer of two different widths, or a grouped one whose widths the groups do not divide.
    Raises TfliteUnavailable, CannotWrite.
    """
    groups = groups_of(kind, width_in, width_out)
    linear = kind is LayerKind.LINEAR
    model = _Model(seed)
    source = model.tensor("input", (1, width_in) if linear else (1, side, side, width_in))
    model.graph.inputs = [source]
    ends: list[int] = []
    shape: tuple[int, ...]
    weight: tuple[int, ...]
    for place in range(REPEATS[kind]):
        chained = ends[-1:] if kind is LayerKind.DEPTHWISE else []
        if linear:
            shape, weight, fan_in = (1, width_out), (width_out, width_in), width_in
        elif kind is LayerKind.DEPTHWISE:
            shape, weight, fan_in = (1, side, side, width_out), (1, kernel, kernel, width_out), kernel * kernel
        else:
            depth = width_in // groups
            shape, weight = (1, side, side, width_out), (width_out, kernel, kernel, depth)
            fan_in = kernel * kernel * depth
        output = model.tensor(f"layer_{place}", shape)
        model.layer(kind, (chained or [source])[0], weight, fan_in, width_out, output)
        ends.append(output)
    model.graph.outputs = ends[-1:] if kind is LayerKind.DEPTHWISE else ends
    Graph(model.model, str(path)).write(path)
    return path


class _Model:
    """A graph under construction; the schema's own names are kept."""

    def __init__(self, seed: int) -> None:
        self._schema = schema()
        self._rng = np.random.default_rng(seed)
        self.graph = self._schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.model = self._schema.ModelT()
        self.model.version, self.model.description = 3, "layer probe"
        self.model.buffers, self.model.operatorCodes = [self._schema.BufferT()], []
        self.model.subgraphs = [self.graph]

    def tensor(self, name: str, shape: tuple[int, ...], values: Array | None = None) -> int:
        """Add a float32 tensor, a constant if it has values, and return its number."""
        tensor = self._schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name, np.array(shape, np.int32), FLOAT32, 0
        if values is not None:
            buffer = self._schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(values, np.float32).tobytes(), np.uint8)
            self.model.buffers.append(buffer)
            tensor.buffer = len(self.model.buffers) - 1
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def layer(
        self, kind: LayerKind, source: int, weight: tuple[int, ...], fan_in: int, width_out: int, output: int
    ) -> None:
        """Add a layer with an activation. Weights keep activations near 1: tiny values would be timed as denormals."""
        scale = np.sqrt(2 / fan_in)
        constants = [
            self.tensor(f"weight_{output}", weight, self._rng.standard_normal(weight) * scale),
            self.tensor(f"bias_{output}", (width_out,), self._rng.standard_normal(width_out) * 0.1),
        ]
        operator, options, code, kind_of_options = self._schema.OperatorT(), None, CONV, None
        if kind is LayerKind.LINEAR:
            options, code = self._schema.FullyConnectedOptionsT(), FULLY_CONNECTED
            kind_of_options = self._schema.BuiltinOptions.FullyConnectedOptions
        elif kind is LayerKind.DEPTHWISE:
            options, code = self._schema.DepthwiseConv2DOptionsT(), DEPTHWISE
            kind_of_options = self._schema.BuiltinOptions.DepthwiseConv2DOptions
            options.depthMultiplier = 1
        else:
            options = self._schema.Conv2DOptionsT()
            kind_of_options = self._schema.BuiltinOptions.Conv2DOptions
        if kind is not LayerKind.LINEAR:
            options.padding, options.strideH, options.strideW = SAME, 1, 1
        options.fusedActivationFunction = RELU
        operator.opcodeIndex, operator.inputs, operator.outputs = self._code(code), [source, *constants], [output]
        operator.builtinOptions, operator.builtinOptionsType = options, kind_of_options
        self.graph.operators.append(operator)

    def _code(self, code: int) -> int:
        found: list[Any] = self.model.operatorCodes
        for place, entry in enumerate(found):
            if entry.builtinCode == code:
                return place
        entry = self._schema.OperatorCodeT()
        entry.builtinCode, entry.deprecatedBuiltinCode, entry.version = code, code, 1  # old runtimes read the second
        found.append(entry)
        return len(found) - 1
