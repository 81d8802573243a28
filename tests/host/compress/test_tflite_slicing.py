"""Variants cut from `.tflite` files of every common structure compute what the pruned module computes."""

import random
from pathlib import Path

import pytest
import torch
from tflite_nets import NETS, net

from host.compress.groups import analyse
from host.compress.importance import scores
from host.compress.surgery import channels_to_keep, prune
from host.compress.tflite.running import difference
from host.compress.tflite.slicing import Slicer
from host.search.network import Plan

pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
FILES = Path(__file__).parents[2] / "fixtures" / "tflite"


# "gated" takes every other channel of what goes, which is refused (test_tflite_format.py).
@pytest.fixture(scope="module", params=[name for name in NETS if name != "gated"])
def case(request):
    module = net(request.param)
    network = analyse(module, torch.zeros(1, 3, 8, 8))
    return module, network, Slicer(FILES / f"{request.param}.tflite", module, network)


def kept_at_random(module, network, seed):
    generator = random.Random(seed)
    kept = {
        group.name: group.multiple * generator.randint(1, group.channels // group.multiple)
        for group in network.network.groups
    }
    return channels_to_keep(network, scores(network, module, "random", seed=seed), Plan(kept=kept))


@pytest.mark.parametrize("seed", range(2))
def test_random_plans_equal_the_pruned_module(case, seed, tmp_path):
    module, network, slicer = case
    kept = kept_at_random(module, network, seed)
    pruned = prune(network, module, kept)
    assert slicer.cut(kept, pruned, tmp_path / "variant.tflite", exact=True)
    assert set(slicer.layers.values()) == {layer.name for layer in network.network.layers}
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    assert difference(tmp_path / "variant.tflite", pruned, images) < 1e-5
