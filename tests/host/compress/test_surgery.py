import random
import subprocess
import sys

import pytest
import torch
from small_nets import ConcatFlatten, GroupedNet, TinyMobile, randomised

from host.compress.cuts import Side, mask_consumers, restore_weights
from host.compress.groups import analyse
from host.compress.importance import scores
from host.compress.surgery import channels_to_keep, load_compressed, prune, save_compressed
from host.search.network import Plan
from host.zoo.checkpoint import Checkpoint, CheckpointError, save_checkpoint
from host.zoo.cifar_resnet import CifarResNet
from host.zoo.mobilenet_v2 import MobileNetV2

FACTORIES = {
    "tiny": (TinyMobile, (3, 8, 8)),
    "concat": (ConcatFlatten, (3, 8, 8)),
    "grouped": (GroupedNet, (3, 8, 8)),
    "resnet20": (lambda: CifarResNet(depth=20, width=0.5), (3, 16, 16)),
    "mobilenet_v2": (lambda: MobileNetV2(width=0.25, input_size=16, num_classes=10, dropout=0.0), (3, 16, 16)),
}


def random_plan(network, seed):
    generator = random.Random(seed)
    return Plan(
        kept={
            group.name: group.multiple * generator.randint(1, group.channels // group.multiple)
            for group in network.network.groups
        }
    )


@pytest.fixture(scope="module", params=FACTORIES)
def case(request):
    factory, shape = FACTORIES[request.param]
    module = randomised(factory())
    return factory, module, shape, analyse(module, torch.zeros(1, *shape))


@pytest.mark.parametrize("seed", [0, 1])
def test_a_pruned_module_equals_the_masked_original(case, seed):
    _, module, shape, network = case
    plan = random_plan(network, seed)
    kept = channels_to_keep(network, scores(network, module, "random", seed=seed), plan)
    pruned = prune(network, module, kept)
    images = torch.randn(3, *shape, generator=torch.Generator().manual_seed(seed))
    removed = {group.name: set(range(group.channels)) - set(kept[group.name]) for group in network.network.groups}
    former = mask_consumers(module, network.cuts, removed)
    with torch.no_grad():
        masked, cut = module(images), pruned(images)
    restore_weights(module, former)
    torch.testing.assert_close(cut, masked, rtol=1e-4, atol=1e-4 * float(masked.abs().max()))
    assert {name: len(indices) for name, indices in kept.items()} == plan.kept
    for layer in network.network.layers:
        weight = pruned.get_submodule(layer.name).weight
        width_in, width_out = layer.widths(plan.kept)
        assert weight.shape[0] == width_out
        groups = pruned.get_submodule(layer.name).groups if weight.ndim == 4 else 1
        assert weight.shape[1] * groups == width_in


def test_the_full_plan_changes_nothing(case):
    _, module, shape, network = case
    kept = channels_to_keep(network, scores(network, module, "l1"), network.network.full_plan())
    images = torch.randn(2, *shape)
    with torch.no_grad():
        assert torch.equal(prune(network, module, kept)(images), module(images))


def test_a_compressed_file_rebuilds_the_module(case, tmp_path):
    factory, module, shape, network = case
    kept = channels_to_keep(network, scores(network, module, "l2"), random_plan(network, 5))
    pruned = prune(network, module, kept)
    path = tmp_path / "small.pt"
    save_compressed(pruned, path, kept=kept, architecture="some", arguments={"width": 1}, metadata={"note": "x"})
    loaded = load_compressed(path, factory)
    images = torch.randn(2, *shape)
    with torch.no_grad():
        assert torch.equal(loaded.module.eval()(images), pruned(images))
    assert {name: list(indices) for name, indices in loaded.kept.items()} == kept
    assert loaded.plan.kept == {name: len(indices) for name, indices in kept.items()}
    assert loaded.metadata["note"] == "x"


def test_loading_needs_no_analysis():
    code = "import sys; import host.compress.surgery; print('host.compress.channels.run' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_an_ordinary_checkpoint_is_no_compressed_model(tmp_path):
    path = tmp_path / "plain.pt"
    save_checkpoint(path, Checkpoint(state=TinyMobile().state_dict()))
    with pytest.raises(CheckpointError, match=r"plain\.pt holds no compressed model"):
        load_compressed(path, TinyMobile)


def test_a_compressed_model_of_another_net_is_refused(tmp_path):
    path = tmp_path / "small.pt"
    save_compressed(TinyMobile(), path, kept={})
    with pytest.raises(CheckpointError, match="does not fit"):
        load_compressed(path, ConcatFlatten)


def test_ties_go_to_the_lower_index_and_blocks_keep_as_many():
    network = analyse(GroupedNet(), torch.zeros(1, 3, 8, 8))
    equal = {group.name: torch.ones(group.channels) for group in network.network.groups}
    kept = channels_to_keep(network, equal, Plan(kept={"stem": 4, "mix": 2}))
    assert kept["stem"] == [0, 1, 4, 5]
    assert kept["mix"] == [0, 1]
    assert kept["grouped"] == list(range(12))
    ranked = {**equal, "mix": torch.tensor([0.0, 5, 1, 4, 2, 3])}
    assert channels_to_keep(network, ranked, Plan(kept={"mix": 3}))["mix"] == [1, 3, 5]


@pytest.mark.parametrize("count", [0, 9, 3])
def test_counts_that_do_not_fit_are_refused(count):
    network = analyse(GroupedNet(), torch.zeros(1, 3, 8, 8))
    equal = {group.name: torch.ones(group.channels) for group in network.network.groups}
    with pytest.raises(ValueError, match=f"stem has 8 channels in multiples of 2, the plan keeps {count}"):
        channels_to_keep(network, equal, Plan(kept={"stem": count}))


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        ({"nobody": [0]}, "no group is named nobody"),
        ({"mix": []}, "at least one"),
        ({"mix": [6]}, "0 - 5"),
        ({"mix": [1, 1]}, "1 different"),
        ({"stem": [0, 1]}, r"2 blocks, got \[2, 0\]"),
    ],
)
def test_indices_that_do_not_fit_are_refused(kept, words):
    module = GroupedNet()
    network = analyse(module, torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match=words):
        prune(network, module, kept)


def test_pruning_another_module_is_noticed():
    network = analyse(TinyMobile(), torch.zeros(1, 3, 8, 8))
    changed = TinyMobile()
    changed.head = torch.nn.Linear(8, 7)
    with pytest.raises(ValueError, match="layer head is 4 wide at its input and 7"):
        prune(network, changed, {"stem": [0, 1, 2, 3]})


def test_grouped_consumers_are_masked_per_group():
    module = randomised(GroupedNet())
    network = analyse(module, torch.zeros(1, 3, 8, 8))
    assert any(cut.module == "grouped" and cut.side is Side.INPUT for cut in network.cuts["stem"])
    former = mask_consumers(module, network.cuts, {"stem": [1, 6]})
    weight = module.grouped.weight
    assert not weight[:6, 1].any()
    assert not weight[6:, 2].any()
    assert weight[:6, 2].all()
    assert weight[6:, 1].all()
    restore_weights(module, former)
    assert module.grouped.weight.all()
