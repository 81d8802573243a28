"""The networks whose `.tflite` files lie in tests/fixtures/tflite: images (1, 3, 8, 8) to (1, 5) or (1, 10)."""

from collections.abc import Callable

import structured_nets as nets
import torch
from small_nets import ConcatFlatten, GroupedNet, TinyMobile, randomised
from torch import nn

from host.zoo.cifar_resnet import CifarResNet

INPUT_SHAPE = (3, 8, 8)


def of(body: Callable[[], nn.Module], outputs: int, stem: int = 8) -> Callable[[], nn.Module]:
    return lambda: nets.Net(body(), outputs, stem)


NETS: dict[str, Callable[[], nn.Module]] = {
    "mobile": TinyMobile,
    "flatten": ConcatFlatten,
    "grouped": GroupedNet,
    "dense": of(nets.Dense, 20),
    "fire": of(nets.Fire, 16),
    "chunked": of(nets.Chunked, 9),
    "shuffle_v1": of(nets.ShuffleV1, 16, 16),
    "shuffle_v2": of(lambda: nets.ShuffleV2(2), 16, 16),
    "excite": of(nets.SqueezeExcite, 9),
    "layer_scale": of(nets.LayerScale, 8),
    "shared": of(nets.Shared, 8),
    "padded": of(nets.Padded, 17),
    "unet": of(nets.UNet, 9),
    "selective": of(nets.SelectiveKernel, 9),
    "gated": of(nets.Gated, 9),
    "attention": lambda: nets.TinyViT(nets.Attention()),
    "resnet8": lambda: CifarResNet(depth=8, width=0.5),
}


def net(name: str) -> nn.Module:
    """The network, with the weights that its file has."""
    torch.manual_seed(0)
    return randomised(NETS[name]())
