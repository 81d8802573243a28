"""A look-up table of layer latencies as NetAdapt and HALP build it: every layer alone, at every pair of widths, on the device.

Layers of equal shape share an entry. Entries are kept in the state folder, and what measuring them took is charged to every
method that reads them, as if it had measured them itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from benchmarks.rivals.trial import IR_VERSION, OPSET, Trial
from device_agent.contract.settings import MeasureRequest, Stopping
from host.files import write_whole
from host.search.network import Layer, LayerKind

#: Layers measured in one job, and seconds of timed runs for each.
BATCH, SECONDS = 12, 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A layer by itself. `side` is that of its square input, 1 for a linear layer."""

    kind: str
    width_in: int
    width_out: int
    side: int
    kernel: int
    stride: int

    @property
    def name(self) -> str:
        return "-".join(str(value) for value in asdict(self).values())


def shape_of(layer: Layer, width_in: int, width_out: int) -> Shape:
    """Return the table's key of `layer` at these widths. ValueError for kinds that CIFAR ResNets don't have."""
    if layer.kind not in (LayerKind.CONV, LayerKind.POINTWISE, LayerKind.LINEAR):
        raise ValueError(f"layer {layer.name}: the look-up table has no {layer.kind.value} layers")
    return Shape(
        kind=layer.kind.value,
        width_in=width_in,
        width_out=width_out,
        side=math.isqrt(layer.input_pixels),
        kernel=math.isqrt(layer.kernel),
        stride=max(1, math.isqrt(layer.input_pixels // layer.output_pixels)),
    )


class Lookup:
    """Latencies in nanoseconds by Shape."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._path = trial.shared / "lookup.json"
        self._known: dict[str, dict[str, float]] = json.loads(self._path.read_text()) if self._path.exists() else {}
        self._read: set[str] = set()

    def prepare(self, shapes: Iterable[Shape]) -> None:
        """Measure those of `shapes` that nobody measured yet; charge the trial for all that it did not read before."""
        wanted = {shape.name: shape for shape in shapes if shape.name not in self._read}
        new = [shape for name, shape in sorted(wanted.items()) if name not in self._known]
        for start in range(0, len(new), BATCH):
            self._measure(new[start : start + BATCH])
            self._trial.say(f"look-up table: {min(start + BATCH, len(new))} of {len(new)} layers measured")
        for name in wanted:
            self._trial.charged_count += 1
            self._trial.charged_device_s += self._known[name]["device_s"]
        self._read |= set(wanted)

    def latency_ns(self, shape: Shape) -> float:
        """Return the median latency of a prepared shape."""
        return self._known[shape.name]["latency_ns"]

    def _measure(self, shapes: Sequence[Shape]) -> None:
        measuring = self._trial.measuring
        hashes = [measuring.push(write_layer(shape, self._trial.folder), shape.name) for shape in shapes]
        stopping = Stopping(
            warmup_runs=3, warmup_time_s=0.05, min_runs=10, min_time_s=SECONDS, max_time_s=SECONDS, precision=None
        )
        request = MeasureRequest(artifacts=tuple(hashes), settings=measuring.settings, stopping=stopping)
        with self._trial.timed("_measuring_s"):
            found = measuring.device.client.measure(request)
        each_s = found.result.device_time_ns / 1e9 / len(shapes)
        for index, shape in enumerate(shapes):
            self._known[shape.name] = {
                "latency_ns": float(np.median(found.latencies_ns(index))),
                "device_s": each_s,
            }
        write_whole(self._path, json.dumps(self._known, indent=1).encode())


def write_layer(shape: Shape, folder: Path) -> Path:
    """Write a model of one layer and its ReLU to `folder`."""
    rng = np.random.default_rng(0)
    linear = shape.kind == LayerKind.LINEAR.value
    size = (
        (shape.width_out, shape.width_in) if linear else (shape.width_out, shape.width_in, shape.kernel, shape.kernel)
    )
    weight = (rng.standard_normal(size) * np.sqrt(2 / np.prod(size[1:]))).astype(np.float32)
    weights = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.zeros(size[0], np.float32), "b")]
    out = -(-shape.side // shape.stride)
    if linear:
        nodes = [helper.make_node("Gemm", ["input", "w", "b"], ["output"], transB=1)]
        sides = [1, shape.width_in], [1, shape.width_out]
    else:
        edge = shape.kernel // 2
        nodes = [
            helper.make_node(
                "Conv", ["input", "w", "b"], ["sum"], kernel_shape=[shape.kernel] * 2, pads=[edge] * 4,
                strides=[shape.stride] * 2,
            ),
            helper.make_node("Relu", ["sum"], ["output"]),
        ]  # fmt: skip
        sides = [1, shape.width_in, shape.side, shape.side], [1, shape.width_out, out, out]
    graph = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, sides[0])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, sides[1])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    path = folder / f"{shape.name}.onnx"
    onnx.save(model, str(path))
    return path
