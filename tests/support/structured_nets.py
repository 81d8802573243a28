"""Networks whose channels take every way that is common: (N, 3, 8, 8) to (N, 5)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from host.zoo.cifar_resnet import ZeroPadShortcut


def conv(inputs: int, outputs: int, kernel: int = 3, **options) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False, **options),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    )


class Net(nn.Module):
    """A stem of 8 channels, a body, and a head on the mean of its output."""

    def __init__(self, body: nn.Module, outputs: int, stem: int = 8) -> None:
        super().__init__()
        self.stem = conv(3, stem)
        self.body = body
        self.head = nn.Linear(outputs, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)).mean((2, 3)))


class Dense(nn.Module):
    """DenseNet: every layer reads all before it, norm first."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm2d(8 + 4 * index) for index in range(3))
        self.convs = nn.ModuleList(nn.Conv2d(8 + 4 * index, 4, 3, padding=1) for index in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for norm, layer in zip(self.norms, self.convs, strict=True):
            x = torch.cat((x, layer(torch.relu(norm(x)))), dim=1)
        return x


class Fire(nn.Module):
    """SqueezeNet."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze, self.left, self.right = conv(8, 4, 1), conv(4, 6, 1), conv(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x)
        return torch.cat([self.left(x), self.right(x)], 1)


class Chunked(nn.Module):
    """Halves of one layer's channels go through different layers, one of them around."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.deep, self.out = conv(8, 12), conv(6, 7), conv(13, 9)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.wide(x).chunk(2, 1)
        return self.out(torch.cat((left, self.deep(right)), 1))


class PartialConv(nn.Module):
    """FasterNet: a quarter of the channels is convolved, sizes taken from the tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.part, self.out = conv(8, 16), conv(4, 4), conv(16, 9)

    def forward(self, x: Tensor) -> Tensor:
        x = self.wide(x)
        count = x.shape[1] // 4
        left, right = torch.split(x, [count, x.shape[1] - count], dim=1)
        return self.out(torch.cat((self.part(left), right), 1))


class FixedSlice(nn.Module):
    """The first six channels by number, which no cut can change."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.out = conv(8, 12), conv(6, 9)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.wide(x)[:, :6])


def shuffled(x: Tensor, blocks: int) -> Tensor:
    count, channels, height, width = x.shape
    x = x.view(count, blocks, channels // blocks, height, width).transpose(1, 2)
    return x.reshape(count, channels, height, width)


class ShuffleV1(nn.Module):
    """Grouped 1x1, shuffle, depthwise, grouped 1x1, sum."""

    def __init__(self) -> None:
        super().__init__()
        self.first = conv(16, 8, 1, groups=2)
        self.depth = conv(8, 8, groups=8)
        self.second = nn.Sequential(nn.Conv2d(8, 16, 1, groups=2), nn.BatchNorm2d(16))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(self.depth(shuffled(self.first(x), 2))))


class ShuffleV2(nn.Module):
    """Half of the channels goes around, then a shuffle; three units."""

    def __init__(self, units: int = 3) -> None:
        super().__init__()
        self.units = nn.ModuleList(
            nn.Sequential(conv(8, 6, 1), conv(6, 6, groups=6), conv(6, 8, 1)) for _ in range(units)
        )

    def forward(self, x: Tensor) -> Tensor:
        for unit in self.units:
            around, through = x.chunk(2, dim=1)
            x = shuffled(torch.cat((around, unit(through)), 1), 2)
        return x


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.wide = conv(8, 12)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(12, 6, 1), nn.ReLU(), nn.Conv2d(6, 12, 1), nn.Hardsigmoid()
        )
        self.out = conv(12, 9)

    def forward(self, x: Tensor) -> Tensor:
        x = self.wide(x)
        return self.out(x * self.gate(x))


class LinearExcite(nn.Module):
    """The gate as linear layers, reshaped by numbers that follow the tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.out = conv(8, 12), conv(12, 9)
        self.down, self.up = nn.Linear(12, 6), nn.Linear(6, 12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.wide(x)
        count, channels = x.shape[:2]
        gate = torch.sigmoid(self.up(torch.relu(self.down(F.adaptive_avg_pool2d(x, 1).view(count, channels)))))
        return self.out(x * gate.view(count, channels, 1, 1).expand_as(x))


class ResNeXt(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(conv(8, 12, 1), conv(12, 12, groups=3), nn.Conv2d(12, 8, 1), nn.BatchNorm2d(8))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.layers(x))


class LayerScale(nn.Module):
    """A bare parameter per channel before a sum, as in ConvNeXt, and an offset per channel and pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.depth = conv(8, 8, 7, groups=8)
        self.up, self.down = conv(8, 20, 1), nn.Conv2d(20, 8, 1)
        self.gamma = nn.Parameter(torch.linspace(0.5, 1.5, 8))
        self.place = nn.Parameter(torch.linspace(-1, 1, 8 * 64).view(1, 8, 8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.place + self.gamma[None, :, None, None] * self.down(self.up(self.depth(x)))


class Shared(nn.Module):
    """One layer called twice, with a norm of its own for each call."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = nn.Conv2d(8, 8, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for norm in self.norms:
            x = torch.relu(norm(self.loop(x)))
        return x


class Tied(nn.Module):
    """Two layers with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.between, self.second = conv(8, 10), conv(10, 8), conv(8, 10)
        self.second[0].weight = self.first[0].weight

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.between(self.first(x)))


class Padded(nn.Module):
    """Twice a shortcut padded with zeros, one of them to one side only."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(conv(8, 6), nn.Conv2d(6, 12, 3, padding=1, stride=2))
        self.second = nn.Sequential(conv(12, 7), nn.Conv2d(7, 17, 3, padding=1))
        self.shortcut1, self.shortcut2 = ZeroPadShortcut(8, 12, 2), ZeroPadShortcut(12, 17, 1)
        self.shortcut2.before, self.shortcut2.after = 0, 5

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x) + self.shortcut1(x))
        return torch.relu(self.second(x) + self.shortcut2(x))


class Lambda(nn.Module):
    """Any function as a module."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class PaddedByCode(nn.Module):
    """The shortcut of widely used CIFAR ResNets: pads by numbers in a function."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(conv(8, 6), nn.Conv2d(6, 12, 3, padding=1, stride=2))
        self.shortcut = Lambda(lambda x: F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 3), "constant", 0))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.layers(x) + self.shortcut(x))


class PaddedAndMore(PaddedByCode):
    """The same, with something else in the function."""

    def __init__(self) -> None:
        super().__init__()
        self.shortcut = Lambda(lambda x: F.pad(F.avg_pool2d(x, 2), (0, 0, 0, 0, 1, 3)))


class Doubled(nn.Module):
    """A shortcut that repeats its channels, half of them as zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(conv(8, 6), nn.Conv2d(6, 16, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.layers(x) + torch.cat((x, x.mul(0)), 1))


class UNet(nn.Module):
    """Down and up again, joined with what was before; pixels become channels and back."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.bottom = conv(8, 12, stride=2), conv(12, 10)
        self.up, self.out = conv(10, 24), conv(6 + 8, 9)

    def forward(self, x: Tensor) -> Tensor:
        y = F.interpolate(F.max_pool2d(self.bottom(self.down(x)), 2), scale_factor=2, mode="bilinear")
        return self.out(torch.cat([F.pixel_shuffle(self.up(y), 2), x], 1))


class SelectiveKernel(nn.Module):
    """Branches stacked, weighed by a softmax over them, and summed up."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.out = conv(8, 12), conv(8, 12, 5), conv(12, 9)
        self.squeeze = nn.Linear(12, 6)
        self.weigh = nn.ModuleList(nn.Linear(6, 12) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        branches = torch.stack([self.left(x), self.right(x)], 1)
        seen = torch.relu(self.squeeze(branches.sum(1).mean((2, 3))))
        weights = torch.stack([each(seen) for each in self.weigh], 1).softmax(1)
        return self.out((branches * weights[..., None, None]).sum(1))


class Gated(nn.Module):
    """Halves that gate each other, every second channel taken, PReLU per channel, channels reversed."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.act, self.out = nn.Conv2d(8, 16, 1), nn.PReLU(8), conv(4, 9)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.wide(x).chunk(2, 1)
        x = self.act(value) * torch.sigmoid(gate)
        return self.out(x[:, ::2].flip(1))


class InPlace(nn.Module):
    """Sums written into their first operand, also through a view."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.out = nn.Conv2d(8, 12, 1), nn.Conv2d(8, 12, 3, padding=1), conv(12, 9)

    def forward(self, x: Tensor) -> Tensor:
        y = self.left(x)
        y.flatten(2).add_(self.right(x).flatten(2))
        return self.out(y.relu_())


class WithImage(nn.Module):
    """Features joined with what never goes."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.out = conv(8, 6), conv(6 + 2, 9)

    def forward(self, x: Tensor) -> Tensor:
        y = self.wide(x)
        grid = torch.linspace(-1, 1, 64).view(1, 1, 8, 8).expand(len(x), 2, 8, 8)
        return self.out(torch.cat([y, grid], 1))


class DepthMultiplier(nn.Module):
    """Two filters per channel: one layer of as many blocks as channels."""

    def __init__(self) -> None:
        super().__init__()
        self.depth, self.out = conv(8, 16, groups=8), conv(16, 9)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.depth(x))


class SlicedWrite(nn.Module):
    """Channels written into a part of a larger tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.out = conv(8, 6), conv(10, 9)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.zeros(len(x), 10, 8, 8)
        y[:, 2:8] = self.wide(x)
        return self.out(y)


class Attention(nn.Module):
    """A transformer block by hand: head sizes follow the tensors in the values, queries and keys stay."""

    def __init__(self, width: int = 12, heads: int = 3, *, fused: bool = False) -> None:
        super().__init__()
        self.heads, self.fused = heads, fused
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.project = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def split(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), x.shape[1], self.heads, -1).transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        query, key, value = (self.split(layer(y)) for layer in (self.query, self.key, self.value))
        if self.fused:
            y = F.scaled_dot_product_attention(query, key, value)
        else:
            y = (query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5).softmax(-1) @ value
        x = x + self.project(y.transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class TinyViT(nn.Module):
    """(N, 3, 8, 8) to (N, 5), with a class token and places."""

    def __init__(self, *blocks: nn.Module, width: int = 12) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 2, stride=2)
        self.token = nn.Parameter(torch.linspace(-1, 1, width).view(1, 1, -1))
        self.places = nn.Parameter(torch.linspace(-1, 1, 17 * width).view(1, 17, -1))
        self.blocks = nn.Sequential(*blocks)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.places
        return self.head(self.norm(self.blocks(x))[:, 0])


class Mha(nn.Module):
    """torch's own attention, and a mixer of tokens."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 3, batch_first=True)
        self.mix = nn.Sequential(nn.Linear(17, 10), nn.GELU(), nn.Linear(10, 17))
        self.up, self.down = nn.Linear(width, 20), nn.Linear(20, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        x = x + self.mix(self.norm(x).transpose(1, 2)).transpose(1, 2)
        return x + self.down(F.gelu(self.up(self.norm(x))))


class Unnormalised(nn.Module):
    """Tokens without layer norm: class token, places and residual stream go with the patches' channels."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 12, 2, stride=2)
        self.token = nn.Parameter(torch.linspace(-1, 1, 12).view(1, 1, -1))
        self.places = nn.Parameter(torch.linspace(-1, 1, 17 * 12).view(1, 17, -1))
        self.up, self.down = nn.Linear(12, 20), nn.Linear(20, 12)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.places
        x = x + self.down(F.gelu(self.up(x)))
        return self.head(x[:, 0] + x.mean(1))
