import hashlib
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from small_nets import ConcatFlatten, GroupedNet, TinyMobile, randomised
from torch import nn

from device_agent.contract.measurement import NodeTime
from host.compress.export import ExportFailed, export_onnx
from host.compress.groups import analyse
from host.compress.importance import scores
from host.compress.nodes import assign_nodes, describe, layer_of
from host.compress.surgery import channels_to_keep, prune
from host.search.network import Plan
from host.zoo.cifar_resnet import CifarResNet
from host.zoo.mobilenet_v2 import MobileNetV2

MODELS = {
    "tiny": (TinyMobile, (3, 8, 8)),
    "concat": (ConcatFlatten, (3, 8, 8)),
    "grouped": (GroupedNet, (3, 8, 8)),
    "resnet20": (lambda: CifarResNet(depth=20), (3, 16, 16)),
    "mobilenet_v2": (lambda: MobileNetV2(width=0.5, input_size=32, in_channels=1, num_classes=10), (1, 32, 32)),
}
LEVELS = ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL")


def session_of(path, *, level="ORT_ENABLE_ALL", profile=None):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def profiled_nodes(path, shape, level, folder):
    """Node times as ONNX Runtime's profiler reports them after two runs."""
    session = session_of(path, level=level, profile=folder / "profile")
    for _ in range(2):
        session.run(None, {"input": np.zeros((1, *shape), np.float32)})
    events = [event for event in json.loads(Path(session.end_profiling()).read_text()) if event["cat"] == "Node"]
    durations = {}
    for event in events:
        if event["name"].endswith("_kernel_time"):
            key = event["name"].removesuffix("_kernel_time"), event["args"]["op_name"]
            durations.setdefault(key, []).append(event["dur"] * 1000)
    return [
        NodeTime(name=name, op_type=kind, median_ns=max(1.0, float(np.median(values))), share=0.0, runs=len(values))
        for (name, kind), values in durations.items()
    ]


@pytest.fixture(scope="module", params=MODELS)
def case(request, tmp_path_factory):
    factory, shape = MODELS[request.param]
    module = randomised(factory())
    path = tmp_path_factory.mktemp(request.param) / "model.onnx"
    return module, shape, export_onnx(module, shape, path)


def test_outputs_are_those_of_pytorch(case):
    module, shape, exported = case
    images = torch.randn(1, *shape, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = module(images).numpy()
    (found,) = session_of(exported.path).run([exported.output_name], {exported.input_name: images.numpy()})
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


def test_the_file_is_described_and_batch_norm_is_folded(case):
    _, shape, exported = case
    content = exported.path.read_bytes()
    assert exported.sha256 == hashlib.sha256(content).hexdigest()
    assert exported.size_bytes == len(content)
    model = onnx.load(str(exported.path))
    kinds = {node.op_type for node in model.graph.node}
    assert not kinds & {"BatchNormalization", "Identity"}
    assert [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [1, *shape]
    assert model.opset_import[0].version == 17


def test_layer_nodes_are_the_layers_in_the_order_of_execution(case):
    module, shape, exported = case
    layers = analyse(module, torch.zeros(1, *shape)).network.layers
    assert list(exported.layer_nodes.values()) == [layer.name for layer in layers]
    weights = {value.name: list(value.dims) for value in onnx.load(str(exported.path)).graph.initializer}
    nodes = {node.name: node for node in onnx.load(str(exported.path)).graph.node}
    for node, layer in exported.layer_nodes.items():
        shape_of_weight = list(module.get_submodule(layer).weight.shape)
        assert weights[nodes[node].input[1]] in (shape_of_weight, shape_of_weight[::-1])


@pytest.mark.parametrize("level", LEVELS)
def test_every_layer_gets_the_times_of_its_nodes(case, level, tmp_path):
    _, shape, exported = case
    nodes = profiled_nodes(exported.path, shape, level, tmp_path)
    times, other_ns = assign_nodes(nodes, exported)
    assert list(dict.fromkeys(exported.layer_nodes.values())) == sorted(
        times, key=list(exported.layer_nodes.values()).index
    )
    assert sum(times.values()) + other_ns == pytest.approx(sum(node.median_ns for node in nodes))
    computing = [node for node in nodes if node.op_type in {"Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul"}]
    assert len(computing) == len(exported.layer_nodes)
    owners = [layer_of(node.name, exported.layer_names) for node in computing]
    # One node computes each layer, and the runtime keeps the order of execution.
    assert sorted(owners) == sorted(exported.layer_nodes.values())


def test_a_pruned_model_exports_with_its_own_widths(tmp_path):
    module = randomised(TinyMobile())
    network = analyse(module, torch.zeros(1, 3, 8, 8))
    kept = channels_to_keep(network, scores(network, module, "l1"), Plan(kept={"stem": 4, "block1.expand": 8}))
    pruned = prune(network, module, kept)
    exported = export_onnx(pruned, (3, 8, 8), tmp_path / "small.onnx")
    images = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        expected = pruned(images).numpy()
    (found,) = session_of(exported.path).run(None, {"input": images.numpy()})
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert list(exported.layer_nodes.values()) == [layer.name for layer in network.network.layers]


def test_opset_ir_version_and_batch_are_those_asked_for(tmp_path):
    exported = export_onnx(TinyMobile(), (3, 8, 8), tmp_path / "m.onnx", opset=13, ir_version=7, batch=4)
    model = onnx.load(str(exported.path))
    assert (model.opset_import[0].version, model.ir_version) == (13, 7)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 4


def test_the_exporter_is_quiet_and_leaves_the_module(tmp_path, recwarn, capfd):
    module = TinyMobile().train()
    export_onnx(module, (3, 8, 8), tmp_path / "m.onnx")
    assert module.training
    assert not recwarn.list
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_a_file_of_somebody_else_names_its_layers_after_its_nodes(case):
    _, _, exported = case
    described = describe(exported.path)
    assert described.sha256 == exported.sha256
    assert set(described.layer_nodes) >= set(exported.layer_nodes)
    assert all(node == layer for node, layer in described.layer_nodes.items())


class Broken(nn.Module):
    """Runs, but refuses to be traced by either exporter."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        y = self.conv(x)
        if isinstance(y, torch.Tensor) and (torch.jit.is_tracing() or torch.compiler.is_compiling()):
            raise RuntimeError("cannot be traced")
        return y


def test_what_cannot_be_exported_leaves_the_old_file(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")
    with pytest.raises(ExportFailed, match="Broken cannot be exported to ONNX opset 17"):
        export_onnx(Broken(), (3, 8, 8), path)
    with pytest.raises(ExportFailed, match="TinyMobile does not run on inputs"):
        export_onnx(TinyMobile(), (1, 8, 8), path)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.onnx"]
