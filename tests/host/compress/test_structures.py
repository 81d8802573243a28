"""What goes together, on networks of every common structure: random plans against the masked original."""

import random

import pytest
import structured_nets as nets
import torch
from small_nets import ConcatFlatten, GroupedNet, TinyMobile, randomised
from torch import nn

from host.compress.cuts import mask_consumers, restore_weights
from host.compress.groups import analyse
from host.compress.importance import scores
from host.compress.surgery import channels_to_keep, load_compressed, prune, save_compressed
from host.search.network import Plan
from host.zoo.cifar_resnet import CifarResNet
from host.zoo.mobilenet_v2 import MobileNetV2


def mobilenet():
    return MobileNetV2(width=0.25, input_size=8, num_classes=5, dropout=0.0)


def of(body, outputs, stem=8):
    return lambda: nets.Net(body(), outputs, stem)


STREAM = "stem.0"
#: Factory, and the groups that must be found: channels and multiple by name.
CASES = {
    "mobile": (TinyMobile, {"stem": 8, "block1.expand": 24, "block2.expand": 16}),
    "flatten": (ConcatFlatten, {"left": 6, "right": 4, "merge": 8, "hidden": 12}),
    "grouped": (GroupedNet, {"stem": (8, 2), "grouped": (12, 2), "mix": 6}),
    "dense": (of(nets.Dense, 20), {STREAM: 8, "body.convs.0": 4, "body.convs.1": 4, "body.convs.2": 4}),
    "fire": (of(nets.Fire, 16), {STREAM: 8, "body.squeeze.0": 4, "body.left.0": 6, "body.right.0": 10}),
    "chunked": (of(nets.Chunked, 9), {STREAM: 8, "body.wide.0": (12, 2), "body.deep.0": 7, "body.out.0": 9}),
    "partial": (of(nets.PartialConv, 9), {STREAM: 8, "body.wide.0": (16, 4), "body.part.0": 4, "body.out.0": 9}),
    "fixed slice": (of(nets.FixedSlice, 9), {STREAM: 8, "body.out.0": 9}),
    "shuffle v1": (of(nets.ShuffleV1, 16, 16), {STREAM: (16, 2), "body.first.0": (4, 2)}),
    "shuffle v2": (
        of(nets.ShuffleV2, 16, 16),
        {STREAM: (16, 8), "body.units.0.0.0": 6, "body.units.1.0.0": 6, "body.units.2.0.0": 6},
    ),
    "excite": (of(nets.SqueezeExcite, 9), {STREAM: 8, "body.wide.0": 12, "body.gate.1": 6, "body.out.0": 9}),
    "linear excite": (of(nets.LinearExcite, 9), {STREAM: 8, "body.wide.0": 12, "body.down": 6, "body.out.0": 9}),
    "resnext": (of(nets.ResNeXt, 8), {STREAM: 8, "body.layers.0.0": (12, 3), "body.layers.1.0": (12, 3)}),
    "layer scale": (of(nets.LayerScale, 8), {STREAM: 8, "body.up.0": 20}),
    "shared": (of(nets.Shared, 8), {STREAM: 8}),
    "tied": (of(nets.Tied, 10), {STREAM: 8, "body.first.0": 10}),
    "padded": (
        of(nets.Padded, 17),
        {STREAM: 8, "body.first.0.0": 6, "body.first.1": 4, "body.second.0.0": 7, "body.second.1": 5},
    ),
    "padded by code": (
        of(nets.PaddedByCode, 12),
        {STREAM: 8, "body.layers.0.0": 6, "body.layers.1": 4},
    ),
    "padded and more": (of(nets.PaddedAndMore, 12), {STREAM: 8, "body.layers.0.0": 6}),
    "doubled": (of(nets.Doubled, 16), {STREAM: 8, "body.layers.0.0": 6}),
    "unet": (
        of(nets.UNet, 9),
        {STREAM: 8, "body.down.0": 12, "body.bottom.0": 10, "body.up.0": 6, "body.out.0": 9},
    ),
    "selective": (
        of(nets.SelectiveKernel, 9),
        {STREAM: 8, "body.left.0": 12, "body.squeeze": 6, "body.out.0": 9},
    ),
    "gated": (of(nets.Gated, 9), {STREAM: 8, "body.wide": 4, "body.out.0": 9}),
    "in place": (of(nets.InPlace, 9), {STREAM: 8, "body.left": 12, "body.out.0": 9}),
    "with image": (of(nets.WithImage, 9), {STREAM: 8, "body.wide.0": 6, "body.out.0": 9}),
    "multiplier": (of(nets.DepthMultiplier, 9), {"body.depth.0": (16, 8), "body.out.0": 9}),
    "sliced write": (of(nets.SlicedWrite, 9), {STREAM: 8, "body.out.0": 9}),
    "attention": (lambda: nets.TinyViT(nets.Attention()), {"blocks.0.value": 4, "blocks.0.up": 24}),
    "fused attention": (lambda: nets.TinyViT(nets.Attention(fused=True)), {"blocks.0.value": 4, "blocks.0.up": 24}),
    "torch attention": (lambda: nets.TinyViT(nets.Mha()), {"blocks.0.mix.0": 10, "blocks.0.up": 20}),
    "encoder layer": (
        lambda: nets.TinyViT(nn.TransformerEncoderLayer(12, 3, 16, batch_first=True, norm_first=True)),
        {"blocks.0.linear1": 16},
    ),
    "unnormalised": (nets.Unnormalised, {"patches": 12, "up": 20}),
    "resnet20": (
        lambda: CifarResNet(depth=20, width=0.5),
        {"conv1": 8, "layer2.0.conv2": 8, "layer3.0.conv2": 16}
        | {f"layer{stage}.{block}.conv1": 4 << stage for stage in (1, 2, 3) for block in (0, 1, 2)},
    ),
    "resnet56": (
        lambda: CifarResNet(depth=56, width=0.25),
        {"conv1": 4, "layer2.0.conv2": 4, "layer3.0.conv2": 8}
        | {f"layer{stage}.{block}.conv1": 2 << stage for stage in (1, 2, 3) for block in range(9)},
    ),
    "mobilenet_v2": (mobilenet, None),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    factory, expected = CASES[request.param]
    torch.manual_seed(0)
    module = randomised(factory())
    return factory, module, analyse(module, torch.zeros(1, 3, 8, 8)), expected


def random_plan(network, generator):
    return Plan(
        kept={
            group.name: group.multiple * generator.randint(1, group.channels // group.multiple)
            for group in network.network.groups
        }
    )


def test_the_groups_are_those_of_the_structure(case):
    _, _, network, expected = case
    if expected is None:
        assert [alone.layer for alone in network.network.left_alone] == ["classifier"]
        return
    wanted = {name: size if isinstance(size, tuple) else (size, 1) for name, size in expected.items()}
    reasons = {alone.layer: alone.reason for alone in network.network.left_alone}
    assert {group.name: (group.channels, group.multiple) for group in network.network.groups} == wanted, reasons


@pytest.mark.parametrize("seed", range(4))
def test_random_plans_equal_the_masked_original(case, seed):
    _, module, network, _ = case
    generator = random.Random(seed)
    groups = {group.name: group for group in network.network.groups}
    plan = random_plan(network, generator)
    if seed >= 2:  # some groups only, so that what they share with others keeps its place
        plan = Plan(
            kept={name: plan.kept[name] if generator.random() < 0.5 else groups[name].channels for name in groups}
        )
    kept = channels_to_keep(network, scores(network, module, "random", seed=seed), plan)
    pruned = prune(network, module, kept)
    images = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    removed = {name: set(range(groups[name].channels)) - set(kept[name]) for name in groups}
    former = mask_consumers(module, network.cuts, removed)
    with torch.no_grad():
        masked, cut = module(images), pruned(images)
    restore_weights(module, former)
    torch.testing.assert_close(cut, masked, rtol=1e-4, atol=1e-4 * float(masked.abs().max()))
    for layer in network.network.layers:
        own = pruned.get_submodule(layer.name)
        width_in, width_out = layer.widths(plan.kept)
        assert own.weight.shape[0] == width_out
        assert own.weight.shape[1] * getattr(own, "groups", 1) == width_in


def test_a_pruned_network_has_the_same_groups(case):
    _, module, network, _ = case
    plan = Plan(kept={group.name: max(group.multiple, group.channels // 2 // group.multiple * group.multiple)
                      for group in network.network.groups})  # fmt: skip
    plan = Plan(kept={group.name: group.channels if plan.kept[group.name] <= max(group.multiple, 2) else plan.kept[group.name]
                      for group in network.network.groups})  # fmt: skip
    pruned = prune(network, module, channels_to_keep(network, scores(network, module, "l1"), plan))
    again = analyse(pruned, torch.zeros(1, 3, 8, 8))
    assert {group.name: (group.channels, group.multiple) for group in again.network.groups} == {
        group.name: (plan.kept[group.name], group.multiple) for group in network.network.groups
    }


def test_a_file_rebuilds_the_pruned_network(case, tmp_path):
    factory, module, network, _ = case
    plan = random_plan(network, random.Random(9))
    kept = channels_to_keep(network, scores(network, module, "l2"), plan)
    pruned = prune(network, module, kept)
    save_compressed(pruned, tmp_path / "small.pt", kept=kept)
    loaded = load_compressed(tmp_path / "small.pt", factory)
    images = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(loaded.module.eval()(images), pruned(images))


def test_weights_that_were_shared_are_shared_after_pruning():
    module = randomised(nets.Net(nets.Tied(), 10))
    network = analyse(module, torch.zeros(1, 3, 8, 8))
    pruned = prune(network, module, {STREAM: [0, 2, 5], "body.first.0": [1, 2, 3, 9]})
    assert pruned.body.second[0].weight is pruned.body.first[0].weight
    assert pruned.body.first[0].weight.shape == (4, 3, 3, 3)
