"""One run of a module, followed operation by operation.

A dispatch mode sees every ATen operation below autograd, whatever Python code leads to it, so nothing has to be symbolically
traced, and one run of the module is all it takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from host.compress.channels.operations import follow, known
from host.compress.channels.trace import Trace, tensors_in
from host.compress.layers import Executed, pixels

#: The reason of layers that make the network's output.
HEAD = "it produces the network's output"


def trace(module: nn.Module, images: Tensor) -> Trace:
    """Run `module` once on `images` (1, C, H, W) and return what was seen. Errors of the module pass through."""
    found = Trace(module)
    found.fix(images)
    found.saw("input", [], [images], pointwise=False)

    class Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's own is not typed
        def __torch_dispatch__(
            self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
        ) -> Any:
            if not known(func):
                # In inference mode operations arrive as they were written: `linear`, `batch_norm`.
                with self:
                    parts = func.decompose(*args, **(kwargs or {}))
                if parts is not NotImplemented:
                    return parts
            result = func(*args, **(kwargs or {}))
            with torch.no_grad():
                follow(found, func, args, kwargs or {}, result)
            return result

    # With gradients the fast paths of attention, which hide whole layers in one operation, are not taken.
    with _hooked(found), torch.enable_grad(), Mode():  # type: ignore[no-untyped-call]
        outputs = module(images)
    leaves = [leaf for leaf in tensors_in(outputs) if found.labels(leaf) is not None]
    found.followed_outputs = bool(leaves)
    for leaf in leaves:
        labels = found.labels(leaf)
        assert labels is not None
        found.atoms.pin(labels, HEAD)
        found.flow.outputs.append(found.flow.number(leaf, labels))
    return found


@contextmanager
def _hooked(found: Trace) -> Iterator[None]:
    """Keep the stack of running modules, and what convolutions and linear layers did."""

    def entered(name: str) -> Any:
        def hook(_layer: nn.Module, _inputs: Any) -> None:
            found.stack.append(name)

        return hook

    def left(name: str) -> Any:
        def hook(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            found.stack.pop()
            found.leave(name, inputs, output)
            if isinstance(layer, (nn.Conv2d, nn.Linear)) and inputs:
                seen = found.executed.get(name, Executed(input_pixels=0, output_pixels=0, calls=0))
                found.executed[name] = Executed(
                    input_pixels=seen.input_pixels + pixels(layer, inputs[0]),
                    output_pixels=seen.output_pixels + pixels(layer, output),
                    calls=seen.calls + 1,
                )

        return hook

    handles = []
    for name, layer in found.module.named_modules():
        handles.append(layer.register_forward_pre_hook(entered(name), prepend=True))
        handles.append(layer.register_forward_hook(left(name)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
