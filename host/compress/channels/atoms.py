"""Atoms: single channels, united where they can only go together, pinned where they cannot go at all.

Labels say which atoms a tensor holds: an int64 tensor of as many dimensions, each either of full size or 1 (all places along
it hold the same), with FIXED for what never goes (the image, a constant).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Ints = npt.NDArray[np.int64]
#: The label of values that belong to no atom.
FIXED = -1


def collapsed(labels: Tensor) -> Tensor:
    """Shrink to size 1 each dimension along which all labels are equal."""
    for dim, size in enumerate(labels.shape):
        if size > 1:
            first = labels.narrow(dim, 0, 1)
            if labels.stride(dim) == 0 or bool((labels == first).all()):
                labels = first
    return labels


def varying(labels: Tensor) -> tuple[int, ...]:
    """The dimensions along which collapsed labels differ."""
    return tuple(dim for dim, size in enumerate(labels.shape) if size > 1)


class Atoms:
    """Which atoms are united, with the reasons of pins and remarks on what atoms go through.

    `blocks` holds (labels, count): of the channels at these places, each of `count` consecutive blocks must lose as many.
    """

    def __init__(self) -> None:
        #: By atom the smallest one that it is united with.
        self._roots = np.zeros(0, dtype=np.int64)
        self._pins: list[tuple[Ints, str]] = []
        self._notes: list[tuple[Ints, str]] = []
        self.blocks: list[tuple[Tensor, int]] = []

    def new(self, count: int) -> Tensor:
        """Return labels (count,) of atoms that are united with nothing yet."""
        start = len(self._roots)
        own = np.arange(start, start + count)
        self._roots = np.concatenate([self._roots, own])
        return torch.from_numpy(own)

    def representatives(self, labels: Tensor) -> Tensor:
        """Return labels in which united atoms are equal."""
        values = labels.numpy()
        if not len(self._roots):
            return labels
        return torch.from_numpy(np.where(values >= 0, self._roots[values], FIXED))

    def canonical(self, labels: Tensor) -> Tensor:
        """Return collapsed labels in which united atoms are equal."""
        return collapsed(self.representatives(labels))

    def unite(self, left: Tensor, right: Tensor, reason: str) -> Tensor:
        """Unite the atoms of two labels of one shape, place by place; an atom that meets FIXED is pinned with `reason`.

        Return labels of the same shape that hold an atom where either does.
        """
        one, two = left.numpy().reshape(-1), right.numpy().reshape(-1)
        both = (one >= 0) & (two >= 0)
        if (met := np.maximum(one, two)[~both]).size:
            self._pins.append((met[met >= 0], reason))
        one, two = one[both], two[both]
        while one.size:
            one, two = self._roots[one], self._roots[two]
            apart = one != two
            one, two = np.maximum(one, two)[apart], np.minimum(one, two)[apart]
            if not one.size:
                break
            # Each root points to the smallest that it meets; then along all pointers to their ends.
            target = np.arange(len(self._roots))
            np.minimum.at(target, one, two)
            while (further := target[target]) is not None and bool((further != target).any()):
                target = further
            self._roots = target[self._roots]
        return torch.where(left >= 0, left, right)

    def unite_along(self, labels: Tensor, dims: Sequence[int]) -> Tensor:
        """Unite all atoms that differ only in their places along `dims`; return the labels, collapsed."""
        for dim in dims:
            first = labels.narrow(dim, 0, 1)
            self.unite(first.expand_as(labels), labels, "it meets channels that stay")
        return self.canonical(labels)

    def pin(self, labels: Tensor, reason: str) -> None:
        """Keep these atoms for good."""
        self._pins.append((_atoms_of(labels), reason))

    def note(self, labels: Tensor, remark: str) -> None:
        """Remember what these atoms go through, for the reason should the proof fail."""
        self._notes.append((_atoms_of(labels), remark))

    def pinned(self) -> dict[int, str]:
        """Return by representative the first reason for which its atoms are pinned."""
        found: dict[int, str] = {}
        for atoms, reason in self._pins:
            for root in np.unique(self._roots[atoms]).tolist():
                found.setdefault(root, reason)
        return found

    def notes(self) -> dict[int, tuple[str, ...]]:
        """Return the remarks by representative."""
        found: dict[int, dict[str, None]] = {}
        for atoms, remark in self._notes:
            for root in np.unique(self._roots[atoms]).tolist():
                found.setdefault(root, {})[remark] = None
        return {root: tuple(remarks) for root, remarks in found.items()}


def _atoms_of(labels: Tensor) -> Ints:
    values = labels.numpy().reshape(-1)
    return values[values >= 0]
