"""Conversion by litert-torch and int8 by ai-edge-quantizer, where they are installed: 1.1 GB that not every machine has."""

import numpy as np
import pytest
import torch
from small_nets import TinyMobile, Untraceable, randomised

from host.compress.export import ExportFailed
from host.compress.tflite.export import export_tflite
from host.compress.tflite.flatbuffer import Graph
from host.compress.tflite.quantization import CALIBRATIONS, quantize_tflite, quantize_tflite_dynamic
from host.compress.tflite.running import difference, run_tflite

pytest.importorskip("litert_torch", reason="litert-torch is not installed: pip install 'boardfit[tflite-export]'")
SHAPE = (3, 8, 8)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    module = randomised(TinyMobile())
    return module, export_tflite(module, SHAPE, tmp_path_factory.mktemp("tflite") / "model.tflite")


def test_the_file_computes_what_the_module_computes_and_names_its_layers(exported):
    module, model = exported
    assert difference(model.path, module, torch.randn(4, *SHAPE)) < 1e-5
    names = [name for name, layer in module.named_modules() if isinstance(layer, (torch.nn.Conv2d, torch.nn.Linear))]
    assert list(model.layer_nodes.values()) == names
    graph = Graph.read(model.path)
    assert graph.shape(graph.graph_inputs[0]) == (1, *SHAPE)


def test_what_cannot_be_traced_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(ExportFailed, match="Untraceable cannot be exported to TFLite"):
        export_tflite(Untraceable(), SHAPE, tmp_path / "model.tflite")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_static_int8_keeps_float_ends_and_nearly_the_outputs(exported, calibration, tmp_path):
    _, model = exported
    images = np.random.default_rng(0).standard_normal((16, *SHAPE)).astype(np.float32)
    made = quantize_tflite(model.path, tmp_path / "int8.tflite", images, calibration=calibration)
    graph = Graph.read(made.path)
    assert 9 in {graph.type(tensor) for tensor in graph.tensors()}  # int8
    expected, found = run_tflite(model.path, images), run_tflite(made.path, images)
    error = np.abs(found - expected).max() / np.abs(expected).max()
    assert 0 < error < (0.1 if calibration == "minmax" else 0.6)


def test_dynamic_int8_has_smaller_weights(exported, tmp_path):
    _, model = exported
    images = np.random.default_rng(0).standard_normal((4, *SHAPE)).astype(np.float32)
    made = quantize_tflite_dynamic(model.path, tmp_path / "int8.tflite")
    graph = Graph.read(made.path)
    assert 9 in {graph.type(tensor) for tensor in graph.tensors()}
    expected = run_tflite(model.path, images)
    assert np.abs(run_tflite(made.path, images) - expected).max() < 0.1 * np.abs(expected).max()
