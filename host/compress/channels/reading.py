"""Operations that read channels with weights, or multiply activations with each other."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from host.compress.channels.atoms import varying
from host.compress.channels.operation import Operation, pin, unknown
from host.compress.channels.trace import Trace, tensors_in
from host.compress.cuts import Side, is_depthwise


def convolution(op: Operation) -> None:
    """The layer's input features are united with what they read; its outputs are its own."""
    trace, value, weight = op.trace, op.named["input"], op.named["weight"]
    labels, name = trace.labels(value), trace.where()
    if labels is None or trace.labels(weight) is not None:
        unknown(op)
        return
    layers = trace.layers_of(weight, weight.shape, weight.stride())
    if op.named["transposed"] or any(dim != 1 for dim in varying(labels)) or name not in layers:
        _foreign(op, value, "convolution", layers)
        return
    inputs, outputs = _sides(trace, name, layers)
    layer = trace.module.get_submodule(name)
    assert isinstance(layer, nn.Conv2d)
    trace.atoms.unite(inputs, labels.reshape(-1).expand(len(inputs)), f"{name} also reads the image or constants")
    if is_depthwise(layer):
        trace.atoms.unite(inputs, outputs, f"{name} works on channels that stay")
    elif layer.groups > 1:
        trace.atoms.blocks += [(inputs, layer.groups), (outputs, layer.groups)]
    trace.set_labels(op.result, outputs.reshape(1, -1, *([1] * (op.result.ndim - 2))))


def product(op: Operation) -> None:
    """Products of two matrices, of which the second may be a layer's weight."""
    operands = [op.named[key] for key in ("self", "mat1", "batch1", "mat2", "batch2") if key in op.named]
    left, right = operands[-2:]
    added = operands[0] if len(operands) == 3 else None
    if added is not None:
        pin(op.trace, added, f"a matrix product is added to its channels in {op.trace.where()}")
    trace, name = op.trace, op.trace.where()
    labels = trace.labels(left)
    if labels is None or trace.labels(right) is not None:
        _activations(op, left, right)
        return
    layers = trace.layers_of(right, (right.shape[-1], right.shape[-2]), right.stride()[::-1])
    if name not in layers or any(dim != left.ndim - 1 for dim in varying(labels)) or right.ndim != 2:
        _foreign(op, left, "matrix product", layers)
        return
    inputs, outputs = _sides(trace, name, layers)
    trace.atoms.unite(inputs, labels.reshape(-1).expand(len(inputs)), f"{name} also reads the image or constants")
    trace.set_labels(op.result, outputs.reshape(1, -1))
    if added is not None:
        trace.bind(added, outputs)


def attention(op: Operation) -> None:
    """Fused attention: queries and keys meet and stay, values pass through."""
    trace, value = op.trace, op.named["value"]
    reason = f"its channels meet in the attention of {trace.where()}"
    for each in (op.named["query"], op.named["key"]):
        pin(trace, each, reason)
    for each in tensors_in(op.result):
        trace.fix(each)
    labels = trace.labels(value)
    if labels is not None and set(varying(labels)) <= {value.ndim - 1}:
        trace.set_labels(tensors_in(op.result)[0], labels)
    else:
        pin(trace, value, reason)


def _activations(op: Operation, left: Tensor, right: Tensor) -> None:
    """A product of activations: what is summed over stays; channels along the free dimension of one of them pass through."""
    trace = op.trace
    reason = f"its channels meet in a matrix product of activations in {trace.where()}"
    passing: list[Tensor] = []
    for value, free in ((left, -2), (right, -1)):
        labels = trace.labels(value)
        if labels is None or not varying(labels):
            continue
        if varying(labels) == (value.ndim + free,):
            passing.append(labels)
        else:
            trace.atoms.pin(labels, reason)
    if len(passing) == 1:
        trace.set_labels(op.result, passing[0])
        return
    for labels in passing:
        trace.atoms.pin(labels, reason)
    trace.fix(op.result)


def _sides(trace: Trace, name: str, layers: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Both sides of a layer, united with those of the layers that share its weights."""
    both = trace.side(name, Side.INPUT), trace.side(name, Side.OUTPUT)
    for other in layers:
        for side, own in zip((Side.INPUT, Side.OUTPUT), both, strict=True):
            trace.atoms.unite(own, trace.side(other, side), "it shares weights")
    return both


def _foreign(op: Operation, value: Tensor, what: str, layers: Sequence[str]) -> None:
    """A product with weights that no layer can be told to change."""
    trace = op.trace
    whose = (
        f"with the weights of {layers[0]}, outside of that layer" if layers else "with weights that no known layer has"
    )
    pin(trace, value, f"its channels go through a {what} in {trace.where()} {whose}")
    for layer in layers:
        for side in (Side.INPUT, Side.OUTPUT):
            trace.atoms.pin(trace.side(layer, side), f"its weights are used outside of it, in {trace.where()}")
    trace.fix(op.result)
