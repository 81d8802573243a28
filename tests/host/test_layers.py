"""From the names that torch's exporters write to the modules of the network."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import logging
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from onnx import helper
from small_nets import TinyMobile
from torch import nn

from device_agent.contract.artifact import Artifact, ArtifactFormat
from device_agent.contract.measurement import NodeTime
from device_agent.contract.settings import GraphOptimization, MeasureRequest, Settings, Stopping
from device_agent.worker.launch import ArtifactFile, WorkerLimits, run_measure
from device_agent.worker.result import WorkerResult
from host.compress.export import export_onnx
from host.layers import module_finder, name_layers
from host.zoo.cifar_resnet import CifarResNet
from host.zoo.mobilenet_v2 import MobileNetV2

MODELS = Path(__file__).parents[1] / "fixtures" / "models"
CASES = {
    "resnet20": (lambda: CifarResNet(depth=20), (3, 16, 16), "legacy"),
    "mobilenet_v2": (
        lambda: MobileNetV2(width=0.5, input_size=32, in_channels=1, num_classes=10),
        (1, 32, 32),
        "legacy",
    ),
    "tiny": (TinyMobile, (3, 8, 8), "dynamo"),
}
QUICK = Stopping(warmup_runs=1, warmup_time_s=0, min_runs=2, min_time_s=0, max_time_s=5, precision=None)


def node_times(path: Path, settings: Settings) -> tuple[NodeTime, ...]:
    content = path.read_bytes()
    artifact = Artifact(
        sha256=hashlib.sha256(content).hexdigest(),
        format=ArtifactFormat.of_suffix(path.suffix),
        size_bytes=len(content),
        name=path.name,
    )
    request = MeasureRequest(
        artifacts=(artifact.sha256,), settings=settings, stopping=QUICK, turn_runs=2, profile_nodes=True
    )

    async def scenario() -> WorkerResult:
        job = run_measure(
            request,
            [ArtifactFile(path=path, artifact=artifact)],
            limits=WorkerLimits(deadline_s=120),
            on_pid=lambda _: None,
        )
        (found,) = [event async for event in job if isinstance(event, WorkerResult)]
        return found

    nodes = asyncio.run(scenario()).artifacts[0].nodes
    assert nodes is not None
    return nodes


def dynamo(module: nn.Module, shape: tuple[int, ...], path: Path) -> None:
    level = logging.getLogger("torch.onnx").level
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(), (torch.zeros(1, *shape),), dynamo=True, opset_version=18, verbose=False
        )
    logging.getLogger("torch.onnx").setLevel(level)
    assert program is not None
    onnx.save(program.model_proto, str(path))


@pytest.fixture(scope="module", params=CASES)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    factory, shape, exporter = CASES[request.param]
    module = factory()
    path = tmp_path_factory.mktemp(request.param) / "model.onnx"
    if exporter == "legacy":
        export_onnx(module, shape, path)
    else:
        dynamo(module, shape, path)
    return module, path


@pytest.mark.parametrize("level", [None, GraphOptimization.EXTENDED])
def test_every_layer_of_the_network_is_found_once(
    exported: tuple[nn.Module, Path], level: GraphOptimization | None
) -> None:
    module, path = exported
    nodes = node_times(path, Settings(threads=1, graph_optimization=level))
    weighted = [node.name for node in onnx.load(str(path)).graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    count = Counter(name for node in nodes for name in node.sources)
    assert {name: count[name] for name in weighted} == dict.fromkeys(weighted, 1)

    find = module_finder(path)
    names = dict(module.named_modules())
    computing = [node for node in nodes if set(node.sources) & set(weighted)]
    layers = [find(node.sources) for node in computing]
    expected = [name for name, each in names.items() if isinstance(each, (nn.Conv2d, nn.Linear))]
    assert sorted(layers) == sorted(expected)
    others = {find(node.sources) for node in nodes} - set(layers) - {None}
    assert others <= set(names), "an addition belongs to the block that makes it"


def test_the_way_back_agrees_with_the_exports_own_map(tmp_path: Path) -> None:
    exported = export_onnx(CifarResNet(depth=20), (3, 16, 16), tmp_path / "model.onnx")
    find = module_finder(exported.path)
    assert {name: find([name]) for name in exported.layer_nodes} == dict(exported.layer_nodes)


def legacy(tmp_path: Path, name: str, op_type: str, producer: str = "pytorch") -> str | None:
    graph = helper.make_graph(
        [helper.make_node(op_type, ["x"], ["y"], name=name)],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])],
    )
    path = tmp_path / "one.onnx"
    onnx.save(helper.make_model(graph, producer_name=producer), str(path))
    return module_finder(path)([name])


@pytest.mark.parametrize(
    ("name", "op_type", "module"),
    [
        ("/features/features.3/conv/conv.1/Relu", "Relu", "features.3.conv.1"),
        ("/blocks/blocks.1/layers/layers.0/layers.0.2/Clip", "Clip", "blocks.1.layers.0.2"),
        ("/conv1/Relu_1", "Relu", "conv1"),
        ("/Add", "Add", None),
        ("Add_7", "Add", None),
        ("/layer/Conv_output_0_nchwc", "Relu", None),
        ("", "Relu", None),
    ],
)
def test_names_of_the_legacy_exporter(tmp_path: Path, name: str, op_type: str, module: str | None) -> None:
    assert legacy(tmp_path, name, op_type) == module


def test_files_of_other_producers_name_no_modules(tmp_path: Path) -> None:
    assert legacy(tmp_path, "/model/conv2d/Relu", "Relu", producer="tf2onnx") is None


def test_names_of_litert_torch() -> None:
    find = module_finder(MODELS / "nested.tflite")
    block = "__main__.Nested/torch.nn.modules.container.Sequential_blocks/__main__.Block_1"
    conv = f"{block}/torch.nn.modules.conv.Conv2d_conv_1;"
    act = f"{block}/torch.nn.modules.activation.ReLU6_act;"
    assert find([conv]) == "blocks.1.conv_1"
    assert find([f"{act};{conv}"]) == "blocks.1.conv_1"
    assert find([act, conv]) == "blocks.1.conv_1"
    assert find([act]) == "blocks.1.act"
    assert find([f"{block};1"]) == "blocks.1"
    assert find(["__main__.Nested;1"]) is None
    assert find(["serving_default_output_0_output"]) is None
    assert find(["model/conv2d/Relu;model/conv2d/BiasAdd"]) is None
    assert find([]) is None


def test_the_modules_of_a_tflite_file_that_ran() -> None:
    pytest.importorskip("ai_edge_litert")
    find = module_finder(MODELS / "nested.tflite")
    layers = [
        find(node.sources) for node in node_times(MODELS / "nested.tflite", Settings(runtime="litert", threads=1))
    ]
    for name in ("stem.0", *(f"blocks.{block}.{part}" for block in (0, 1) for part in ("conv_1", "depthwise", "proj"))):
        assert name in layers


def test_layers_are_filled_in_where_there_are_any(tmp_path: Path) -> None:
    exported = export_onnx(CifarResNet(depth=20), (3, 16, 16), tmp_path / "model.onnx")
    layers: list[dict[str, Any]] = [
        {"layer": None, "sources": ["/conv1/Conv", "/relu/Relu"]},
        {"layer": None, "sources": []},
    ]
    name_layers(layers, module_finder(exported.path))
    assert [node["layer"] for node in layers] == ["conv1", None]
    name_layers(None, module_finder(exported.path))


def test_onnxruntime_keeps_a_session_as_it_is_when_its_graph_is_written(tmp_path: Path) -> None:
    """Weights are sent to nowhere with the written graph; the session must not lose them."""
    from device_agent.runtimes.onnxruntime_profile import keep_graph

    export_onnx(CifarResNet(depth=20), (3, 16, 16), tmp_path / "model.onnx")
    image = {"input": torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1)).numpy()}
    found = []
    for keep in (False, True):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if keep:
            keep_graph(options, tmp_path)
        found.append(onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), options).run(None, image)[0])
    assert (found[0] == found[1]).all()
    assert (tmp_path / "optimized.onnx").stat().st_size < 200_000
