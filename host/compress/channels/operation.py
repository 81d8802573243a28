"""An operation that was seen, and what rules have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from host.compress.channels.atoms import FIXED, varying
from host.compress.channels.trace import Trace, tensors_in


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One ATen operation: `name` without overload, `named` its arguments as given, `result` what it returned."""

    trace: Trace
    func: Any
    name: str
    named: Mapping[str, Any]
    result: Any

    @property
    def value(self) -> Tensor:
        """The first tensor among the arguments."""
        return next(each for each in self.named.values() if isinstance(each, Tensor))

    @property
    def labels(self) -> Tensor:
        """Labels of `value`, which was followed."""
        labels = self.trace.labels(self.value)
        assert labels is not None
        return labels

    @property
    def inputs(self) -> list[Tensor]:
        """All tensors among the arguments that come from the network's input."""
        return [each for each in tensors_in(list(self.named.values())) if self.trace.labels(each) is not None]

    def dim(self, default: int = 0) -> int:
        """The argument `dim`, counted from the first dimension of the result."""
        ndim: int = tensors_in(self.result)[0].ndim
        return int(self.named.get("dim", default)) % ndim


def unknown(op: Operation) -> None:
    """Nothing is known of what it does: all channels that reach it stay."""
    for value in op.inputs:
        pin(op.trace, value, f"its channels go through aten.{op.name} in {op.trace.where()}, which is not followed")
    for value in tensors_in(op.result):
        op.trace.fix(value)


def pin(trace: Trace, value: Tensor, reason: str) -> None:
    """Keep all channels that a tensor holds."""
    labels = trace.labels(value)
    if labels is not None:
        trace.atoms.pin(labels, reason)


def settle(trace: Trace, value: Tensor, labels: Tensor) -> None:
    """Label `value`. Channels along several dimensions form a grid, of which only whole slices along the last can go: the
    atoms of such a slice are united.
    """
    labels = trace.atoms.canonical(labels)
    if len(dims := varying(labels)) > 1:
        trace.atoms.note(labels, f"are reshaped in {trace.where()}")
        labels = trace.atoms.unite_along(labels, dims[:-1])
    trace.set_labels(value, labels)


def joined(trace: Trace, values: Sequence[Tensor], shape: torch.Size) -> Tensor:
    """Unite the channels of values that meet place by place after broadcasting to `shape`; return the labels there."""
    where, atoms = trace.where(), trace.atoms
    tracked: list[tuple[tuple[int, ...], Tensor]] = []
    for value in values:
        labels = trace.labels(value)
        if labels is not None:
            tracked.append((_aligned(value.shape, len(shape)), labels.reshape(_aligned(labels.shape, len(shape)))))
    nothing = torch.full((1,) * len(shape), FIXED)
    grid = [max(sizes) for sizes in zip(nothing.shape, *(labels.shape for _, labels in tracked), strict=True)]
    found: Tensor | None = None
    for own, labels in tracked:
        spread = [dim for dim, size in enumerate(grid) if size > 1 and own[dim] == 1]
        if spread and bool((labels >= 0).any()):
            for _, each in tracked:
                atoms.pin(each, f"its channels meet other channels one by one in {where}")
            return nothing
        if spread:
            continue
        labels = labels.expand(grid)
        found = (
            labels if found is None else atoms.unite(found, labels, f"its channels meet others that stay in {where}")
        )
    found = nothing if found is None else found
    for value in values:
        own = _aligned(value.shape, len(shape))
        if trace.labels(value) is not None or all(own[dim] == 1 for dim in varying(found)) or not varying(found):
            continue
        if any(own[dim] == 1 for dim in varying(found)):
            atoms.pin(found, f"its channels meet a table of constants in {where}")
        elif not trace.bind(value.reshape(own), _on(found, own)):
            atoms.note(found, f"meet constants in {where}")
    return found


def _aligned(shape: Sequence[int], dims: int) -> tuple[int, ...]:
    return (1,) * (dims - len(shape)) + tuple(shape)


def _on(labels: Tensor, shape: Sequence[int]) -> Tensor:
    return labels.expand([max(size, own) for size, own in zip(shape, labels.shape, strict=True)])
