"""Which places of which axes go when a network is cut, followed through the operators of a `.tflite` file.

What goes is only ever added, so the order of the rules does not matter: they are applied until nothing changes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from host.compress.tflite.flatbuffer import Graph, Shape

#: (tensor, axis)
Axis = tuple[int, int]
Mask = npt.NDArray[np.bool_]


class CannotSlice(Exception):
    """A file cannot be cut as asked; the message says where. The module can still be exported anew."""


class Drops:
    """True for every place of an axis that goes. Axes that nothing was said of keep all."""

    def __init__(self, graph: Graph, seeds: Mapping[Axis, Mask]) -> None:
        self.graph = graph
        self.shapes: dict[int, Shape] = {tensor: graph.shape(tensor) for tensor in graph.tensors()}
        self._gone: dict[Axis, Mask] = {}
        self.changed = False
        for axis, mask in seeds.items():
            self.add(axis, mask)

    def gone(self, axis: Axis) -> Mask:
        """Return what goes of an axis."""
        found = self._gone.get(axis)
        return np.zeros(self.shapes[axis[0]][axis[1]], np.bool_) if found is None else found

    def touched(self, tensor: int) -> bool:
        """Whether anything of a tensor goes."""
        return any(self.gone((tensor, axis)).any() for axis in range(len(self.shapes[tensor])))

    def kept(self, tensor: int) -> Shape:
        """Return the sizes that remain."""
        return tuple(int((~self.gone((tensor, axis))).sum()) for axis in range(len(self.shapes[tensor])))

    def add(self, axis: Axis, mask: Mask, start: int = 0) -> None:
        """Let places go, the first of `mask` being place `start` of the axis."""
        if not mask.any():
            return
        gone = self.gone(axis)
        grown = gone.copy()
        grown[start : start + len(mask)] |= mask
        if not np.array_equal(grown, gone):
            self._gone[axis] = grown
            self.changed = True

    def join(self, left: Axis, right: Axis) -> None:
        """Two axes that are the same: what goes of one goes of the other."""
        self.add(left, self.gone(right))
        self.add(right, self.gone(left))

    def join_part(self, whole: Axis, start: int, part: Axis, count: int, part_start: int = 0) -> None:
        """`count` places of one axis from `start` on are those of another from `part_start` on."""
        self.add(part, self.gone(whole)[start : start + count], part_start)
        self.add(whole, self.gone(part)[part_start : part_start + count], start)

    def reshape(self, source: int, target: int) -> None:
        """The same elements in other axes. What goes of an axis goes with all of its elements."""
        for ins, outs in view_blocks(self.shapes[source], self.shapes[target]):
            both = self._elements(source, ins) | self._elements(target, outs)
            for tensor, axes in ((source, ins), (target, outs)):
                sizes = [self.shapes[tensor][axis] for axis in axes]
                block = both.reshape(sizes)
                for place, axis in enumerate(axes):
                    others = tuple(other for other in range(len(axes)) if other != place)
                    self.add((tensor, axis), np.asarray(block.all(axis=others) if others else block))

    def check_reshape(self, source: int, target: int) -> None:
        """Raise CannotSlice unless the same elements go on both sides."""
        for ins, outs in view_blocks(self.shapes[source], self.shapes[target]):
            if not np.array_equal(self._elements(source, ins), self._elements(target, outs)):
                raise CannotSlice(
                    f"a reshape of {self.shapes[source]} to {self.shapes[target]} would lose other channels in each part"
                )

    def _elements(self, tensor: int, axes: list[int]) -> Mask:
        gone = np.zeros([self.shapes[tensor][axis] for axis in axes], np.bool_)
        for place, axis in enumerate(axes):
            sizes = [-1 if other == place else 1 for other in range(len(axes))]
            gone |= self.gone((tensor, axis)).reshape(sizes)
        return gone.reshape(-1)


def view_blocks(before: Shape, after: Shape) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the smallest runs of axes on both sides that hold the same elements. CannotSlice for different sizes."""
    if math.prod(before) != math.prod(after):
        raise CannotSlice(f"{before} cannot be reshaped to {after}")
    left = right = 0
    while left < len(before) or right < len(after):
        ins, outs = [], []
        sizes = [1, 1]
        if left < len(before):
            ins.append(left)
            sizes[0] = before[left]
            left += 1
        while sizes[0] != sizes[1]:
            if sizes[1] < sizes[0]:
                outs.append(right)
                sizes[1] *= after[right]
                right += 1
            else:
                ins.append(left)
                sizes[0] *= before[left]
                left += 1
        if left == len(before):  # sizes of 1 at the end
            outs.extend(range(right, len(after)))
            right = len(after)
        yield ins, outs


def settle(drops: Drops, rules: Mapping[int, Any]) -> None:
    """Apply the rule of every operator, forth and back, until nothing changes. CannotSlice at an operator without a rule."""
    graph = drops.graph
    drops.changed = True
    while drops.changed:
        drops.changed = False
        for operator in (*graph.operators, *reversed(graph.operators)):
            rule = rules.get(graph.code(operator))
            if rule is not None:
                rule(drops, operator)
            elif any(drops.touched(tensor) for tensor in (*graph.inputs(operator), *graph.outputs(operator))):
                raise CannotSlice(
                    f"what operator {graph.code(operator)} at {graph.name(graph.outputs(operator)[0])!r} does to channels "
                    "is not known"
                )
