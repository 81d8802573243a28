"""Operations that mix channels with each other: over one dimension, over pixels, over all for a norm."""

from __future__ import annotations

import torch
from torch import Tensor

from host.compress.channels.atoms import FIXED, varying
from host.compress.channels.operation import Operation
from host.compress.channels.trace import tensors_in
from host.compress.cuts import NORMS


def _without(op: Operation, reason: str) -> Tensor:
    """Pin the channels of the operand; return labels of nothing."""
    op.trace.atoms.pin(op.labels, reason)
    return torch.full((1,) * op.value.ndim, FIXED)


def along(op: Operation) -> None:
    """Softmax, sums so far, sorting, picking: along `dim`, all other dimensions apart."""
    labels, ndim = op.labels, op.value.ndim
    given = op.named.get("dims", op.named.get("dim", -1 if op.name in ("topk", "sort", "glu") else 0))
    dims = [each % ndim for each in ([given] if isinstance(given, int) else given)]
    if any(labels.shape[dim] > 1 for dim in dims) or not dims:
        labels = _without(op, f"its channels go through a {op.name.strip('_')} over all of them in {op.trace.where()}")
    if op.name in ("unbind", "select"):
        labels = labels.squeeze(dims[0])
    for each in tensors_in(op.result):
        op.trace.set_labels(each, labels)


def reduce(op: Operation) -> None:
    """Means, sums, maxima."""
    labels, ndim = op.labels, op.value.ndim
    given = op.named.get("dim")
    dims = [given] if isinstance(given, int) else list(given or range(ndim))
    dims = sorted((each % ndim for each in dims), reverse=True)
    if any(labels.shape[dim] > 1 for dim in dims):
        labels = _without(op, f"its channels go through a {op.name} over all of them in {op.trace.where()}")
    for each in tensors_in(op.result):
        left = labels
        for dim in dims if each.ndim < ndim else ():
            left = left.squeeze(dim)
        op.trace.set_labels(each, left)


def spatial(op: Operation) -> None:
    """Pooling, resizing and padding of images (N, C, ...): each channel by itself."""
    labels = op.labels
    if any(dim > 1 for dim in varying(labels)):
        labels = _without(op, f"its channels are treated as pixels in {op.trace.where()}")
    for each in tensors_in(op.result):
        op.trace.set_labels(each, labels)


def normalised(op: Operation) -> None:
    """Layer, group and RMS norm: their statistics change when channels go."""
    labels = op.labels
    over = op.named.get("normalized_shape")
    first = 1 if over is None else op.value.ndim - len(over)
    if any(dim >= first for dim in varying(labels)):
        labels = _without(op, f"{op.trace.where()} normalises over all of its channels")
    for each in tensors_in(op.result)[1:]:
        op.trace.fix(each)
    op.trace.set_labels(tensors_in(op.result)[0], labels)


def batch_norm(op: Operation) -> None:
    """Each channel by itself; the norm's tensors go with the channels."""
    trace, labels, value = op.trace, op.labels, op.value
    if any(dim != 1 for dim in varying(labels)):
        labels = _without(op, f"its channels are treated as pixels in {trace.where()}")
    channels = labels.expand([1, value.shape[1], *([1] * (value.ndim - 2))]).reshape(-1)
    names = ("weight", "bias", "running_mean", "running_var")
    tables = [table for name in names if (table := op.named.get(name)) is not None]
    bound = [trace.bind(table, channels) for table in tables]
    if not all(bound):
        trace.atoms.note(labels, f"meet constants in {trace.where()}")
    owner = trace.module.get_submodule(trace.stack[-1]) if trace.stack else None
    if not tables and isinstance(owner, NORMS) and owner.track_running_stats:
        trace.atoms.note(labels, f"go through {trace.where()}, whose statistics were not found")
    for each in tensors_in(op.result)[1:]:
        trace.fix(each)
    trace.set_labels(tensors_in(op.result)[0], labels)
