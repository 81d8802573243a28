"""Operations that move channels about: the same operation moves their labels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from host.compress.channels.atoms import FIXED, collapsed, varying
from host.compress.channels.operation import Operation, settle, unknown
from host.compress.channels.trace import tensors_in


def alike(op: Operation) -> None:
    """Results of the same channels in the same places, whatever their values."""
    for each in tensors_in(op.result):
        op.trace.set_labels(each, op.labels)


def move(op: Operation) -> None:
    """Views, transpositions, repetitions."""
    if not bool((op.labels >= 0).any()):
        op.trace.fix(op.result)
        return
    labels = op.labels.expand(op.value.shape)
    moved = op.func(labels.contiguous() if "view" in op.name else labels, *list(op.named.values())[1:])
    settle(op.trace, op.result, collapsed(moved))


def index(op: Operation) -> None:
    """Indexing by tensors, which may take from dimensions without channels only: their numbers don't follow a cut."""
    indices = op.named["indices"]
    if any(op.labels.shape[dim] > 1 for dim, each in enumerate(indices) if each is not None):
        unknown(op)
        return
    moved = op.labels.expand(op.value.shape)[tuple(slice(None) if each is None else each for each in indices)]
    settle(op.trace, op.result, collapsed(moved))


def split(op: Operation) -> None:
    """split, split_with_sizes; also what chunk comes to."""
    labels, dim, start = op.labels, op.dim(), 0
    sizes = [part.shape[dim] for part in op.result]
    _blocks(op, dim, [sum(sizes[:end]) for end in range(1, len(sizes))], "are split")
    for part, size in zip(op.result, sizes, strict=True):
        op.trace.set_labels(part, labels.narrow(dim, start, size) if labels.shape[dim] > 1 else labels)
        start += size


def cut(op: Operation) -> None:
    """A slice with start, end and step."""
    labels, dim, step = op.labels, op.dim(), op.named.get("step", 1)
    total = labels.shape[dim]
    if total == 1:
        op.trace.set_labels(op.result, labels)
        return
    start, end, step = slice(op.named.get("start"), op.named.get("end"), step).indices(total)
    if step == 1:
        _blocks(op, dim, [place for place in (start, end) if 0 < place < total], "are sliced")
    elif total % step == 0 and end > total - step:
        grid = _grid(labels.movedim(dim, -1), labels.ndim - 1, (-1, step))
        op.trace.atoms.unite_along(grid, [labels.ndim])
    else:
        op.trace.atoms.pin(labels, f"every {step}th of its channels is taken in {op.trace.where()}")
    places = [slice(None)] * labels.ndim
    places[dim] = slice(start, end, step)
    op.trace.set_labels(op.result, labels[tuple(places)])


def _blocks(op: Operation, dim: int, ends: Sequence[int], what: str) -> None:
    """Channels cut apart at `ends` must lose as many in each block, for the ends to move along."""
    labels = op.labels
    total = labels.shape[dim]
    size = math.gcd(total, *ends)
    if 1 < total > size:
        op.trace.atoms.note(labels, f"{what} in {op.trace.where()}")
        op.trace.atoms.blocks.append((labels.reshape(-1), total // size))


def pad(op: Operation) -> None:
    """Constants around channels: atoms of their own where the module can be told fewer, else fixed."""
    pads, labels, atoms = list(op.named["pad"]), op.labels, op.trace.atoms
    for dim in varying(labels):
        place = 2 * (labels.ndim - 1 - dim)
        before, after = (*pads[place : place + 2], 0, 0)[:2]
        if before == after == 0:
            continue
        if min(before, after) < 0:
            atoms.pin(labels, f"its channels are cropped in {op.trace.where()}")
            op.trace.fix(op.result)
            return
        zeros = op.trace.pad(before, after)
        if zeros is None:
            atoms.note(labels, f"are padded in {op.trace.where()}")
            zeros = torch.full((before + after,), FIXED)
        shape = [-1 if each == dim else 1 for each in range(labels.ndim)]
        ends = [part.reshape(shape).expand([*labels.shape[:dim], -1, *labels.shape[dim + 1 :]])
                for part in (zeros[:before], zeros[before:])]  # fmt: skip
        labels = torch.cat([ends[0], labels, ends[1]], dim)
    settle(op.trace, op.result, labels)


def shuffle(op: Operation) -> None:
    """pixel_shuffle, pixel_unshuffle, channel_shuffle: channels in a grid with what becomes pixels or blocks."""
    labels, atoms, dim = op.labels, op.trace.atoms, op.value.ndim - 3
    if not varying(labels):
        op.trace.set_labels(op.result, labels)
    elif varying(labels) != (dim,):
        unknown(op)
    elif op.name == "pixel_unshuffle":
        op.trace.set_labels(op.result, labels.repeat_interleave(op.named["downscale_factor"] ** 2, dim))
    elif op.name == "pixel_shuffle":
        grid = _grid(labels, dim, (-1, op.named["upscale_factor"] ** 2))
        op.trace.set_labels(op.result, atoms.unite_along(grid, [dim + 1]).squeeze(dim + 1))
    else:
        grid = _grid(labels, dim, (op.named["groups"], -1))
        united = atoms.unite_along(grid, [dim]).expand(grid.shape)
        op.trace.set_labels(op.result, united.transpose(dim, dim + 1).flatten(dim, dim + 1))


def _grid(labels: Tensor, dim: int, sizes: tuple[int, int]) -> Tensor:
    return labels.reshape(*labels.shape[:dim], *sizes, *labels.shape[dim + 1 :])
