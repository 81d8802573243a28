import copy

import pytest
import torch
from small_nets import ConcatFlatten, GroupedNet, TinyMobile, randomised
from torch import nn

from host.compress.evaluation import recalibrate_batch_norm
from host.compress.groups import analyse
from host.compress.importance import scores
from host.compress.reconstruction import Reconstruction, images_for
from host.compress.surgery import channels_to_keep, prune
from host.search.network import Plan
from host.zoo.cifar_resnet import CifarResNet

IMAGES = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(0))
OTHERS = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def cases():
    return [TinyMobile, ConcatFlatten, GroupedNet, lambda: CifarResNet(depth=8, num_classes=5)]


@pytest.mark.parametrize("factory", cases())
def test_outputs_come_nearer_to_the_former_ones(factory):
    module = randomised(factory())
    network = analyse(module, IMAGES[:2])
    before = {key: value.clone() for key, value in module.state_dict().items()}
    half = {g.name: max(g.multiple, g.channels // 2 // g.multiple * g.multiple) for g in network.network.groups}
    kept = channels_to_keep(network, scores(network, module, "l1"), Plan(kept=half))
    plain, fitted = prune(network, module, kept), prune(network, module, kept)
    recalibrate_batch_norm(plain, IMAGES, 1)
    Reconstruction(network, module, IMAGES, positions=16).fit(fitted, kept)
    with torch.no_grad():
        wanted = module(OTHERS)
        errors = [float((each(OTHERS) - wanted).square().mean()) for each in (plain, fitted)]
    assert errors[1] < errors[0]
    assert not fitted.training
    assert all(torch.equal(before[key], value) for key, value in module.state_dict().items())
    for layer in (*module.modules(), *fitted.modules()):
        assert not layer._forward_hooks
        assert not layer._forward_pre_hooks
    assert all(
        layer.momentum == other.momentum
        for layer, other in zip(module.modules(), fitted.modules(), strict=True)
        if isinstance(layer, nn.BatchNorm2d)
    )


def test_channels_that_others_stand_in_for_cost_nothing():
    """A second half of channels that doubles the first: the readers take over its share exactly, up to the ridge."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5)
    ).eval()
    first, second = module[0], module[2]
    with torch.no_grad():
        first.weight[4:] = 2 * first.weight[:4]
        first.bias[4:] = 2 * first.bias[:4]
    network = analyse(module, IMAGES[:2])
    kept = {"0": [0, 1, 2, 3]}
    pruned = prune(network, module, kept)
    Reconstruction(network, module, IMAGES, positions=16).fit(pruned, kept)
    with torch.no_grad():
        exact = second.weight[:, :4] + 2 * second.weight[:, 4:]
        assert (pruned[2].weight - exact).norm() < 0.3 * (second.weight[:, :4] - exact).norm()
        torch.testing.assert_close(pruned(OTHERS), module(OTHERS), atol=0.05, rtol=0)


def test_nothing_cut_changes_nothing():
    module = randomised(ConcatFlatten())
    network = analyse(module, IMAGES[:2])
    kept = {group.name: list(range(group.channels)) for group in network.network.groups}
    same = prune(network, module, kept)
    Reconstruction(network, module, IMAGES).fit(same, kept)
    with torch.no_grad():
        torch.testing.assert_close(same(OTHERS), module(OTHERS), atol=1e-3, rtol=1e-3)


def test_weights_used_twice_are_left_as_they_are():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, padding=1)
            self.shared = nn.Conv2d(8, 8, 3, padding=1)
            self.head = nn.Linear(8, 5)

        def forward(self, x):
            x = torch.relu(self.shared(torch.relu(self.stem(x))))
            return self.head(torch.relu(self.shared(x)).mean((2, 3)))

    module = Twice().eval()
    network = analyse(module, IMAGES[:2])
    reconstruction = Reconstruction(network, module, IMAGES)
    same = copy.deepcopy(module)
    reconstruction.fit(same, {})
    assert torch.equal(same.shared.weight, module.shared.weight)


def test_large_images_are_fewer():
    network = analyse(randomised(TinyMobile()), IMAGES[:2])
    assert images_for(network, 256) == 256
    assert images_for(network, 8) == 8
    large = analyse(
        nn.Sequential(nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 4, 3)).eval(), torch.zeros(1, 3, 256, 256)
    )
    assert 16 <= images_for(large, 256) < 32
