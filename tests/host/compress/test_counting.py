import pytest
import torch
from torch import nn

from host.compress.counting import count_macs, count_parameters


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        (nn.Conv2d(3, 8, 3, padding=1), (3, 10, 12), 10 * 12 * 8 * 3 * 9),
        (nn.Conv2d(8, 8, 3, stride=2, padding=1, groups=8), (8, 10, 10), 5 * 5 * 8 * 9),
        (nn.Conv2d(8, 4, 1, groups=2), (8, 5, 5), 25 * 4 * 4),
        (nn.ConvTranspose2d(4, 6, 2, stride=2), (4, 5, 5), 25 * 4 * 6 * 4),
        (nn.Conv1d(2, 4, 3), (2, 10), 8 * 4 * 2 * 3),
        (nn.Linear(7, 5), (7,), 35),
        (nn.Linear(7, 5), (3, 7), 105),
        (nn.BatchNorm2d(3), (3, 4, 4), 0),
    ],
)
def test_macs_by_hand(layer, shape, macs):
    assert count_macs(layer, shape) == macs


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.alias = self.layer

    def forward(self, x):
        return self.alias(self.layer(x))


def test_a_shared_layer_counts_once_in_parameters_and_twice_in_macs():
    module = Twice().train()
    assert count_parameters(module) == 20
    assert count_macs(module, (4,)) == 32
    assert module.training
    assert not module.layer._forward_hooks


def test_hooks_go_also_after_a_failure():
    module = nn.Sequential(nn.Linear(4, 2))
    with pytest.raises(RuntimeError):
        count_macs(module, (5,))
    assert not module[0]._forward_hooks
    assert torch.equal(module(torch.zeros(1, 4)), module[0].bias[None])
