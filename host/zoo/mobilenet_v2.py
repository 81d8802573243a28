"""MobileNetV2 (Sandler et al., CVPR 2018, arXiv 1801.04381, table 2) in plain PyTorch.

Every activation is a module of its own and the residual sum is a plain `+`, so that graph tracers, ONNX
export and channel pruning see the same graph as the reader. Only layer objects carry sizes; `forward` holds
none.
"""

from torch import Tensor, nn

# (expansion t, output channels c, repeats n, stride s) of table 2.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280
SMALL_IMAGE_LIMIT = 64  # pixels; below, five halvings would leave the last stages with nothing to look at


def round_channels(channels: float, multiple: int = 8) -> int:
    """The nearest multiple, at least one of it, and never more than 10 % below `channels` (the authors'
    rule).
    """
    rounded = max(multiple, int(channels + multiple / 2) // multiple * multiple)
    return rounded + multiple if rounded < 0.9 * channels else rounded


class ConvNormAct(nn.Sequential):
    """Convolution without bias, batch norm, ReLU6; `kernel // 2` padding keeps the size at stride 1."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU6(),
        )


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, 1x1 projection; a residual where stride is 1 and widths agree."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        layers: list[nn.Module] = [] if expansion == 1 else [ConvNormAct(inputs, hidden, kernel=1)]
        layers += [
            ConvNormAct(hidden, hidden, kernel=3, stride=stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """Images (N, in_channels, H, W) to logits (N, num_classes).

    `small_image` gives the stem and the first stage that would halve the image stride 1, so that 32x32 ends
    at 4x4; None means: for images up to 64 pixels. The last convolution keeps 1280 channels for widths under
    1, as in the paper.
    """

    def __init__(
        self,
        *,
        width: float = 1.0,
        input_size: int = 224,
        in_channels: int = 3,
        num_classes: int = 1000,
        small_image: bool | None = None,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        small = input_size <= SMALL_IMAGE_LIMIT if small_image is None else small_image
        channels = round_channels(STEM_CHANNELS * width)
        self.stem = ConvNormAct(in_channels, channels, kernel=3, stride=1 if small else 2)
        blocks: list[nn.Module] = []
        for index, (expansion, base, repeats, first_stride) in enumerate(STAGES):
            outputs = round_channels(base * width)
            stage_stride = 1 if small and index == 1 else first_stride
            for repeat in range(repeats):
                stride = stage_stride if repeat == 0 else 1
                blocks.append(InvertedResidual(channels, outputs, stride=stride, expansion=expansion))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        last = round_channels(HEAD_CHANNELS * max(1.0, width))
        self.head = ConvNormAct(channels, last, kernel=1)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(last, num_classes)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.blocks(self.stem(x)))
        logits: Tensor = self.classifier(self.dropout(x.mean((2, 3))))
        return logits


def initialise(module: nn.Module) -> None:
    """He normal (fan out) for convolutions, ones and zeros for batch norm, normal 0.01 for the classifier."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out")
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0, 0.01)
            nn.init.zeros_(layer.bias)
