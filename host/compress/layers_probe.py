"""Small ONNX models for the granularity probe: one kind of layer, repeated, with the activations between. No
torch here.

A chain stands for the layer in its context: its input comes from a layer of the same kind in the runtime's
own layout, so that the conversion at the ends weighs little. Widths alternate between `width_in` and
`width_out`; where the two differ, a chain holds as many layers from in to out as back.
"""

from __future__ import annotations

import math
import os
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from host.search.network import LayerKind

#: MACs after which a chain lasts about 1 ms: a current core does 10 - 40 GMAC/s dense in float32.
TARGET_MACS = 16_000_000
#: The same for layers that are bound by memory; depthwise convolutions reach about an eighth.
TARGET_MACS_DEPTHWISE = 2_000_000
MAX_REPEATS = 64


def layer_model(
    kind: LayerKind,
    *,
    width_in: int,
    width_out: int,
    side: int,
    kernel: int,
    path: Path,
    repeats: int | None = None,
    opset: int = 13,
    ir_version: int = 8,
    seed: int = 0,
) -> Path:
    """Write a chain of `kind` layers with bias and ReLU between, on (1, width, side, side) or, if linear, (1,
    width).

    `kernel` is the side of the window (1 for linear and pointwise). `repeats` None means as many as make
    about 1 ms, an even number where the widths differ. Compare only models of equal `repeats`. Layers are
    named `layer_0` and so on. Raises ValueError for kinds and widths that don't go together.
    """
    _check(kind, width_in, width_out, side, kernel)
    count = chain_length(kind, width_in=width_in, width_out=width_out, side=side, kernel=kernel)
    if repeats is not None:
        count = repeats
    generator = np.random.default_rng(seed)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    value, width = "input", width_in
    for index in range(count):
        following = width_out if width == width_in else width_in
        name = f"layer_{index}"
        shape, fan_in = _weight_shape(kind, width, following, kernel)
        # He initialisation keeps the activations in range, away from denormal numbers, which are slow.
        weights.append(_tensor(f"{name}.weight", generator.normal(0, math.sqrt(2 / fan_in), shape)))
        weights.append(_tensor(f"{name}.bias", generator.uniform(0, 0.1, following)))
        inputs = [value, f"{name}.weight", f"{name}.bias"]
        if kind is LayerKind.LINEAR:
            nodes.append(helper.make_node("Gemm", inputs, [f"{name}.out"], name=name, transB=1))
        else:
            nodes.append(
                helper.make_node(
                    "Conv",
                    inputs,
                    [f"{name}.out"],
                    name=name,
                    kernel_shape=[kernel, kernel],
                    pads=[kernel // 2] * 4,
                    group=width if kind is LayerKind.DEPTHWISE else 1,
                )
            )
        value = "output" if index == count - 1 else f"{name}.relu"
        nodes.append(helper.make_node("Relu", [f"{name}.out"], [value], name=f"{name}_relu"))
        width = following
    graph = helper.make_graph(
        nodes,
        f"{kind.value}-chain",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, _shape(kind, width_in, side))],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, _shape(kind, width, side))],
        weights,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version, producer_name="boardfit"
    )
    onnx.checker.check_model(model, full_check=True)
    _write(path, model.SerializeToString())
    return path


def chain_length(kind: LayerKind, *, width_in: int, width_out: int, side: int, kernel: int) -> int:
    """Layers that take about 1 ms together on a current core, from 2 to 64; even, so that a chain ends as it
    began.
    """
    pixels = 1 if kind is LayerKind.LINEAR else side * side
    macs = kernel * kernel * pixels * width_out * (1 if kind is LayerKind.DEPTHWISE else width_in)
    target = TARGET_MACS_DEPTHWISE if kind is LayerKind.DEPTHWISE else TARGET_MACS
    count = max(2, min(MAX_REPEATS, math.ceil(target / macs)))
    return count + count % 2


def _check(kind: LayerKind, width_in: int, width_out: int, side: int, kernel: int) -> None:
    if kind is LayerKind.GROUPED:
        raise ValueError("grouped convolutions have no probe; their widths follow from their groups")
    if min(width_in, width_out, side, kernel) < 1:
        raise ValueError(f"widths, side and kernel must be positive, got {width_in}, {width_out}, {side}, {kernel}")
    if kind is LayerKind.DEPTHWISE and width_in != width_out:
        raise ValueError(f"a depthwise layer has one width, got {width_in} and {width_out}")
    if kernel % 2 == 0 or (kernel != 1 and kind in {LayerKind.POINTWISE, LayerKind.LINEAR}):
        raise ValueError(f"a {kind.value} layer cannot have a kernel of {kernel}")


def _weight_shape(kind: LayerKind, width: int, following: int, kernel: int) -> tuple[tuple[int, ...], int]:
    if kind is LayerKind.LINEAR:
        return (following, width), width
    if kind is LayerKind.DEPTHWISE:
        return (width, 1, kernel, kernel), kernel * kernel
    return (following, width, kernel, kernel), width * kernel * kernel


def _shape(kind: LayerKind, width: int, side: int) -> list[int]:
    return [1, width] if kind is LayerKind.LINEAR else [1, width, side, side]


def _tensor(name: str, values: npt.NDArray[np.float64]) -> onnx.TensorProto:
    return numpy_helper.from_array(values.astype(np.float32), name)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
