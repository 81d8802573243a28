"""Whole residual branches dropped: against the masked original, exported, saved, loaded, and cut again."""

import random

import onnx
import pytest
import torch
from small_nets import TinyMobile, randomised
from torch import Tensor, nn

from host.compress.cuts import mask_consumers
from host.compress.depth import ConstantChannels, Vanished
from host.compress.evaluation import evaluate, recalibrate_batch_norm
from host.compress.export import export_onnx
from host.compress.groups import analyse
from host.compress.importance import scores
from host.compress.sensitivity import measure_losses
from host.compress.surgery import channels_to_keep, load_compressed, prune, save_compressed
from host.search.network import Plan
from host.zoo.cifar_resnet import CifarResNet

SHAPE = (3, 8, 8)


class Mixed(nn.Module):
    """(N, 3, 8, 8) to (N, 5): branches without a norm, over tokens, and in ways that cannot be dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.up, self.down = nn.Conv2d(8, 12, 1), nn.Conv2d(12, 8, 1)
        self.widen, self.narrow = nn.Linear(8, 20), nn.Linear(20, 8)
        self.wide, self.shut = nn.Conv2d(8, 6, 1), nn.Conv2d(6, 8, 1)  # an activation before the sum
        self.chain = nn.Conv2d(8, 10, 1)  # no way around it
        self.head = nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = x + self.down(torch.relu(self.up(x)))
        tokens = x.flatten(2).transpose(1, 2)
        tokens = tokens + self.narrow(torch.relu(self.widen(tokens)))
        x = tokens.transpose(1, 2).reshape(x.shape)
        x = x + torch.relu(self.shut(torch.relu(self.wide(x))))
        return self.head(torch.relu(self.chain(x)).mean((2, 3)))


CASES = {
    "resnet": (lambda: CifarResNet(depth=14, width=0.5), {"layer1.0", "layer1.1", "layer2.1", "layer3.1"}),
    "mobile": (TinyMobile, {"block1", "block2"}),
    "mixed": (Mixed, {"up", "widen"}),
}


@pytest.fixture(scope="module", params=CASES)
def case(request):
    factory, _ = CASES[request.param]
    module = randomised(factory())
    return factory, module, analyse(module, torch.zeros(1, *SHAPE))


def images(count=4, seed=0):
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def plan_without(network, branches, seed):
    generator = random.Random(seed)
    plan = {group.name: generator.randint(1, group.channels) for group in network.network.groups}
    return Plan(kept=plan | dict.fromkeys((branch.group for branch in branches), 0))


def some_branches(network, seed):
    branches = network.network.branches
    return branches if seed == 0 else random.Random(seed).sample(branches, max(1, len(branches) // 2))


def test_the_branches_that_can_vanish_are_found(request, case):
    _, _, network = case
    _, wanted = CASES[request.node.callspec.params["case"]]
    found = network.network.branches
    assert {branch.group.removesuffix(".conv1").removesuffix(".expand") for branch in found} == wanted
    lasts = {branch.layers[-1]: branch.norm for branch in found}
    for layer, norm in lasts.items():
        assert norm == (layer.replace("conv2", "bn2") if "conv2" in layer else norm)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_without_branches_it_equals_the_masked_original(case, seed):
    _, module, network = case
    plan = plan_without(network, some_branches(network, seed), seed)
    kept = channels_to_keep(network, scores(network, module, "random", seed=seed), plan)
    pruned = prune(network, module, kept)
    masked = prune(network, module, {})
    mask_consumers(
        masked,
        network.cuts,
        {group.name: set(range(group.channels)) - set(kept[group.name]) for group in network.network.groups},
    )
    for each in (masked, pruned):
        recalibrate_batch_norm(each, images(16, seed), 2, batch_size=8)
    with torch.no_grad():
        wanted, found = masked(images(seed=9)), pruned(images(seed=9))
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3 * float(wanted.abs().max()))
    assert sum(each.numel() for each in pruned.parameters()) < sum(each.numel() for each in masked.parameters())


def test_nothing_of_a_dropped_branch_is_exported(case, tmp_path):
    _, module, network = case
    dropped = {layer for branch in network.network.branches for layer in branch.layers}
    kept = channels_to_keep(network, scores(network, module, "l1"), plan_without(network, network.network.branches, 3))
    pruned = prune(network, module, kept)
    whole = export_onnx(module, SHAPE, tmp_path / "whole.onnx")
    small = export_onnx(pruned, SHAPE, tmp_path / "small.onnx")
    assert set(whole.layer_nodes.values()) - set(small.layer_nodes.values()) == dropped
    kinds = [[node.op_type for node in onnx.load(str(each.path)).graph.node] for each in (whole, small)]
    layers, rectifiers = (
        sum(kind in ("Conv", "Gemm", "MatMul") for kind in kinds[0]) - len(dropped),
        kinds[0].count("Relu") + kinds[0].count("Clip"),
    )
    assert sum(kind in ("Conv", "Gemm", "MatMul") for kind in kinds[1]) == layers
    assert kinds[1].count("Relu") + kinds[1].count("Clip") < rectifiers
    assert len(kinds[1]) < len(kinds[0])


def test_a_file_without_branches_rebuilds_the_module(case, tmp_path):
    factory, module, network = case
    plan = plan_without(network, some_branches(network, 1), 1)
    kept = channels_to_keep(network, scores(network, module, "l2"), plan)
    pruned = prune(network, module, kept)
    save_compressed(pruned, tmp_path / "small.pt", kept=kept)
    loaded = load_compressed(tmp_path / "small.pt", factory)
    with torch.no_grad():
        assert torch.equal(loaded.module.eval()(images()), pruned(images()))
    assert loaded.plan == plan
    assert [name for name, layer in loaded.module.named_modules() if isinstance(layer, (Vanished, ConstantChannels))]


def test_what_is_left_can_be_cut_again_under_the_same_names(case):
    _, module, network = case
    first, *rest = network.network.branches
    pruned = prune(network, module, {first.group: []})
    again = analyse(pruned, torch.zeros(1, *SHAPE))
    assert {group.name for group in again.network.groups} == {
        group.name for group in network.network.groups if group.name != first.group
    }
    assert [branch.group for branch in again.network.branches] == [branch.group for branch in rest]
    kept = channels_to_keep(again, scores(again, pruned, "taylor", [(images(8), torch.arange(8) % 5)]), Plan(
        kept={group.name: max(1, group.channels // 2) for group in again.network.groups}
    ))  # fmt: skip
    smaller = prune(again, pruned, kept)
    mask_consumers(
        pruned,
        again.cuts,
        {group.name: set(range(group.channels)) - set(kept[group.name]) for group in again.network.groups},
    )
    with torch.no_grad():
        torch.testing.assert_close(smaller(images()), pruned(images()), rtol=1e-3, atol=1e-4)


def test_a_dropped_branch_is_trained_on(case):
    _, module, network = case
    pruned = prune(network, module, {network.network.branches[0].group: []}).train()
    pruned(images()).square().mean().backward()
    constant = next(layer for layer in pruned.modules() if isinstance(layer, ConstantChannels))
    assert constant.value.grad is not None
    assert bool(constant.value.grad.abs().sum() > 0)


def test_the_loss_of_a_dropped_branch_is_measured(case):
    """It is that of the network cut and recalibrated on the same images."""
    _, module, network = case
    branch, full = network.network.branches[-1], network.network.full_plan().kept
    batches = [(images(16, seed), torch.arange(16) % 5) for seed in (3, 4)]
    fitting = [batch for batch, _ in batches]
    widths = {name: (count,) for name, count in full.items()} | {branch.group: (0, 1, full[branch.group])}
    found = measure_losses(
        network, module, scores(network, module, "l1"), widths, batches, recalibrate=fitting, workers=1
    )[branch.group]
    whole, without = prune(network, module, {}), prune(network, module, {branch.group: []})
    pixels, labels = (torch.cat(each) for each in zip(*batches, strict=True))
    for each in (whole, without):
        recalibrate_batch_norm(each, pixels, 2, batch_size=16)
    rise = evaluate(without, pixels, labels).loss - evaluate(whole, pixels, labels).loss
    assert set(found) == {0, 1, full[branch.group]}
    assert found[0] == pytest.approx(max(rise, 0.0), abs=1e-4)


def test_only_groups_of_branches_may_keep_nothing(case):
    _, module, network = case
    vanishing = {branch.group for branch in network.network.branches}
    other = next(group.name for group in network.network.groups if group.name not in vanishing)
    with pytest.raises(ValueError, match="the plan keeps 0"):
        channels_to_keep(network, scores(network, module, "l1"), Plan(kept={other: 0}))
    with pytest.raises(ValueError, match="at least one"):
        prune(network, module, {other: []})
