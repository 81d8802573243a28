"""From the nodes of a model file to the modules of the network that it was exported from. No torch here.

torch's exporters leave the way back in the file. The legacy ONNX exporter names a node after its scope
(`/features/features.3/conv/conv.1/Conv` is in module features.3.conv.1); the dynamo exporter keeps the scopes as metadata and the
names of parameters, which tell more where batch norm was folded; litert-torch names tensors after classes and attributes. Where a
file came from elsewhere, nothing is said.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

#: From the names of the file's nodes that one node was made of, to the module path.
ModuleFinder = Callable[[Sequence[str]], "str | None"]

#: Where one of these is among the sources, the others are what was fused to it.
_WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "QLinearConv", "QLinearMatMul", "LSTM", "GRU", "RNN"})
_SCOPES = "pkg.torch.onnx.name_scopes"
#: litert-torch: dotted class, then the attribute behind the first underscore of the class's last part.
_TORCH_CLASS = re.compile(r"(?:\w+\.)+([^._]+)_(\w+)")
_WEIGHTED_CLASS = re.compile(r"(Conv|Linear|ConvTranspose)\w*")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    module: str | None
    weighted: bool


def module_finder(path: Path) -> ModuleFinder:
    """Return how to find modules of an `.onnx` or `.tflite` file. Its names are those of `NodeTime.sources`."""
    if path.suffix.lower() == ".tflite":
        return _tflite_module
    places = _onnx_places(onnx.load(str(path), load_external_data=False))
    return lambda sources: _first([places[name] for name in sources if name in places])


def name_layers(layers: Sequence[dict[str, Any]] | None, find: ModuleFinder) -> None:
    """Fill in `layer` of the node times in a document of `bench`, None where there are none."""
    for node in layers or ():
        node["layer"] = find(node["sources"])


def _first(places: Sequence[_Place]) -> str | None:
    """Return the module of what has weights, else the first that there is."""
    ordered = sorted(places, key=lambda place: not place.weighted)
    return next((place.module for place in ordered if place.module), None)


def _onnx_places(model: onnx.ModelProto) -> Mapping[str, _Place]:
    if model.producer_name != "pytorch":
        return {}
    weights = {value.name for value in model.graph.initializer}
    return {
        node.name or node.output[0]: _Place(module=_onnx_module(node, weights), weighted=node.op_type in _WEIGHTED)
        for node in model.graph.node
    }


def _onnx_module(node: onnx.NodeProto, weights: set[str]) -> str | None:
    if node.op_type in _WEIGHTED:
        named = [name for name in node.input if name in weights and name.endswith(".weight")]
        if len(named) == 1:
            return named[0].removesuffix(".weight")
    scopes = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), None)
    if scopes is not None:
        return _innermost(scopes)
    return _legacy_module(node.name, node.op_type)


def _innermost(scopes: str) -> str | None:
    """`['', 'stem', 'stem.2', 'hardtanh']` ends with the operation; before it stands the module that it was called in."""
    try:
        found = ast.literal_eval(scopes)
    except (ValueError, SyntaxError):
        return None
    return found[-2] or None if isinstance(found, list) and len(found) > 1 and isinstance(found[-2], str) else None


def _legacy_module(name: str, op_type: str) -> str | None:
    """`/stem/stem.0/Conv`: an element of a container repeats the container's name."""
    *scopes, operation = name.split("/")
    if not scopes or scopes[0] or not re.fullmatch(rf"{re.escape(op_type)}(_\d+)?", operation):
        return None
    path: list[str] = []
    for scope in scopes[1:]:
        if path and scope.startswith(f"{path[-1]}."):
            path[-1] = scope
        else:
            path.append(scope)
    return ".".join(path) or None


def _tflite_module(sources: Sequence[str]) -> str | None:
    return _first([place for name in sources if (place := _tflite_place(name)) is not None])


def _tflite_place(name: str) -> _Place | None:
    """`Net/torch.nn.modules.container.Sequential_stem/torch.nn.modules.conv.Conv2d_0;1` is stem.0 of a Net.

    Of an operator that took others in, such names stand behind each other, its own last.
    """
    own = [part for part in name.split(";") if "/" in part]
    if not own or "torch." not in name:
        return None
    parts = [_TORCH_CLASS.fullmatch(part) for part in own[-1].split("/")[1:]]
    if any(part is None for part in parts):
        return None
    found = [(part[1], part[2]) for part in parts if part is not None]
    return _Place(
        module=".".join(attribute for _, attribute in found),
        weighted=_WEIGHTED_CLASS.fullmatch(found[-1][0]) is not None,
    )
