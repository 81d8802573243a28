"""From the nodes that a runtime's profiler names back to the layers of the model. No torch here."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from device_agent.contract.measurement import NodeTime

#: Operators that are layers.
LAYER_OPERATORS = frozenset({"Conv", "Gemm", "MatMul"})

# What runtimes fuse into the layer before it; the fused node may be named after the last one, so all of them
# point
# to the layer. Batch norm is folded on export, but not by every exporter.
_FOLLOWERS = frozenset({"Relu", "Clip", "LeakyRelu", "PRelu", "HardSigmoid", "HardSwish", "Sigmoid", "Tanh", "Elu"})
_FUSED = _FOLLOWERS | {"BatchNormalization"}

# ONNX Runtime 1.32 puts these around a name: "_nchwc" (and "_nhwc") for its blocked layouts, whose nodes are
# named
# after their output tensor; "fused " for an activation taken in; "/MatMulAddFusion" and the like for a bias
# taken in;
# "_token_12" where a name was taken already.
_AFFIXES = re.compile(r"^fused |(_nchwc|_nhwc|/[A-Za-z]+Fusion|_token_\d+|_kernel_time)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedModel:
    """An exported file. `layer_nodes` maps its operators with weights to layers of the module, in the order of execution: an ONNX
    file's Conv, Gemm and MatMul nodes by their names, a TFLite file's operators by the tensors that they make. `layer_names` maps
    every name under which a runtime may show a layer's work.
    """

    path: Path
    input_name: str
    output_name: str
    sha256: str
    size_bytes: int
    layer_nodes: Mapping[str, str] = field(repr=False)
    layer_names: Mapping[str, str] = field(repr=False)


def layer_names(model: onnx.ModelProto, layer_nodes: Mapping[str, str]) -> dict[str, str]:
    """Extend node name -> layer name by the layers' output tensors, and by the nodes and outputs of what may
    be fused in.

    That is a bias, batch norm, an activation, a residual sum (of two layers, the later one).
    """
    consumers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    constants = {value.name for value in model.graph.initializer}
    constants.update(node.output[0] for node in model.graph.node if node.op_type == "Constant")
    found: dict[str, str] = {}
    for node in model.graph.node:
        if node.name not in layer_nodes:
            continue
        layer = layer_nodes[node.name]
        found[node.name] = found[node.output[0]] = layer
        following, summed = node, False
        while len(following_nodes := consumers.get(following.output[0], [])) == 1:
            following = following_nodes[0]
            if following.op_type == "Add":
                summed = summed or sum(name not in constants for name in following.input) > 1
            elif following.op_type not in _FUSED:
                break
            # A sum that is a node of its own, and what follows it, is no part of the layer; a fused one shows
            # only in
            # the name of the output.
            if not summed:
                found[following.name] = layer
            found[following.output[0]] = layer
    return found


def layer_nodes_of(model: onnx.ModelProto) -> dict[str, str]:
    """Node name -> layer name for a file without a module: each layer operator is named after itself."""
    return {node.name: node.name for node in model.graph.node if node.op_type in LAYER_OPERATORS}


def assign_nodes(nodes: Sequence[NodeTime], exported: ExportedModel) -> tuple[dict[str, float], float]:
    """Return (median ns by layer name, ns of all other nodes). A layer's node times are added up.

    Activations that run as nodes of their own count to their layer; layout changes, sums and pooling count as
    other.
    """
    times: dict[str, float] = {}
    other_ns = 0.0
    for node in nodes:
        layer = find_layer(node, exported)
        if layer is None:
            other_ns += node.median_ns
        else:
            times[layer] = times.get(layer, 0.0) + node.median_ns
    return times, other_ns


def find_layer(node: NodeTime, exported: ExportedModel) -> str | None:
    """Return the layer whose work a node of the runtime's does, None if it is no layer's."""
    return layer_of(node.name, exported.layer_names) or _of_sources(node, exported.layer_names)


def _of_sources(node: NodeTime, names: Mapping[str, str]) -> str | None:
    """The layer among the file's operators that a runtime's own operator was made of, as LiteRT tells them."""
    return next((names[source] for source in node.sources if source in names), None)


def layer_of(node: str, names: Mapping[str, str]) -> str | None:
    """The layer that the profiler's node name stands for, None if it is no layer's."""
    while node not in names:
        shorter = _AFFIXES.sub("", node, count=1)
        if shorter == node:
            return None
        node = shorter
    return names[node]


def describe(path: Path, layer_nodes: Mapping[str, str] | None = None) -> ExportedModel:
    """Describe an ONNX file of one input and one output; without `layer_nodes` each layer is named after its
    node.
    """
    content = path.read_bytes()
    model = onnx.load_from_string(content)
    names = layer_nodes_of(model) if layer_nodes is None else dict(layer_nodes)
    constants = {value.name for value in model.graph.initializer}
    return ExportedModel(
        path=path,
        input_name=next(value.name for value in model.graph.input if value.name not in constants),
        output_name=model.graph.output[0].name,
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        layer_nodes=names,
        layer_names=layer_names(model, names),
    )
