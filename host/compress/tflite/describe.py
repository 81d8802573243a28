"""A `.tflite` file as the host sees it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from host.compress.nodes import ExportedModel
from host.compress.tflite.flatbuffer import Graph
from host.compress.tflite.matching import weighted


def describe_tflite(path: Path, layers: Mapping[str, str] | None = None) -> ExportedModel:
    """Describe a file of one input and one output. `layers` maps operators, by their output tensors, to layers of the module;
    without it each operator with weights is named after itself.
    """
    content = path.read_bytes()
    graph = Graph.parse(content, str(path))
    if layers is None:
        names = [graph.name(graph.outputs(operator)[0]) for operator, _ in weighted(graph)]
        layers = {name: name for name in names}
    return ExportedModel(
        path=path,
        input_name=graph.name(graph.graph_inputs[0]),
        output_name=graph.name(graph.graph_outputs[0]),
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        layer_nodes=dict(layers),
        layer_names=dict(layers),
    )
