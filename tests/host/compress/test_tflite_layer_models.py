from pathlib import Path

import numpy as np
import pytest

from host.compress.layers_probe import REPEATS
from host.compress.tflite.flatbuffer import Graph
from host.compress.tflite.layer_models import tflite_layer_model
from host.compress.tflite.operators import WEIGHTED
from host.search.network import LayerKind

litert = pytest.importorskip("ai_edge_litert.interpreter", reason="ai-edge-litert is not installed")

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
    path = tmp_path / "model.tflite"
    tflite_layer_model(kind, width_in=width_in, width_out=width_out, side=8, kernel=kernel, path=path)
    graph = Graph.read(path)
    layers = [operator for operator in graph.operators if graph.code(operator) in WEIGHTED]
    assert len(layers) == len(graph.operators) == REPEATS[kind]
    assert all(graph.shape(graph.outputs(operator)[0])[-1] == width_out for operator in layers)
    model = litert.Interpreter(model_path=str(path))
    model.allocate_tensors()
    (source,) = model.get_input_details()
    assert source["shape"][-1] == width_in
    values = np.random.default_rng(0).standard_normal(source["shape"]).astype(np.float32)
    model.set_tensor(source["index"], values)
    model.invoke()
    outputs = [model.get_tensor(detail["index"]) for detail in model.get_output_details()]
    assert len(outputs) == (1 if kind is LayerKind.DEPTHWISE else REPEATS[kind])
    for output in outputs:
        assert np.isfinite(output).all()
        # Denormals are slow on many processors and would be mistaken for a slow width.
        assert np.abs(output[output != 0]).min() > 1e-20
    if kind is LayerKind.LINEAR:
        weight, bias = (graph.values(graph.inputs(layers[0])[place]) for place in (1, 2))
        assert weight is not None
        np.testing.assert_allclose(outputs[0], np.maximum(values @ weight.T + bias, 0), atol=1e-4)


def test_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    def made(name: str, seed: int) -> bytes:
        path = tmp_path / name
        tflite_layer_model(LayerKind.CONV, width_in=8, width_out=8, side=4, kernel=1, path=path, seed=seed)
        return path.read_bytes()

    assert made("a.tflite", 1) == made("b.tflite", 1) != made("c.tflite", 2)


def test_impossible_widths_are_refused(tmp_path: Path) -> None:
    for kind, width_in, width_out in ((LayerKind.DEPTHWISE, 8, 16), (LayerKind.GROUPED, 8, 9)):
        with pytest.raises(ValueError, match="cannot have input width"):
            tflite_layer_model(
                kind, width_in=width_in, width_out=width_out, side=4, kernel=3, path=tmp_path / "model.tflite"
            )
