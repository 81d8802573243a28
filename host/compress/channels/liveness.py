"""Which activations a runtime keeps, and from which step to which, told from one run of the module.

Batch norm is folded away and a view is no new tensor; a sum, product or activation writes over an operand of its size that is
read no more, as ONNX Runtime's and TensorFlow Lite's planners of memory do. Slices, splits and transpositions, views in torch,
are tensors of their own in a runtime.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from host.compress.channels.flow import Flow
from host.compress.channels.trace import Trace
from host.search.network import Branch, LiveTensor, Part

#: Results that are the operand itself under another shape, or folded into what made it.
_SAME = frozenset(
    {
        *("view", "_unsafe_view", "_reshape_alias", "unsqueeze", "squeeze", "expand", "alias", "detach", "t"),
        *("lift_fresh", "clone", "_to_copy", "native_batch_norm", "cudnn_batch_norm"),
        *("_native_batch_norm_legit", "_native_batch_norm_legit_no_training"),
    }
)
#: All results of these are kept; of others the first: the rest are statistics or indices that a runtime does not ask for.
_SEVERAL = frozenset({"split", "split_with_sizes", "unbind"})


@dataclass(slots=True, kw_only=True)
class _Buffer:
    """Memory for one value after another, all of the same elements."""

    born: int
    last: int
    values: list[int] = field(default_factory=list)


def live_tensors(
    trace: Trace, groups: Mapping[str, tuple[int, ...]], branches: tuple[Branch, ...]
) -> tuple[LiveTensor, ...]:
    """Return what lives when; `groups` holds the atoms of each group's channels, by its name."""
    flow = trace.flow
    last_read = _last_reads(flow)
    by_atom = {atom: name for name, atoms in groups.items() for atom in atoms}
    contents = [_contents(trace, number, by_atom) for number in range(len(flow.values))]
    buffers: dict[int, _Buffer] = {}
    found: list[_Buffer] = []

    def fresh(value: int, step: int) -> None:
        buffers[value] = _Buffer(born=step, last=max(step, last_read.get(value, step)), values=[value])
        found.append(buffers[value])

    def join(value: int, buffer: _Buffer) -> None:
        buffers[value] = buffer
        buffer.last = max(buffer.last, last_read.get(value, buffer.last))
        buffer.values.append(value)

    for step, event in enumerate(flow.events):
        for read in event.reads:
            if read not in buffers:
                fresh(read, 0 if read == 0 else step)
        for made in event.makes if event.name in _SEVERAL else event.makes[:1]:
            if made in buffers:
                continue
            if event.name in _SAME and event.reads:
                join(made, buffers[event.reads[0]])
                continue
            free = [buffers[read] for read in event.reads if _free(buffers[read], step)]
            fitting = [each for each in free if event.pointwise and contents[each.values[0]] == contents[made]]
            if fitting:
                join(made, min(fitting, key=lambda each: each.born))
            else:
                fresh(made, step)
    whole = max(0, len(flow.events) - 1)
    for number in (0, *flow.outputs):  # whoever asks for a run owns its input and output
        if number in buffers:
            buffers[number].last = whole
    ends = {end: branch.group for branch in branches for end in _ends(flow, branch)}
    return tuple(
        LiveTensor(
            parts=contents[each.values[0]][0],
            fixed=contents[each.values[0]][1],
            born=each.born,
            last=each.last,
            gone_with=_common({ends.get(value) for value in each.values}),
        )
        for each in found
    )


def _last_reads(flow: Flow) -> dict[int, int]:
    return {read: step for step, event in enumerate(flow.events) for read in event.reads}


def _free(buffer: _Buffer, step: int) -> bool:
    return buffer.last <= step and 0 not in buffer.values


def _common(names: set[str | None]) -> str | None:
    return next(iter(names)) if len(names) == 1 else None


def _ends(flow: Flow, branch: Branch) -> list[int]:
    """Return the values that a branch adds to its stream, before and after its norm."""
    made = [event.makes[:1] for event in flow.events if event.module in (branch.layers[-1], branch.norm)]
    return [value for values in made for value in values]


def _contents(trace: Trace, number: int, by_atom: Mapping[int, str]) -> tuple[tuple[Part, ...], int]:
    """Return the elements of a value as parts of groups, and how many belong to none."""
    value = trace.flow.values[number]
    labels = trace.atoms.representatives(value.labels).numpy().reshape(-1)
    per_label = value.shape.numel() // max(1, labels.size)
    atoms, counts = np.unique(labels, return_counts=True)
    elements: dict[str, int] = {}
    fixed = 0
    for atom, count in zip(atoms.tolist(), counts.tolist(), strict=True):
        group = by_atom.get(atom)
        if group is None:
            fixed += count * per_label
        else:
            elements[group] = elements.get(group, 0) + count * per_label
    channels: dict[str, int] = {}
    for group in by_atom.values():
        channels[group] = channels.get(group, 0) + 1
    shares = {group: Fraction(total, channels[group]) for group, total in elements.items()}
    parts = (Part(group=group, features=each.numerator, per=each.denominator) for group, each in shares.items())
    return tuple(sorted(parts, key=lambda part: part.group)), fixed
