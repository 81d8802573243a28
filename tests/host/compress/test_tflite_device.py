"""What a compression for LiteRT measures, on a real agent. Nothing here asserts on a time."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tflite_nets import INPUT_SHAPE, net

from host.compress.measuring import Durations, Measuring, settings_for
from host.compress.observer import Observer
from host.compress.options import CompressOptions, LatencyTarget
from host.compress.session import Session
from host.compress.subject import Subject
from host.compress.surgery import prune
from host.compress.tflite.format import fingerprint
from host.compress.variants import VARIANTS_FOLDER
from host.datasets.dataset import Dataset3, Split
from host.fleet.client import AgentClient
from host.fleet.devices import Device
from host.search.granularity import Role
from host.search.network import LayerKind, Plan
from host.zoo.registry import ZooModel

pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
FILES = Path(__file__).parents[2] / "fixtures" / "tflite"


def split(count, seed):
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((count, *INPUT_SHAPE)).astype(np.float32)
    return Split(images=images, labels=np.arange(count, dtype=np.int64) % 10)


def test_litert_answers_for_widths_and_prices_every_layer(agent, tmp_path):
    module, out = net("resnet8"), tmp_path / "out"
    kept = out / VARIANTS_FOLDER / f"{fingerprint(module)}.tflite"
    kept.parent.mkdir(parents=True)
    shutil.copy(FILES / "resnet8.tflite", kept)
    data = Dataset3(
        name="noise", num_classes=10, train=split(64, 0), validation=split(32, 1), test=split(32, 2), normalisation=None
    )
    model = ZooModel(name="resnet8", module=module, input_shape=INPUT_SHAPE, num_classes=10)
    options = CompressOptions(
        model="resnet8",
        data="noise",
        target=LatencyTarget(ratio=0.9),
        runtime="litert",
        threads=1,
        probes=2,
        precision="float32",
    )
    short = Durations(alone_s=0.1, pair_s=0.1, longest_pair_s=0.1, layer_s=0.01)
    with AgentClient(agent.address) as client:
        device = Device(name="bench", client=client, info=client.describe())
        settings = settings_for(device, threads=1, provider=None, runtime="litert")
        measuring = Measuring(device, settings, None, durations=short)
        session = Session(options, Subject(model=model, data=data), measuring, out, Observer())
        plan = Plan(kept={group.name: group.channels // 2 for group in session.network.groups})
        kept_channels = {name: range(count) for name, count in plan.kept.items()}
        probe = session.probe("half", plan, lambda: prune(session.analysed, module, kept_channels))
        _, granularity = session.widths()
        outputs = measuring.outputs(session.baseline, data.test.images[:2])
    layers = {layer.name for layer in session.network.layers}
    assert set(probe.nodes) == layers
    assert sum(probe.nodes.values()) > 0
    assert granularity.multiple(LayerKind.CONV, Role.OUTPUT) in (1, 2, 4, 8, 16)
    with torch.no_grad():
        expected = module(torch.from_numpy(data.test.images[:2])).numpy()
    np.testing.assert_allclose(outputs, expected, atol=1e-4 * np.abs(expected).max())
