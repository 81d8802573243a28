"""Export to ONNX: quiet, checked, atomic, with the way back from nodes to layers.

The legacy exporter comes first: it takes 0.1 - 0.4 s where the dynamo one takes several, writes any opset,
and folds batch norm. What it cannot trace goes through the dynamo exporter.
"""

from __future__ import annotations

import copy
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from device_agent.contract.errors import StableError
from host.compress.nodes import LAYER_OPERATORS, ExportedModel, describe
from host.compress.proof import first_line
from host.files import write_whole

INPUT_NAME = "input"
OUTPUT_NAME = "output"


class ExportFailed(StableError):
    """The module cannot be exported; the message names it, what was tried and why it failed."""


def export_onnx(
    module: nn.Module,
    input_shape: tuple[int, int, int],
    path: Path,
    *,
    opset: int = 17,
    ir_version: int | None = None,
    batch: int = 1,
) -> ExportedModel:
    """Write `module`, in evaluation mode, for inputs (batch, C, H, W) float32 to `path`; `module` is not
    changed.

    `ir_version` None leaves the exporter's. Raises ExportFailed, CannotWrite; `path` is then as it was.
    """
    title = type(module).__name__
    frozen = copy.deepcopy(module).cpu().eval()
    example = torch.zeros((batch, *input_shape))
    try:
        calls = _called_layers(frozen, example)
    except Exception as error:
        raise ExportFailed(
            f"{title} does not run on inputs of shape {tuple(example.shape)}: {first_line(error)}"
        ) from error
    with _quiet():
        try:
            model = _legacy(frozen, example, opset)
        except Exception as first:
            try:
                model = _dynamo(frozen, example, opset)
            except Exception as second:
                raise ExportFailed(
                    f"{title} cannot be exported to ONNX opset {opset}. "
                    f"The legacy exporter: {first_line(first)}. "
                    f"The dynamo exporter: {first_line(second)}. "
                    f"Change the operation they name, or ask for another opset."
                ) from second
    _inline_identities(model)
    if ir_version is not None:
        model.ir_version = ir_version
    outputs = [value.name for value in model.graph.output]
    if len(outputs) != 1:
        raise ExportFailed(f"{title} has {len(outputs)} outputs, and a model to be compressed must have one")
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        raise ExportFailed(
            f"{title} was exported, but the file would not be valid with opset {opset} and IR version "
            f"{model.ir_version}: {first_line(error)}"
        ) from error
    write_whole(path, model.SerializeToString())
    return describe(path, _match_layers(model, calls))


def _legacy(module: nn.Module, example: Tensor, opset: int) -> onnx.ModelProto:
    with torch.no_grad(), tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        torch.onnx.export(
            module,
            (example,),
            file,
            opset_version=opset,
            dynamo=False,
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
        )
        return onnx.load(str(file))


def _dynamo(module: nn.Module, example: Tensor, opset: int) -> onnx.ModelProto:
    program = torch.onnx.export(
        module,
        (example,),
        dynamo=True,
        opset_version=opset,
        input_names=[INPUT_NAME],
        output_names=[OUTPUT_NAME],
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    written = next((entry.version for entry in model.opset_import if entry.domain == ""), None)
    if written != opset:
        raise RuntimeError(f"it wrote opset {written}")
    return model


def _called_layers(module: nn.Module, example: Tensor) -> list[tuple[str, nn.Module]]:
    """Every call of a convolution or linear layer, in order."""
    calls: list[tuple[str, nn.Module]] = []
    handles = [
        layer.register_forward_hook(lambda layer, _inputs, _output, name=name: calls.append((name, layer)))
        for name, layer in module.named_modules()
        if isinstance(layer, (nn.Conv2d, nn.Linear))
    ]
    try:
        with torch.no_grad():
            module(example)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _match_layers(model: onnx.ModelProto, calls: list[tuple[str, nn.Module]]) -> Mapping[str, str]:
    """Node name -> layer name: both exporters keep the order of execution, and weights keep their shapes.

    Products without a constant weight (attention, for one) are passed over, and so are layers that were
    optimised away.
    """
    shapes = {value.name: tuple(value.dims) for value in model.graph.initializer}
    nodes = [
        (node, shapes[node.input[1]])
        for node in model.graph.node
        if node.op_type in LAYER_OPERATORS and node.input[1] in shapes
    ]
    matched: dict[str, str] = {}
    position = 0
    for name, layer in calls:
        weight = layer.weight
        assert isinstance(weight, Tensor)
        for index in range(position, len(nodes)):
            node, shape = nodes[index]
            if (node.op_type == "Conv") == isinstance(layer, nn.Conv2d) and shape in (
                weight.shape,
                weight.shape[::-1],
            ):
                matched[node.name] = name
                position = index + 1
                break
    return matched


def _inline_identities(model: onnx.ModelProto) -> None:
    """Give each node its own weights: the legacy exporter merges equal ones behind Identity nodes.

    A fresh network's batch norms are all equal, and a file with shared weights could not be cut layer by
    layer.
    """
    weights = {value.name: value for value in model.graph.initializer}
    results = {value.name for value in model.graph.output}
    for node in list(model.graph.node):
        if node.op_type == "Identity" and node.input[0] in weights and node.output[0] not in results:
            own = onnx.TensorProto()
            own.CopyFrom(weights[node.input[0]])
            own.name = node.output[0]
            model.graph.initializer.append(own)
            weights[own.name] = own
            model.graph.node.remove(node)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' progress and deprecation notices off the user's terminal."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
