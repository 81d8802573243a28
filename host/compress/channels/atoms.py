"""Atoms: single channels, united where they can only go together, pinned where they cannot go at all.

Labels say which atoms a tensor holds: an int64 tensor of as many dimensions, each either of full size or 1 (all places along
it hold the same), with FIXED for what never goes (the image, a constant).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

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
    """Union and find, with the reasons of pins and remarks on what atoms go through.

    `blocks` holds (labels, count): of the channels at these places, each of `count` consecutive blocks must lose as many.
    """

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._pins: list[tuple[int, str]] = []
        self._notes: list[tuple[int, str]] = []
        self.blocks: list[tuple[Tensor, int]] = []

    def new(self, count: int) -> Tensor:
        """Return labels (count,) of atoms that are united with nothing yet."""
        start = len(self._parents)
        self._parents.extend(range(start, start + count))
        return torch.arange(start, start + count)

    def find(self, atom: int) -> int:
        """Return the atom that stands for all that `atom` is united with."""
        parents = self._parents
        while parents[atom] != atom:
            parents[atom] = parents[parents[atom]]
            atom = parents[atom]
        return atom

    def canonical(self, labels: Tensor) -> Tensor:
        """Return collapsed labels in which united atoms are equal."""
        distinct, places = np.unique(labels.numpy(), return_inverse=True)
        roots = np.array([atom if atom < 0 else self.find(atom) for atom in distinct.tolist()], dtype=np.int64)
        return collapsed(torch.from_numpy(roots[places.reshape(-1)].reshape(labels.shape)))

    def unite(self, left: Tensor, right: Tensor, reason: str) -> Tensor:
        """Unite the atoms of two labels of one shape, place by place; an atom that meets FIXED is pinned with `reason`.

        Return labels of the same shape that hold an atom where either does.
        """
        pairs = np.unique(np.stack([left.numpy().reshape(-1), right.numpy().reshape(-1)]), axis=1)
        for one, two in pairs.T.tolist():
            if one >= 0 and two >= 0:
                one, two = self.find(one), self.find(two)
                self._parents[max(one, two)] = min(one, two)
            elif one >= 0 or two >= 0:
                self._pins.append((max(one, two), reason))
        return torch.where(left >= 0, left, right)

    def unite_along(self, labels: Tensor, dims: Sequence[int]) -> Tensor:
        """Unite all atoms that differ only in their places along `dims`; return the labels, collapsed."""
        for dim in dims:
            first = labels.narrow(dim, 0, 1)
            self.unite(first.expand_as(labels), labels, "it meets channels that stay")
        return self.canonical(labels)

    def pin(self, labels: Tensor, reason: str) -> None:
        """Keep these atoms for good."""
        self._pins.extend((atom, reason) for atom in np.unique(labels.numpy()).tolist() if atom >= 0)

    def note(self, labels: Tensor, remark: str) -> None:
        """Remember what these atoms go through, for the reason should the proof fail."""
        self._notes.extend((atom, remark) for atom in np.unique(labels.numpy()).tolist() if atom >= 0)

    def pinned(self) -> dict[int, str]:
        """Return by representative the first reason for which its atoms are pinned."""
        found: dict[int, str] = {}
        for atom, reason in self._pins:
            found.setdefault(self.find(atom), reason)
        return found

    def notes(self) -> dict[int, tuple[str, ...]]:
        """Return the remarks by representative."""
        found: dict[int, dict[str, None]] = {}
        for atom, remark in self._notes:
            found.setdefault(self.find(atom), {})[remark] = None
        return {atom: tuple(remarks) for atom, remarks in found.items()}
