"""The CIFAR ResNets of He et al. (CVPR 2016, arXiv 1512.03385, section 4.2) with the parameter-free shortcut,
option A.

Attribute names are those of the widely used CIFAR-10 weights (`conv1`, `layer1.0.bn2`, `linear`, ...), so
that these load.
"""

import torch.nn.functional as F
from torch import Tensor, nn

STAGE_CHANNELS = (16, 32, 64)


class ZeroPadShortcut(nn.Module):
    """Every `stride`-th pixel, new channels filled with zeros, half before and half after: no parameters."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (outputs - inputs) // 2
        self.after = outputs - inputs - self.before

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.before, self.after))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, and a sum with the shortcut before the last ReLU."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        same = stride == 1 and inputs == outputs
        self.shortcut: nn.Module = nn.Identity() if same else ZeroPadShortcut(inputs, outputs, stride)
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        out: Tensor = self.relu2(y + self.shortcut(x))
        return out


class CifarResNet(nn.Module):
    """Images (N, in_channels, H, W) to logits (N, num_classes); `depth` is 6 n + 2.

    `width` multiplies the 16, 32, 64 channels of the paper. Any image of at least 4x4 fits, so `input_size`
    is only checked.
    """

    def __init__(
        self,
        *,
        depth: int,
        width: float = 1.0,
        input_size: int = 32,
        in_channels: int = 3,
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"depth must be 6 n + 2 with n at least 1 (8, 14, 20, ...), got {depth}")
        if input_size < 4:
            raise ValueError(f"the net halves the image twice, so input_size must be at least 4, got {input_size}")
        stem, *_ = channels = [max(1, round(base * width)) for base in STAGE_CHANNELS]
        self.conv1 = nn.Conv2d(in_channels, stem, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU()
        repeats = (depth - 2) // 6
        self.layer1 = _stage(stem, channels[0], repeats, stride=1)
        self.layer2 = _stage(channels[0], channels[1], repeats, stride=2)
        self.layer3 = _stage(channels[1], channels[2], repeats, stride=2)
        self.linear = nn.Linear(channels[2], num_classes)
        for layer in self.modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


def _stage(inputs: int, outputs: int, repeats: int, *, stride: int) -> nn.Sequential:
    first = BasicBlock(inputs, outputs, stride)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs, 1) for _ in range(repeats - 1)))
