"""What each operator of a `.tflite` file does to channels, and how its constants change when some go.

Codes, the order of inputs and the options are those of the schema (tensorflow/lite/schema/schema.fbs). Weights and other
constants with channels are tensors like any other here; only constants that hold sizes, places and orders are written anew.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from host.compress.tflite.drops import CannotSlice, Drops, Mask

CONV, DEPTHWISE, FULLY_CONNECTED, BATCH_MATMUL = 3, 4, 9, 126
#: Operators with weights of a layer as their second input and, if there is one, a bias as their third.
WEIGHTED = frozenset({CONV, DEPTHWISE, FULLY_CONNECTED})

Rule = Callable[[Drops, Any], None]


def _elementwise(drops: Drops, operator: Any) -> None:
    """Sizes are aligned at the end; a size of 1 is stretched."""
    for output in drops.graph.outputs(operator):
        shape = drops.shapes[output]
        for tensor in drops.graph.inputs(operator):
            own = drops.shapes[tensor]
            offset = len(shape) - len(own)
            for axis, size in enumerate(own):
                if offset + axis >= 0 and size == shape[offset + axis]:
                    drops.join((tensor, axis), (output, offset + axis))


def _first_alone(drops: Drops, operator: Any) -> None:
    """One tensor in, the same channels out; spatial sizes may change, and other inputs are sizes."""
    source, output = drops.graph.inputs(operator)[0], drops.graph.outputs(operator)[0]
    drops.join((source, len(drops.shapes[source]) - 1), (output, len(drops.shapes[output]) - 1))


def _convolution(drops: Drops, operator: Any) -> None:
    source, weight, *bias = drops.graph.inputs(operator)
    output = drops.graph.outputs(operator)[0]
    inward, depth = drops.shapes[source][3], drops.shapes[weight][3]
    drops.join((weight, 0), (output, 3))
    if inward == depth:
        drops.join((source, 3), (weight, 3))
    elif drops.gone((source, 3)).any():
        groups = inward // depth
        blocks = drops.gone((source, 3)).reshape(groups, depth)
        if len(set(blocks.sum(1).tolist())) > 1:
            raise CannotSlice("a grouped convolution would keep more input channels in one group than in another")
        # Each group may lose other channels of its own: what is left of the weights comes from the pruned module.
        drops.add((weight, 3), blocks[0])
    for tensor in bias:
        drops.join((tensor, 0), (output, 3))


def _depthwise(drops: Drops, operator: Any) -> None:
    source, weight, *bias = drops.graph.inputs(operator)
    output = drops.graph.outputs(operator)[0]
    drops.join((weight, 3), (output, 3))
    if drops.shapes[source][3] == drops.shapes[output][3]:
        drops.join((source, 3), (output, 3))
    elif drops.touched(source):
        raise CannotSlice("a depthwise convolution with several outputs per channel would lose inputs")
    for tensor in bias:
        drops.join((tensor, 0), (output, 3))


def _fully_connected(drops: Drops, operator: Any) -> None:
    source, weight, *bias = drops.graph.inputs(operator)
    output = drops.graph.outputs(operator)[0]
    last, out_last = len(drops.shapes[source]) - 1, len(drops.shapes[output]) - 1
    if drops.shapes[source][last] != drops.shapes[weight][1]:
        raise CannotSlice("a fully connected operator flattens its input")
    drops.join((source, last), (weight, 1))
    drops.join((output, out_last), (weight, 0))
    if last == out_last:
        for axis in range(last):
            drops.join((source, axis), (output, axis))
    for tensor in bias:
        drops.join((tensor, 0), (output, out_last))


def _batch_matmul(drops: Drops, operator: Any) -> None:
    left, right = drops.graph.inputs(operator)
    output = drops.graph.outputs(operator)[0]
    options = operator.builtinOptions
    ends = {tensor: len(drops.shapes[tensor]) for tensor in (left, right, output)}
    rows, inner = (ends[left] - 2, ends[left] - 1)[:: -1 if options.adjX else 1]
    depth, columns = (ends[right] - 2, ends[right] - 1)[:: -1 if options.adjY else 1]
    drops.join((left, inner), (right, depth))
    drops.join((left, rows), (output, ends[output] - 2))
    drops.join((right, columns), (output, ends[output] - 1))
    for back in range(3, ends[output] + 1):
        for tensor in (left, right):
            axis = ends[tensor] - back
            if axis >= 0 and drops.shapes[tensor][axis] == drops.shapes[output][ends[output] - back]:
                drops.join((tensor, axis), (output, ends[output] - back))


def _pad(drops: Drops, operator: Any) -> None:
    source, paddings = drops.graph.inputs(operator)[:2]
    output = drops.graph.outputs(operator)[0]
    for axis, (before, _) in enumerate(_constant(drops, paddings).tolist()):
        drops.join_part((output, axis), before, (source, axis), drops.shapes[source][axis])


def _concatenate(drops: Drops, operator: Any) -> None:
    output = drops.graph.outputs(operator)[0]
    along = operator.builtinOptions.axis % len(drops.shapes[output])
    start = 0
    for tensor in drops.graph.inputs(operator):
        for axis, size in enumerate(drops.shapes[tensor]):
            if axis == along:
                drops.join_part((output, axis), start, (tensor, axis), size)
                start += size
            else:
                drops.join((output, axis), (tensor, axis))


def _split(drops: Drops, operator: Any) -> None:
    first, second = drops.graph.inputs(operator)
    _split_along(drops, operator, second, int(_constant(drops, first).reshape(-1)[0]))


def _split_v(drops: Drops, operator: Any) -> None:
    source, _, axis = drops.graph.inputs(operator)
    _split_along(drops, operator, source, int(_constant(drops, axis).reshape(-1)[0]))


def _split_along(drops: Drops, operator: Any, source: int, along: int) -> None:
    along %= len(drops.shapes[source])
    start = 0
    for output in drops.graph.outputs(operator):
        for axis, size in enumerate(drops.shapes[output]):
            if axis == along:
                drops.join_part((source, axis), start, (output, axis), size)
                start += size
            else:
                drops.join((source, axis), (output, axis))


def _slice(drops: Drops, operator: Any) -> None:
    source, begin, _ = drops.graph.inputs(operator)
    output = drops.graph.outputs(operator)[0]
    for axis, start in enumerate(_constant(drops, begin).tolist()):
        drops.join_part((source, axis), start, (output, axis), drops.shapes[output][axis])


def _strided_slice(drops: Drops, operator: Any) -> None:
    source, output = drops.graph.inputs(operator)[0], drops.graph.outputs(operator)[0]
    for axis, (start, step) in enumerate(_strides(drops, operator)):
        if step == 1:
            drops.join_part((source, axis), start, (output, axis), drops.shapes[output][axis])
        elif drops.gone((source, axis)).any() or drops.gone((output, axis)).any():
            raise CannotSlice("a slice takes every other channel")


def _strides(drops: Drops, operator: Any) -> list[tuple[int, int]]:
    """Return (first place, step) per axis."""
    source, begin, _, steps = drops.graph.inputs(operator)
    options, shape = operator.builtinOptions, drops.shapes[source]
    if options.ellipsisMask or options.newAxisMask or options.shrinkAxisMask:
        raise CannotSlice("a slice changes the number of axes")
    found = []
    for axis, (start, step) in enumerate(
        zip(_constant(drops, begin).tolist(), _constant(drops, steps).tolist(), strict=True)
    ):
        first = 0 if options.beginMask >> axis & 1 else start + shape[axis] * (start < 0)
        found.append((first, step))
    return found


def _transpose(drops: Drops, operator: Any) -> None:
    source, order = drops.graph.inputs(operator)
    output = drops.graph.outputs(operator)[0]
    for axis, origin in enumerate(_constant(drops, order).tolist()):
        drops.join((source, origin), (output, axis))


def _reduce(drops: Drops, operator: Any) -> None:
    source, axes = drops.graph.inputs(operator)
    output = drops.graph.outputs(operator)[0]
    rank = len(drops.shapes[source])
    reduced = {axis % rank for axis in _constant(drops, axes).reshape(-1).tolist()}
    kept_axes = [axis for axis in range(rank) if axis not in reduced]
    for place, axis in enumerate(kept_axes):
        drops.join((source, axis), (output, axis if operator.builtinOptions.keepDims else place))


def _reshape(drops: Drops, operator: Any) -> None:
    drops.reshape(drops.graph.inputs(operator)[0], drops.graph.outputs(operator)[0])


def _constant(drops: Drops, tensor: int) -> Any:
    values = drops.graph.values(tensor)
    if values is None:
        raise CannotSlice(f"{drops.graph.name(tensor)!r}, which says sizes or places, is computed at run time")
    return values


_RESHAPE, _SQUEEZE, _EXPAND_DIMS = 22, 43, 70
_PADS = (34, 60, 100)  # PAD, PADV2, MIRROR_PAD
_RESIZES = (23, 97)  # RESIZE_BILINEAR, RESIZE_NEAREST_NEIGHBOR
_SLICE, _STRIDED_SLICE, _SPLIT_V, _BROADCAST_TO = 65, 45, 102, 130
_ELEMENTWISE = (
    0, 41, 18, 42, 55, 57,  # ADD, SUB, MUL, DIV, MAXIMUM, MINIMUM
    19, 20, 21, 152, 98, 54, 111, 150, 117,  # RELU, RELU_N1_TO_1, RELU6, RELU_0_TO_1, LEAKY_RELU, PRELU, ELU, GELU, HARD_SWISH
    14, 28, 25, 50, 47, 73, 75, 76, 78, 92, 99, 101, 59, 104,  # LOGISTIC, TANH, SOFTMAX, LOG_SOFTMAX, EXP, LOG, SQRT, RSQRT, POW,
    # SQUARE, SQUARED_DIFFERENCE, ABS, NEG, CEIL
    8, 66, 72, 116, 53, 6, 114, 123,  # FLOOR, SIN, NOT_EQUAL, ROUND, CAST, DEQUANTIZE, QUANTIZE, SELECT_V2
)  # fmt: skip

#: What each operator does to channels.
RULES: dict[int, Rule] = {
    CONV: _convolution,
    DEPTHWISE: _depthwise,
    FULLY_CONNECTED: _fully_connected,
    BATCH_MATMUL: _batch_matmul,
    1: _first_alone, 17: _first_alone, 12: _first_alone,  # AVERAGE_POOL_2D, MAX_POOL_2D, L2_POOL_2D
    **dict.fromkeys(_RESIZES, _first_alone),
    **dict.fromkeys(_PADS, _pad),
    2: _concatenate,
    49: _split,
    _SPLIT_V: _split_v,
    _SLICE: _slice,
    _STRIDED_SLICE: _strided_slice,
    39: _transpose,
    40: _reduce, 74: _reduce, 82: _reduce, 89: _reduce,  # MEAN, SUM, REDUCE_MAX, REDUCE_MIN
    **dict.fromkeys((_RESHAPE, _SQUEEZE, _EXPAND_DIMS), _reshape),
    **dict.fromkeys((*_ELEMENTWISE, _BROADCAST_TO), _elementwise),
}  # fmt: skip


def rewrite(drops: Drops, operator: Any) -> None:
    """Write the operator's sizes and places anew for what remains. CannotSlice where a reshape does not work out."""
    graph, code = drops.graph, drops.graph.code(operator)
    inputs, output = graph.inputs(operator), graph.outputs(operator)[0]
    if code in (_RESHAPE, _SQUEEZE, _EXPAND_DIMS):
        drops.check_reshape(inputs[0], output)
    if code == _RESHAPE:
        shape = np.array(drops.kept(output), np.int32)
        if len(inputs) > 1:
            graph.set_values(inputs[1], shape)
        if operator.builtinOptions is not None:
            operator.builtinOptions.newShape = shape
    elif code == _BROADCAST_TO:
        _replace(drops, inputs[1], drops.kept(output))
    elif code in _PADS:
        _pad_anew(drops, inputs[1], output)
    elif code == _SLICE:
        starts = _constant(drops, inputs[1]).tolist()
        _replace(drops, inputs[1], _remaining_before(drops, inputs[0], starts))
        _replace(drops, inputs[2], drops.kept(output))
    elif code == _STRIDED_SLICE:
        _slice_anew(drops, operator, inputs, output)
    elif code == _SPLIT_V:
        axis = int(_constant(drops, inputs[2]).reshape(-1)[0]) % len(drops.shapes[output])
        _replace(drops, inputs[1], [drops.kept(part)[axis] for part in graph.outputs(operator)])
    elif code == DEPTHWISE:
        operator.builtinOptions.depthMultiplier = drops.kept(output)[3] // drops.kept(inputs[0])[3]
    elif code == 49 and len({drops.kept(part) for part in graph.outputs(operator)}) > 1:
        raise CannotSlice("a split into equal parts would get unequal ones")


def _pad_anew(drops: Drops, paddings: int, output: int) -> None:
    rows = []
    for axis, (before, after) in enumerate(_constant(drops, paddings).tolist()):
        gone = drops.gone((output, axis))
        rows.append((before - int(gone[:before].sum()), after - int(gone[len(gone) - after :].sum())))
    _replace(drops, paddings, rows)


def _slice_anew(drops: Drops, operator: Any, inputs: list[int], output: int) -> None:
    begin, end = _constant(drops, inputs[1]).copy(), _constant(drops, inputs[2]).copy()
    starts = [first for first, _ in _strides(drops, operator)]
    moved = _remaining_before(drops, inputs[0], starts)
    for axis, (start, size) in enumerate(zip(moved, drops.kept(output), strict=True)):
        if drops.gone((inputs[0], axis)).any():
            begin[axis], end[axis] = start, start + size
            operator.builtinOptions.endMask &= ~(1 << axis)
    graph = drops.graph
    graph.set_values(inputs[1], begin)
    graph.set_values(inputs[2], end)


def _remaining_before(drops: Drops, tensor: int, starts: list[int]) -> list[int]:
    def left(gone: Mask, start: int) -> int:
        return start - int(gone[:start].sum())

    return [left(drops.gone((tensor, axis)), start) for axis, start in enumerate(starts)]


def _replace(drops: Drops, tensor: int, values: Any) -> None:
    drops.graph.set_values(tensor, np.array(values, _constant(drops, tensor).dtype))
