"""Models of a few equal layers, for asking a device which widths it runs fast. Built as ONNX directly, without torch.

Dense layers stand side by side on one input, so that only the width that is asked about varies; depthwise ones stand in a chain.
Each has an activation after it, as in a network, and is pooled at once, so that what is timed is the layer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from host.search.network import LayerKind

OPSET, IR_VERSION = 17, 8
#: Layers per model: enough that a run takes some tenths of a millisecond on a board's processor.
REPEATS = {
    LayerKind.POINTWISE: 6,
    LayerKind.CONV: 2,
    LayerKind.DEPTHWISE: 8,
    LayerKind.GROUPED: 2,
    LayerKind.LINEAR: 32,
}
#: Convolution groups of a GROUPED layer; both widths must be multiples of it.
GROUPS = 2


def groups_of(kind: LayerKind, width_in: int, width_out: int) -> int:
    """Return the convolution groups of a probed layer. ValueError for widths that such a layer cannot have."""
    groups = {LayerKind.DEPTHWISE: width_out, LayerKind.GROUPED: GROUPS}.get(kind, 1)
    if width_in % groups or width_out % groups or (kind is LayerKind.DEPTHWISE and width_in != width_out):
        raise ValueError(f"a {kind.value} layer cannot have input width {width_in} and output width {width_out}")
    return groups


class _Graph:
    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, *shape: int) -> str:
        """Add a tensor that keeps activations near 1: tiny values would be timed as denormals."""
        name = f"weight_{len(self.weights)}"
        scale = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.1
        values = (self._rng.standard_normal(shape) * scale).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def add(self, operator: str, inputs: list[str], **attributes: Any) -> str:
        name = f"{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name


def layer_model(
    kind: LayerKind, *, width_in: int, width_out: int, side: int, kernel: int, path: Path, seed: int = 0
) -> Path:
    """Write a model of REPEATS[kind] layers of these widths on a (1, width_in, side, side) or (1, width_in) input to `path`.

    ValueError for a depthwise layer of two different widths, or a grouped one whose widths the groups do not divide.
    """
    groups = groups_of(kind, width_in, width_out)
    graph = _Graph(seed)
    if kind is LayerKind.LINEAR:
        input_shape, output_shape = [1, width_in], [1, width_out]
        branches = [_linear(graph, width_in, width_out) for _ in range(REPEATS[kind])]
    else:
        input_shape, output_shape = [1, width_in, side, side], [1, width_out, 1, 1]
        ends: list[str] = []
        for _ in range(REPEATS[kind]):
            source = ends[-1] if ends and kind is LayerKind.DEPTHWISE else "input"
            ends.append(_convolution(graph, source, width_in, width_out, kernel, groups))
        pooled = ends[-1:] if kind is LayerKind.DEPTHWISE else ends
        branches = [graph.add("GlobalAveragePool", [end]) for end in pooled]
    graph.nodes.append(helper.make_node("Sum", branches, ["output"], name="sum"))
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "layer_probe",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, input_shape)],
            [helper.make_tensor_value_info("output", TensorProto.FLOAT, output_shape)],
            graph.weights,
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def _linear(graph: _Graph, width_in: int, width_out: int) -> str:
    product = graph.add("Gemm", ["input", graph.weight(width_out, width_in), graph.weight(width_out)], transB=1)
    return graph.add("Relu", [product])


def _convolution(graph: _Graph, source: str, width_in: int, width_out: int, kernel: int, groups: int) -> str:
    weights = [graph.weight(width_out, width_in // groups, kernel, kernel), graph.weight(width_out)]
    edge = kernel // 2
    convolution = graph.add("Conv", [source, *weights], group=groups, kernel_shape=[kernel] * 2, pads=[edge] * 4)
    return graph.add("Relu", [convolution])
