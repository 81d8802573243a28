"""Small networks for the tests of compression."""

import torch
from torch import Tensor, nn


class Inverted(nn.Module):
    """Expansion, depthwise, projection, residual with an in-place sum."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.expand = nn.Conv2d(channels, hidden, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.act = nn.ReLU6(inplace=True)
        self.project = nn.Conv2d(hidden, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.bn2(self.depthwise(self.act(self.bn1(self.expand(x))))))
        y = self.bn3(self.project(y))
        y += x
        return y


class TinyMobile(nn.Module):
    """(N, 3, 8, 8) to (N, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.block1 = Inverted(8, 24)
        self.block2 = Inverted(8, 16)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        return self.head(self.block2(self.block1(x)).mean((2, 3)))


class ConcatFlatten(nn.Module):
    """(N, 3, 8, 8) to (N, 5): two branches side by side, then a flatten of 4x4 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 6, 3, padding=1)
        self.right = nn.Conv2d(3, 4, 1)
        self.merge = nn.Conv2d(10, 8, 3, padding=1, stride=2)
        self.hidden = nn.Linear(8 * 16, 12)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([torch.relu(self.left(x)), torch.relu(self.right(x))], 1)
        return self.head(torch.relu(self.hidden(torch.relu(self.merge(x)).flatten(1))))


class GroupedNet(nn.Module):
    """(N, 3, 8, 8) to (N, 5): a convolution in two groups."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 12, 3, padding=1, groups=2)
        self.mix = nn.Conv2d(12, 6, 1)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.grouped(torch.relu(self.stem(x))))
        return self.head(torch.relu(self.mix(x)).mean((2, 3)))


class ChannelMean(nn.Module):
    """(N, 3, 8, 8) to (N, 5): a mean over channels, which no layer's cut describes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.inner = nn.Conv2d(8, 6, 3, padding=1)
        self.head = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = self.inner(x * x.mean(1, keepdim=True))
        return self.head(torch.relu(x).mean((2, 3)))


class Untraceable(nn.Module):
    """Runs, but computes outside of torch on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(2 * self.conv(x).detach().numpy()).mean((2, 3))


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give batch norm statistics and scales that are not 0 and 1, so that forgetting one shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.copy_(torch.rand(layer.num_features, generator=generator) - 0.5)
                layer.running_var.copy_(torch.rand(layer.num_features, generator=generator) + 0.5)
                layer.weight.copy_(torch.rand(layer.num_features, generator=generator) + 0.5)
                layer.bias.copy_(torch.rand(layer.num_features, generator=generator) - 0.3)
            elif isinstance(layer, (nn.Conv2d, nn.Linear)):
                fan_in = layer.weight[0].numel()
                layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * (2 / fan_in) ** 0.5)
                if layer.bias is not None:
                    layer.bias.copy_((torch.rand(layer.bias.shape, generator=generator) - 0.5) / fan_in**0.5)
    return module.eval()
