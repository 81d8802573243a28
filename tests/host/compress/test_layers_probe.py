from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from host.compress.layers_probe import REPEATS, layer_model
from host.search.network import LayerKind

CASES = [
    (LayerKind.POINTWISE, 64, 65, 1),
    (LayerKind.POINTWISE, 70, 64, 1),
    (LayerKind.CONV, 32, 33, 3),
    (LayerKind.DEPTHWISE, 65, 65, 3),
    (LayerKind.GROUPED, 64, 66, 3),
    (LayerKind.LINEAR, 64, 71, 1),
]


@pytest.mark.parametrize(("kind", "width_in", "width_out", "kernel"), CASES)
def test_the_model_has_the_widths_and_runs(
    kind: LayerKind, width_in: int, width_out: int, kernel: int, tmp_path: Path
) -> None:
    path = layer_model(kind, width_in=width_in, width_out=width_out, side=8, kernel=kernel, path=tmp_path / "m.onnx")
    graph = onnx.load(str(path)).graph
    layers = [node for node in graph.node if node.op_type in ("Conv", "Gemm")]
    assert len(layers) == REPEATS[kind]
    shapes = {weight.name: tuple(weight.dims) for weight in graph.initializer}
    assert all(shapes[node.input[1]][0] == width_out for node in layers)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    shape = session.get_inputs()[0].shape
    assert shape[1] == width_in
    (output,) = session.run(None, {"input": np.random.default_rng(0).standard_normal(shape).astype(np.float32)})
    assert output.shape[1] == width_out
    assert np.isfinite(output).all()
    # Denormals are slow on many processors and would be mistaken for a slow width.
    assert np.abs(output[output != 0]).min() > 1e-20


def test_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    def made(name: str, seed: int) -> bytes:
        path = tmp_path / name
        return layer_model(
            LayerKind.POINTWISE, width_in=8, width_out=8, side=4, kernel=1, path=path, seed=seed
        ).read_bytes()

    assert made("a.onnx", 1) == made("b.onnx", 1) != made("c.onnx", 2)


def test_impossible_widths_are_refused(tmp_path: Path) -> None:
    for kind, width_in, width_out in ((LayerKind.DEPTHWISE, 8, 16), (LayerKind.GROUPED, 8, 9)):
        with pytest.raises(ValueError, match="cannot have input width"):
            layer_model(kind, width_in=width_in, width_out=width_out, side=4, kernel=3, path=tmp_path / "m.onnx")
