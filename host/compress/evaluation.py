"""Accuracy and loss over a split, and batch norm fitted to a net whose weights were changed."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from host.datasets.dataset import Images, Labels

EVALUATION_BATCH = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """`accuracy` is correct / count (top-1, in 0 - 1); `loss` the mean cross entropy in nats."""

    accuracy: float
    loss: float
    correct: int
    count: int


def device_of(module: nn.Module) -> torch.device:
    """Where the module's parameters are; the CPU for a module without any."""
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


@torch.no_grad()
def evaluate(
    module: nn.Module, images: Images | Tensor, labels: Labels | Tensor, *, batch_size: int = EVALUATION_BATCH
) -> Evaluation:
    """Run `module` in evaluation mode over images (N, C, H, W) and labels (N,); its mode is put back
    afterwards.
    """
    pixels, targets = torch.as_tensor(images), torch.as_tensor(labels)
    if not len(pixels) or len(pixels) != len(targets):
        raise ValueError(f"{len(pixels)} images and {len(targets)} labels cannot be evaluated")
    device, was_training = device_of(module), module.training
    module.eval()
    correct, loss = 0, 0.0
    try:
        for batch, target in zip(torch.split(pixels, batch_size), torch.split(targets, batch_size), strict=True):
            logits, target = module(batch.to(device)), target.to(device)
            loss += float(F.cross_entropy(logits, target, reduction="sum"))
            correct += int((logits.argmax(1) == target).sum())
    finally:
        module.train(was_training)
    return Evaluation(accuracy=correct / len(targets), loss=loss / len(targets), correct=correct, count=len(targets))


@torch.no_grad()
def recalibrate_batch_norm(
    module: nn.Module, images: Images | Tensor, batches: int, *, batch_size: int = EVALUATION_BATCH
) -> int:
    """Replace the running statistics by the plain average over the first `batches` batches of images (N, C,
    H, W).

    Everything but batch norm stays in evaluation mode, so dropout is off. Returns the number of batches used:
    fewer than asked for where the images run out.
    """
    if batches < 1:
        raise ValueError(f"batches must be at least 1, got {batches}")
    norms = [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    norms = [layer for layer in norms if layer.track_running_stats]
    if not norms:
        return 0
    modes = {layer: layer.training for layer in module.modules()}
    momenta = [layer.momentum for layer in norms]
    device = device_of(module)
    chunks = [chunk for chunk in torch.split(torch.as_tensor(images), batch_size)[:batches] if len(chunk) > 1]
    if not chunks:
        raise ValueError("batch norm needs at least two images to be recalibrated")
    try:
        module.eval()
        for layer in norms:
            layer.reset_running_stats()
            layer.momentum = None  # torch: a cumulative average
            layer.train()
        for chunk in chunks:
            module(chunk.to(device))
    finally:
        for layer, momentum in zip(norms, momenta, strict=True):
            layer.momentum = momentum
        for part, mode in modes.items():
            part.training = mode
    return len(chunks)
