"""TFLite as a format of compressions, on files that were converted before."""

import importlib.util
import shutil
from pathlib import Path

import pytest
import torch
from tflite_nets import INPUT_SHAPE, net
from torch import nn

from host.compress.groups import analyse
from host.compress.surgery import prune
from host.compress.tflite.describe import describe_tflite
from host.compress.tflite.drops import CannotSlice
from host.compress.tflite.flatbuffer import BadTflite, Graph, TfliteUnavailable
from host.compress.tflite.format import TfliteFormat, fingerprint
from host.compress.tflite.matching import match_file, weighted
from host.compress.tflite.running import difference
from host.compress.tflite.slicing import Slicer
from host.search.network import Plan

pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
FILES = Path(__file__).parents[2] / "fixtures" / "tflite"


def analysed(name):
    module = net(name)
    return module, analyse(module, torch.zeros(1, *INPUT_SHAPE))


@pytest.fixture
def resnet(tmp_path):
    """(format, module, network, baseline, notes) of a network whose conversion is kept."""
    module, network = analysed("resnet8")
    (tmp_path / "kept").mkdir()
    shutil.copy(FILES / "resnet8.tflite", tmp_path / "kept" / f"{fingerprint(module)}.tflite")
    notes: list[str] = []
    files = TfliteFormat(INPUT_SHAPE, tmp_path / "kept", notes.append)
    return files, module, network, files.export(module, tmp_path / "baseline.tflite"), notes


def trained(module):
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1 + 0.1 * torch.rand(parameter.shape, generator=generator))
    return module


def widths(path, module):
    """Output channels in the file, and in the module, by layer."""
    graph, layers = Graph.read(path), match_file(path, module, INPUT_SHAPE)
    found = {
        layers[graph.name(graph.outputs(operator)[0])]: graph.shape(graph.outputs(operator)[0])[-1]
        for operator, _ in weighted(graph)
    }
    return found, {name: module.get_submodule(name).weight.shape[0] for name in found}


def test_a_kept_conversion_is_taken_and_its_operators_are_the_layers(resnet, tmp_path):
    _, module, network, baseline, notes = resnet
    assert not notes
    assert baseline.path == tmp_path / "baseline.tflite"
    assert set(baseline.layer_names.values()) == {layer.name for layer in network.network.layers}
    assert (baseline.input_name, baseline.output_name) == ("serving_default_args_0", "serving_default_output_0_output")
    assert difference(baseline.path, module, torch.randn(2, *INPUT_SHAPE)) < 1e-5


def test_a_variant_has_the_widths_and_weights_of_the_module(resnet, tmp_path):
    files, module, network, baseline, notes = resnet
    files.begin(module, network, baseline)
    assert not notes
    # Of a padded shortcut the first channels go here, others in the variant: as fast, and nothing that is timed is compared.
    plan = Plan(kept={group.name: max(1, group.channels // 2) for group in network.network.groups})
    kept = {name: range(count) for name, count in plan.kept.items()}
    narrow = trained(prune(network, module, kept))
    variant = files.variant(narrow, plan, tmp_path / "variant.tflite")
    found, expected = widths(variant.path, narrow)
    assert len(found) == len(network.network.layers)
    assert found == expected
    assert variant.layer_names == baseline.layer_names
    assert difference(variant.path, narrow, torch.randn(2, *INPUT_SHAPE)) < 1e-5


def test_what_cannot_be_cut_from_is_converted_anew(resnet, tmp_path, monkeypatch):
    files, _, _, baseline, notes = resnet
    other, network = analysed("mobile")
    files.begin(other, network, baseline)
    assert "variants cannot be cut from baseline.tflite" in notes[-1]
    assert "has no operator with the weights of block1.depthwise" in notes[-1]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(TfliteUnavailable, match=r"pip install 'boardfit\[tflite-export\]'"):
        files.variant(other, network.network.full_plan(), tmp_path / "variant.tflite")
    assert not (tmp_path / "variant.tflite").exists()


def test_every_other_channel_of_what_goes_is_refused():
    module, network = analysed("gated")
    kept = {"stem.0": range(8), "body.wide": (0, 1), "body.out.0": range(9)}
    slicer = Slicer(FILES / "gated.tflite", module, network)
    with pytest.raises(CannotSlice, match="every other channel"):
        slicer.cut(kept, prune(network, module, kept), Path("never"))


def test_a_module_without_one_of_the_layers_is_refused(resnet, tmp_path):
    _, module, network, baseline, _ = resnet
    slicer = Slicer(baseline.path, module, network)
    module.layer2[0].conv2, module.layer2[0].bn2 = nn.Identity(), nn.Identity()
    kept = {group.name: range(group.channels) for group in network.network.groups}
    with pytest.raises(CannotSlice, match="calls other layers"):
        slicer.cut(kept, module, tmp_path / "variant.tflite")


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "model.tflite").write_bytes(b"\0" * 64)
    with pytest.raises(BadTflite, match="not a TFLite file"):
        describe_tflite(tmp_path / "model.tflite")
