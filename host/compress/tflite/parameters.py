"""The parameters of a network as a converter writes them: of each call of a layer, with the batch norm behind it folded in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from host.compress.tflite.operators import CONV, DEPTHWISE

Values = npt.NDArray[np.float64]
#: Place among all calls, and whether batch norm is folded in.
CallKey = tuple[int, bool]
BatchNorm = nn.modules.batchnorm._BatchNorm

#: Largest difference of a constant of the file from a parameter, as a share of the largest: converters fold in another order.
CLOSE = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCall:
    """One call of a convolution or linear layer. `weight` is as torch has it, (O, I / groups, kh, kw) or (O, I); `bias` (O,)."""

    layer: str
    weight: Values = field(repr=False)
    bias: Values = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """What a module has; `others` by a name: scales and shifts, and bare parameters, without axes of size 1."""

    calls: Mapping[CallKey, LayerCall]
    others: Mapping[str, Values] = field(repr=False)

    def find_call(self, code: int, weight: npt.NDArray[Any], bias: npt.NDArray[Any] | None) -> CallKey | None:
        """Return the first call whose weights, in the layout of operator `code`, and bias these are."""
        for key, call in self.calls.items():
            if close(laid_out(call.weight, code), weight) and (bias is None or close(call.bias, bias.reshape(-1))):
                return key
        return None

    def find_other(self, values: npt.NDArray[Any]) -> str | None:
        """Return the name of what has these values, whatever axes of size 1 there are."""
        return next((name for name, other in self.others.items() if close(other, values.squeeze())), None)


def laid_out(weight: Values, code: int) -> Values:
    """Return a layer's weight as the operator of that code wants it: OHWI, 1HWO for depthwise ones, or OI."""
    if code in (CONV, DEPTHWISE) and weight.ndim == 4:
        return np.transpose(weight, (0, 2, 3, 1) if code == CONV else (1, 2, 3, 0))
    return weight.reshape(weight.shape[0], -1) if weight.shape[2:] in ((), (1, 1)) else weight


def close(expected: Values, found: npt.NDArray[Any]) -> bool:
    """Whether two arrays have the same shape and, but for rounding, the same values."""
    if expected.shape != found.shape:
        return False
    scale = float(np.abs(expected).max(initial=0.0))
    return bool(np.abs(expected - found).max(initial=0.0) <= CLOSE * scale + 1e-30)


@torch.no_grad()
def parameters_of(module: nn.Module, example: Tensor) -> Parameters:
    """Run `module` on `example` (N, C, H, W) and return its parameters. It is not changed, and runs in evaluation mode."""
    calls: list[tuple[str, nn.Module]] = []
    producers: dict[int, int] = {}
    folded: dict[int, BatchNorm] = {}
    alive: list[Tensor] = []

    def record(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            alive.extend((inputs[0], output))  # so that no tensor's id is another's later
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                producers[id(output)] = len(calls)
                calls.append((name, layer))
            elif isinstance(layer, BatchNorm) and id(inputs[0]) in producers:
                folded.setdefault(producers[id(inputs[0])], layer)

        return hook

    kinds = (nn.Conv2d, nn.Linear, BatchNorm)
    handles = [
        layer.register_forward_hook(record(name)) for name, layer in module.named_modules() if isinstance(layer, kinds)
    ]
    training = module.training
    try:
        module.eval()(example)
    finally:
        module.train(training)
        for handle in handles:
            handle.remove()
    found: dict[CallKey, LayerCall] = {}
    for place, (name, layer) in enumerate(calls):
        weight, bias = _values(layer.weight), _values(layer.bias)
        assert weight is not None
        bias = np.zeros(len(weight)) if bias is None else bias
        if place in folded:
            scale, shift = scale_and_shift(folded[place])
            wide = scale.reshape(-1, *[1] * (weight.ndim - 1))
            found[place, True] = LayerCall(layer=name, weight=weight * wide, bias=bias * scale + shift)
        found[place, False] = LayerCall(layer=name, weight=weight, bias=bias)
    return Parameters(calls=found, others=_others(module))


def scale_and_shift(norm: BatchNorm) -> tuple[Values, Values]:
    """Return what batch norm multiplies by and adds, per channel, in evaluation mode."""
    mean, variance = _values(norm.running_mean), _values(norm.running_var)
    if mean is None or variance is None:
        raise ValueError("a batch norm without running statistics cannot be folded")
    gamma, beta = _values(norm.weight), _values(norm.bias)
    scale = (1.0 if gamma is None else gamma) / np.sqrt(variance + norm.eps)
    return scale, (0.0 if beta is None else beta) - mean * scale


def _others(module: nn.Module) -> dict[str, Values]:
    found: dict[str, Values] = {}
    for name, owner in module.named_modules():
        if isinstance(owner, BatchNorm) and owner.running_var is not None:
            found[f"{name}.scale"], found[f"{name}.shift"] = scale_and_shift(owner)
        for own, value in [*owner.named_parameters(recurse=False), *owner.named_buffers(recurse=False)]:
            if value.numel() > 1 and value.is_floating_point():
                values = _values(value)
                assert values is not None
                found[f"{name}.{own}"] = values.squeeze()
    return found


def _values(tensor: Any) -> Values | None:
    return None if tensor is None else tensor.detach().cpu().double().numpy()
