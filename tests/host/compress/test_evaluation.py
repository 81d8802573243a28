import numpy as np
import pytest
import torch
from torch import nn

from host.compress.evaluation import evaluate, recalibrate_batch_norm


class Fixed(nn.Module):
    """Scores are the pixels themselves."""

    def forward(self, x):
        return x.flatten(1)


def test_evaluate_counts_and_leaves_the_mode():
    images = np.array([[2, 0], [0, 2], [2, 0], [0, 2], [0, 0.5]], np.float32).reshape(5, 2, 1, 1)
    labels = np.array([0, 1, 1, 1, 1], np.int64)
    module = Fixed().train()
    result = evaluate(module, images, labels, batch_size=2)
    assert (result.correct, result.count, result.accuracy) == (4, 5, 0.8)
    right, wrong, near = np.log1p(np.exp(-2)), np.log1p(np.exp(2)), np.log1p(np.exp(-0.5))
    assert result.loss == pytest.approx((3 * right + wrong + near) / 5, rel=1e-6)
    assert module.training


def test_evaluate_refuses_nothing_and_mismatches():
    with pytest.raises(ValueError, match="0 images and 0 labels"):
        evaluate(Fixed(), torch.zeros(0, 2, 1, 1), torch.zeros(0, dtype=torch.int64))
    with pytest.raises(ValueError, match="2 images and 1 labels"):
        evaluate(Fixed(), torch.zeros(2, 2, 1, 1), torch.zeros(1, dtype=torch.int64))


def test_recalibration_averages_the_batches_and_nothing_else_changes():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))
    module.train()
    module[3].eval()
    norm = module[1]
    norm.running_mean.fill_(9)
    weights = {key: value.clone() for key, value in module.state_dict().items() if "running" not in key}
    images = torch.randn(20, 3, 2, 2) * 3 + 1

    used = recalibrate_batch_norm(module, images.numpy(), 2, batch_size=8)

    assert used == 2
    batches = images[:8], images[8:16]
    mean = torch.stack([batch.mean((0, 2, 3)) for batch in batches]).mean(0)
    variance = torch.stack([batch.var((0, 2, 3)) for batch in batches]).mean(0)
    torch.testing.assert_close(norm.running_mean, mean)
    torch.testing.assert_close(norm.running_var, variance)
    assert norm.momentum == 0.1
    assert [layer.training for layer in module] == [True, True, True, False]
    for key, value in weights.items():
        if "num_batches" not in key:
            assert torch.equal(module.state_dict()[key], value)


def test_recalibration_uses_what_there_is():
    module = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten())
    assert recalibrate_batch_norm(module, torch.randn(9, 1, 2, 2), 5, batch_size=8) == 1
    assert recalibrate_batch_norm(nn.Sequential(nn.Flatten()), torch.randn(9, 1, 2, 2), 5) == 0
    with pytest.raises(ValueError, match="at least two images"):
        recalibrate_batch_norm(module, torch.randn(1, 1, 2, 2), 5)
    with pytest.raises(ValueError, match="batches must be at least 1"):
        recalibrate_batch_norm(module, torch.randn(9, 1, 2, 2), 0)
