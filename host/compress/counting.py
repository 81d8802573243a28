"""MACs and parameters: shown beside what the device measured, never in its place."""

import torch
from torch import Tensor, nn

from host.compress.evaluation import device_of


def count_parameters(module: nn.Module) -> int:
    """Elements of all parameters, each shared one once; batch-norm statistics are buffers and not counted."""
    return sum(parameter.numel() for parameter in module.parameters())


@torch.no_grad()
def count_macs(module: nn.Module, input_shape: tuple[int, ...]) -> int:
    """Multiply-accumulates of one image (C, H, W) through all convolutions and linear layers; 1 MAC = 2
    FLOPs.

    A convolution counts output elements x (input channels / groups) x kernel elements, a linear layer output
    elements x input features, each as often as it is called. Biases, batch norm (folded on export),
    activations, pooling and sums are left out, and so is any multiplication that is not one of these modules
    (attention, for one).
    """
    total = 0

    def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        if isinstance(layer, nn.Linear):
            total += output.numel() * layer.in_features
        elif isinstance(layer, nn.modules.conv._ConvTransposeNd):
            # Each input element meets the whole kernel of each output channel of its group.
            total += inputs[0].numel() * layer.weight[0].numel()
        elif isinstance(layer, nn.modules.conv._ConvNd):
            total += output.numel() * layer.weight[0].numel()

    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    hooks = [layer.register_forward_hook(count) for layer in module.modules() if isinstance(layer, kinds)]
    was_training = module.training
    module.eval()
    try:
        module(torch.zeros(1, *input_shape, device=device_of(module)))
    finally:
        module.train(was_training)
        for hook in hooks:
            hook.remove()
    return total
