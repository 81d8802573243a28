"""Operations in which tensors meet place by place, or are joined side by side."""

from __future__ import annotations

import torch
from torch import Tensor

from host.compress.channels.atoms import FIXED, varying
from host.compress.channels.operation import Operation, joined, pin, settle, unknown
from host.compress.channels.trace import Trace, tensors_in

_CONSTANT = frozenset({"zero_", "fill_", "normal_", "uniform_"})


def pointwise(op: Operation) -> None:
    """Sums, products, activations, conditions."""
    values = tensors_in(list(op.named.values()))
    for each in tensors_in(op.result):
        settle(op.trace, each, joined(op.trace, values, each.shape))


def in_place(op: Operation, *, known: bool) -> None:
    """An operation that writes into its first operand; `known` if it works place by place."""
    target, others = op.value, tensors_in(list(op.named.values())[1:])
    if op.name in _CONSTANT or (op.name == "as_strided_" and op.trace.labels(target) is not None):
        return  # torch restrides results of pooling to a memory format
    if not known and op.name != "copy_":
        unknown(op)
        return
    reason = f"its channels are written into a part of a tensor in {op.trace.where()}"
    old = op.trace.labels(target)
    partial = target._is_view() or target.untyped_storage().nbytes() != target.nbytes
    if op.name == "copy_" and (old is None or not bool((old >= 0).any())):
        # Which part of the larger tensor then holds which channels is not kept.
        if partial:
            for value in others:
                pin(op.trace, value, reason)
            op.trace.fix(target if target._base is None else target._base)
        else:
            settle(op.trace, target, joined(op.trace, others, target.shape))
        return
    labels = joined(op.trace, [target, *others], target.shape)
    if partial and (old is None or bool(((old < 0) & (labels >= 0)).any())):
        op.trace.atoms.pin(labels, reason)
    settle(op.trace, target, labels)


def cat(op: Operation) -> None:
    """Channels side by side, or pixels and tokens of the same channels."""
    trace, dim = op.trace, op.dim()
    values = [value for value in op.named["tensors"] if value.numel()]
    found = [trace.labels(value) for value in values]
    known = [labels for labels in found if labels is not None]
    if not {each for labels in known for each in varying(labels) if each != dim}:
        parts = [
            (torch.full((1,) * value.ndim, FIXED) if labels is None else labels).expand(
                [value.shape[dim] if each == dim else 1 for each in range(value.ndim)]
            )
            for value, labels in zip(values, found, strict=True)
        ]
        trace.set_labels(op.result, torch.cat(parts, dim))
    elif all(labels.shape[dim] == 1 for labels in known):
        shape = torch.Size(1 if each == dim else size for each, size in enumerate(op.result.shape))
        settle(trace, op.result, joined(trace, [_first(trace, value, dim) for value in values], shape))
    else:
        for value in values:
            pin(trace, value, f"its channels are joined along several dimensions in {trace.where()}")
        trace.fix(op.result)


def _first(trace: Trace, value: Tensor, dim: int) -> Tensor:
    """A view of the first place along `dim`, with the labels of the whole."""
    labels = trace.labels(value)
    view = value.narrow(dim, 0, 1)
    if labels is not None:
        trace.set_labels(view, labels)
    return view


def stack(op: Operation) -> None:
    """Tensors of the same channels along a new dimension."""
    values = list(op.named["tensors"])
    settle(op.trace, op.result, joined(op.trace, values, values[0].shape).unsqueeze(op.dim()))
