"""What each ATen operation does to labels: it moves, joins, mixes, or reads channels.

An operation that is not known here pins the channels that reach it, by name. Rules are exact for code whose numbers follow
the tensors' shapes (`x.chunk(2, 1)`, `view(n, 2, c // 2, h, w)`); code with the old numbers in it is found out by the proof.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from host.compress.atoms import FIXED, collapsed, varying
from host.compress.cuts import NORMS, Side, is_depthwise
from host.compress.trace import Trace, tensors_in

Arguments = Mapping[str, Any]
Rule = Callable[[Trace, Any, Arguments, Any], None]

#: Elementwise operations that ATen does not tag as such.
_POINTWISE = frozenset(
    {"hardswish", "hardswish_", "_prelu_kernel", "clone", "masked_fill", "masked_fill_", "native_dropout"}
)
#: Results of the same channels as their argument, whatever their values.
_ALIKE = frozenset(
    {"detach", "alias", "lift_fresh", "_to_copy", "zeros_like", "ones_like", "full_like", "rand_like", "randn_like", "empty_like"}
)  # fmt: skip
#: Operations that move values about; the same operation moves the labels.
_MOVES = frozenset(
    {"view", "_unsafe_view", "_reshape_alias", "permute", "transpose", "t", "expand", "unsqueeze", "squeeze", "flip", "repeat"}
)  # fmt: skip
#: Dimensions that pooling, resizing and padding of images work on, counted from the last, and what is kept of each channel.
_SPATIAL = (
    "pool1d",
    "pool2d",
    "pool3d",
    "upsample_",
    "_upsample_",
    "reflection_pad",
    "replication_pad",
    "grid_sampler_2d",
)
#: Operations that work on one dimension, `dim`, and keep the shape, or that of all other dimensions.
_ALONG = frozenset(
    {"_softmax", "_log_softmax", "cumsum", "cumprod", "sort", "topk", "roll", "index_select", "gather", "glu", "unbind", "select"}
)  # fmt: skip
_NORMALISED = {
    "native_layer_norm": "normalized_shape",
    "_fused_rms_norm": "normalized_shape",
    "native_group_norm": None,
}
_NEW = frozenset({"new_zeros", "new_ones", "new_full", "new_empty", "new_empty_strided", "sym_size", "is_same_size"})


def follow(
    trace: Trace, func: Any, args: Sequence[Any], kwargs: Arguments, result: Any, before: Sequence[Tensor | None] | None
) -> None:
    """Label the result of an operation. `before` holds the labels of its tensor arguments if it wrote into one of them."""
    inputs = [value for value in tensors_in([*args, *kwargs.values()]) if trace.labels(value) is not None]
    name = func._schema.name.removeprefix("aten::")
    if not inputs or name in _NEW:
        return
    named = {each.name: value for each, value in zip(func._schema.arguments, args, strict=False)} | dict(kwargs)
    if func._schema.is_mutable and name != "copy_" and not name.endswith("_"):
        _unknown(trace, name, inputs, result)
    elif func._schema.is_mutable:
        _in_place(trace, func, name, args, result, before or ())
    elif (rule := _rule_of(name, func)) is not None:
        rule(trace, func, named, result)
    else:
        _unknown(trace, name, inputs, result)


def _rule_of(name: str, func: Any) -> Rule | None:
    if name in _RULES:
        return _RULES[name]
    if name in _ALIKE:
        return _alike
    if name in _POINTWISE or torch.Tag.pointwise in func.tags:
        return _pointwise
    if name in _MOVES and func._overloadname != "dtype":
        return _move
    if name in _ALONG:
        return _along
    if name in _NORMALISED:
        return _normalised
    if any(part in name for part in _SPATIAL):
        return _spatial
    if any(each.name in ("dim", "dims") for each in func._schema.arguments) and len(func._schema.returns) <= 2:
        known = {
            "mean",
            "sum",
            "amax",
            "amin",
            "max",
            "min",
            "var",
            "std",
            "prod",
            "logsumexp",
            "argmax",
            "argmin",
            "any",
        }
        return _reduce if name in {*known, "all", "linalg_vector_norm", "var_mean", "norm"} else None
    return None


def _unknown(trace: Trace, name: str, inputs: Iterable[Tensor], result: Any) -> None:
    for value in inputs:
        _pin(trace, value, f"its channels go through aten.{name} in {trace.where()}, which is not followed")
    for value in tensors_in(result):
        trace.fix(value)


def _pin(trace: Trace, value: Tensor, reason: str) -> None:
    labels = trace.labels(value)
    if labels is not None:
        trace.atoms.pin(labels, reason)


def _settle(trace: Trace, value: Tensor, labels: Tensor, *, keep: int | None = None) -> None:
    """Label `value`. Channels along several dimensions form a grid, of which only whole slices along one, the last (or
    `keep`), can go: the atoms of such a slice are united."""
    labels = trace.atoms.canonical(labels)
    if len(dims := varying(labels)) > 1:
        kept = dims[-1] if keep is None else keep
        trace.atoms.note(labels, f"are reshaped in {trace.where()}")
        labels = trace.atoms.unite_along(labels, [dim for dim in dims if dim != kept])
    trace.set_labels(value, labels)


def _alike(trace: Trace, func: Any, named: Arguments, result: Any) -> None:
    labels = trace.labels(named["self"])
    assert labels is not None
    trace.set_labels(result, labels)


def _joined(trace: Trace, values: Sequence[Tensor], shape: torch.Size) -> Tensor:
    """Unite the channels of values that meet place by place after broadcasting to `shape`; return the labels there."""
    where, atoms = trace.where(), trace.atoms
    tracked: list[tuple[tuple[int, ...], Tensor]] = []
    for value in values:
        labels = trace.labels(value)
        if labels is not None:
            tracked.append((_aligned(value.shape, len(shape)), labels.reshape(_aligned(labels.shape, len(shape)))))
    grid = torch.broadcast_shapes(*(labels.shape for _, labels in tracked)) if tracked else torch.Size([1] * len(shape))
    joined: Tensor | None = None
    for own, labels in tracked:
        spread = [dim for dim, size in enumerate(grid) if size > 1 and own[dim] == 1]
        if spread and bool((labels >= 0).any()):
            for _, each in tracked:
                atoms.pin(each, f"its channels meet other channels one by one in {where}")
            return torch.full((1,) * len(shape), FIXED)
        if spread:
            continue
        labels = labels.expand(grid)
        joined = (
            labels if joined is None else atoms.unite(joined, labels, f"its channels meet others that stay in {where}")
        )
    if joined is None:
        joined = torch.full((1,) * len(shape), FIXED)
    for value in values:
        own = _aligned(value.shape, len(shape))
        if trace.labels(value) is not None or all(own[dim] == 1 for dim in varying(joined)) or not varying(joined):
            continue
        if any(own[dim] == 1 for dim in varying(joined)):
            atoms.pin(joined, f"its channels meet a table of constants in {where}")
        elif not trace.bind(value.reshape(own), _on(joined, own)):
            atoms.note(joined, f"meet constants in {where}")
    return joined


def _aligned(shape: Sequence[int], dims: int) -> tuple[int, ...]:
    return (1,) * (dims - len(shape)) + tuple(shape)


def _on(labels: Tensor, shape: Sequence[int]) -> Tensor:
    return labels.expand([max(size, own) for size, own in zip(shape, labels.shape, strict=True)])


def _pointwise(trace: Trace, func: Any, named: Arguments, result: Any) -> None:
    values = tensors_in(list(named.values()))
    for each in tensors_in(result):
        _settle(trace, each, _joined(trace, values, each.shape))


def _in_place(
    trace: Trace, func: Any, name: str, args: Sequence[Any], result: Any, before: Sequence[Tensor | None]
) -> None:
    target, others = args[0], tensors_in(list(args[1:]))
    old = before[0]
    if name in ("zero_", "fill_", "normal_", "uniform_"):
        return
    if name == "copy_" and (old is None or not bool((old >= 0).any())):
        # Into a part of a larger tensor: which part holds which channels is not kept.
        if target._is_view() or target.untyped_storage().nbytes() != target.nbytes:
            for value in others:
                _pin(trace, value, f"its channels are written into a part of a tensor in {trace.where()}")
            trace.fix(target if target._base is None else target._base)
            return
        _settle(trace, target, _joined(trace, others, target.shape))
    elif name == "copy_" or name in _POINTWISE or torch.Tag.pointwise in func.tags:
        labels = _joined(trace, [target, *others], target.shape)
        grew = old is None or bool(((old < 0) & (labels >= 0)).any())
        if grew and target._is_view():
            trace.atoms.pin(labels, f"its channels are written into a part of a tensor in {trace.where()}")
        _settle(trace, target, labels)
    else:
        _unknown(trace, name, [value for value in args if isinstance(value, Tensor)], result)


def _move(trace: Trace, func: Any, named: Arguments, result: Any) -> None:
    value = named["self"]
    labels = trace.labels(value)
    assert labels is not None
    if not bool((labels >= 0).any()):
        trace.fix(result)
        return
    moved = func(labels.expand(value.shape).contiguous() if "view" in func.__name__ else labels.expand(value.shape),
                 *list(named.values())[1:])  # fmt: skip
    _settle(trace, result, collapsed(moved))


def _split(trace: Trace, func: Any, named: Arguments, result: Any) -> None:
    value, dim = named["self"], named.get("dim", 0) % named["self"].ndim
    labels = trace.labels(value)
    assert labels is not None
    start = 0
    sizes = [part.shape[dim] for part in result]
    _blocks(trace, labels, dim, [sum(sizes[:end]) for end in range(1, len(sizes))], "are split")
    for part, size in zip(result, sizes, strict=True):
        trace.set_labels(part, labels.narrow(dim, start, size) if labels.shape[dim] > 1 else labels)
        start += size


def _blocks(trace: Trace, labels: Tensor, dim: int, ends: Sequence[int], what: str) -> None:
    """Channels cut apart at `ends` must lose as many in each block, for the ends to move along."""
    total = labels.shape[dim]
    size = math.gcd(total, *ends)
    if total > 1 and size < total:
        trace.atoms.note(labels, f"{what} in {trace.where()}")
        trace.atoms.blocks.append((labels.reshape(-1), total // size))


def _slice(trace: Trace, func: Any, named: Arguments, result: Tensor) -> None:
    value, dim = named["self"], named.get("dim", 0) % named["self"].ndim
    labels = trace.labels(value)
    assert labels is not None
    total, step = labels.shape[dim], named.get("step", 1)
    if total == 1:
        trace.set_labels(result, labels)
        return
    start, end, step = slice(named.get("start"), named.get("end"), step).indices(total)
    if step == 1:
        _blocks(trace, labels, dim, [place for place in (start, end) if 0 < place < total], "are sliced")
    elif total % step == 0 and end > total - step:
        grouped = labels.movedim(dim, -1).unflatten(-1, (-1, step))
        trace.atoms.unite_along(grouped, [grouped.ndim - 1])
    else:
        trace.atoms.pin(labels, f"every {step}th of its channels is taken in {trace.where()}")
    index = [slice(None)] * labels.ndim
    index[dim] = slice(start, end, step)
    trace.set_labels(result, labels[tuple(index)])


def _pad(trace: Trace, func: Any, named: Arguments, result: Tensor) -> None:
    value, pads = named["self"], list(named["pad"])
    labels = trace.labels(value)
    assert labels is not None
    for dim in varying(labels):
        place = 2 * (labels.ndim - 1 - dim)
        before, after = (*pads[place : place + 2], 0, 0)[:2]
        if not before and not after:
            continue
        zeros = trace.pad(before, after) if min(before, after) >= 0 else None
        if zeros is None:
            trace.atoms.note(labels, f"are padded in {trace.where()}")
            zeros = torch.full((max(before, 0) + max(after, 0),), FIXED)
        if min(before, after) < 0:
            trace.atoms.pin(labels, f"its channels are cropped in {trace.where()}")
            trace.fix(result)
            return
        shape = [1] * labels.ndim
        shape[dim] = -1
        sides = [part.reshape(shape).expand([*labels.shape[:dim], -1, *labels.shape[dim + 1 :]])
                 for part in (zeros[:before], zeros[before:])]  # fmt: skip
        labels = torch.cat([sides[0], labels, sides[1]], dim)
    _settle(trace, result, labels)


def _cat(trace: Trace, func: Any, named: Arguments, result: Tensor) -> None:
    values, dim = [value for value in named["tensors"] if value.numel()], named.get("dim", 0) % result.ndim
    found = [trace.labels(value) for value in values]
    known = [labels for labels in found if labels is not None]
    across = {each for labels in known for each in varying(labels) if each != dim}
    if not across:
        parts = [
            (torch.full((1,) * value.ndim, FIXED) if labels is None else labels).expand(
                [value.shape[dim] if each == dim else 1 for each in range(value.ndim)]
            )
            for value, labels in zip(values, found, strict=True)
        ]
        trace.set_labels(result, torch.cat(parts, dim))
    elif all(labels.shape[dim] == 1 for labels in known):
        shape = torch.Size(1 if each == dim else size for each, size in enumerate(result.shape))
        _settle(trace, result, _joined(trace, [_first(trace, value, dim) for value in values], shape))
    else:
        for value in values:
            _pin(trace, value, f"its channels are joined along several dimensions in {trace.where()}")
        trace.fix(result)


def _first(trace: Trace, value: Tensor, dim: int) -> Tensor:
    """A view of the first place along `dim`, with the labels of the whole."""
    labels = trace.labels(value)
    view = value.narrow(dim, 0, 1)
    if labels is not None:
        trace.set_labels(view, labels)
    return view


def _stack(trace: Trace, func: Any, named: Arguments, result: Tensor) -> None:
    values, dim = list(named["tensors"]), named.get("dim", 0) % result.ndim
    _settle(trace, result, _joined(trace, values, values[0].shape).unsqueeze(dim))


def _along(trace: Trace, func: Any, named: Arguments, result: Any) -> None:
    value = named["self"]
    labels = trace.labels(value)
    name = func._schema.name.removeprefix("aten::")
    if labels is None:
        _unknown(
            trace, name, [each for each in tensors_in(list(named.values())) if trace.labels(each) is not None], result
        )
        return
    default = -1 if name in ("topk", "sort", "glu") else 0
    dims = named.get("dims", named.get("dim", default))
    dims = [each % value.ndim for each in ([dims] if isinstance(dims, int) else dims)]
    if any(labels.shape[dim] > 1 for dim in dims) or not dims:
        trace.atoms.pin(labels, f"its channels go through a {name.strip('_')} over all of them in {trace.where()}")
        labels = torch.full((1,) * value.ndim, FIXED)
    if name in ("unbind", "select"):
        labels = labels.squeeze(dims[0])
    for each in tensors_in(result):
        trace.set_labels(each, labels)


def _index(trace: Trace, func: Any, named: Arguments, result: Tensor) -> None:
    value, indices = named["self"], named["indices"]
    labels = trace.labels(value)
    if labels is None or any(labels.shape[dim] > 1 for dim, index in enumerate(indices) if index is not None):
        _unknown(
            trace, "index", [each for each in tensors_in([value, indices]) if trace.labels(each) is not None], result
        )
        return
    moved = labels.expand(value.shape)[tuple(slice(None) if index is None else index for index in indices)]
    _settle(trace, result, collapsed(moved))


def _reduce(trace: Trace, func: Any, named: Arguments, result: Any) -> None:
    value = named["self"]
    labels = trace.labels(value)
    assert labels is not None
    name = func._schema.name.removeprefix("aten::")
    dims = named.get("dim")
    dims = [dims] if isinstance(dims, int) else list(dims or range(value.ndim))
    dims = sorted((each % value.ndim for each in dims), reverse=True)
    if any(labels.shape[dim] > 1 for dim in dims):
        trace.atoms.pin(labels, f"its channels go through a {name} over all of them in {trace.where()}")
        labels = torch.full((1,) * value.ndim, FIXED)
    for each in tensors_in(result):
        left = labels
        if each.ndim < value.ndim:
            for dim in dims:
                left = left.squeeze(dim)
        trace.set_labels(each, left)


def _spatial(trace: Trace, func: Any, named: Arguments, result: Any) -> None:
    value = next(iter(named.values()))
    labels = trace.labels(value)
    assert labels is not None
    channel = value.ndim - (3 if "2d" in func._schema.name or "bi" in func._schema.name else 2)
    channel = 1 if value.ndim >= 3 else channel
    if any(dim > channel for dim in varying(labels)):
        trace.atoms.pin(labels, f"its channels are treated as pixels in {trace.where()}")
        labels = torch.full((1,) * value.ndim, FIXED)
    for each in tensors_in(result):
        trace.set_labels(each, labels)


def _normalised(trace: Trace, func: Any, named: Arguments, result: Any) -> None:
    value = named["input"]
    labels = trace.labels(value)
    assert labels is not None
    over = _NORMALISED[func._schema.name.removeprefix("aten::")]
    first = 1 if over is None else value.ndim - len(named[over])
    if any(dim >= first for dim in varying(labels)):
        trace.atoms.pin(labels, f"{trace.where()} normalises over all of its channels")
        labels = torch.full((1,) * value.ndim, FIXED)
    for each in tensors_in(result):
        trace.fix(each)
    trace.set_labels(tensors_in(result)[0], labels)


def _batch_norm(trace: Trace, func: Any, named: Arguments, result: Any) -> None:
    value = named["input"]
    labels = trace.labels(value)
    assert labels is not None
    if any(dim != 1 for dim in varying(labels)):
        trace.atoms.pin(labels, f"its channels are treated as pixels in {trace.where()}")
        labels = torch.full((1,) * value.ndim, FIXED)
    for each in tensors_in(result):
        trace.fix(each)
    channels = labels.expand([1, value.shape[1], *([1] * (value.ndim - 2))])
    names = ("weight", "bias", "running_mean", "running_var")
    tables = [each for name in names if (each := named.get(name)) is not None]
    for table in tables:
        # A norm over a single pixel's worth of an image keeps its one label in one dimension.
        if not trace.bind(table, channels.reshape(-1)):
            trace.atoms.note(labels, f"meet constants in {trace.where()}")
    owner = trace.module.get_submodule(trace.stack[-1]) if trace.stack else None
    if not tables and isinstance(owner, NORMS) and owner.track_running_stats:
        trace.atoms.note(labels, f"go through {trace.where()}, whose statistics were not found")
    trace.set_labels(tensors_in(result)[0], labels)


def _convolution(trace: Trace, func: Any, named: Arguments, result: Tensor) -> None:
    value, weight = named["input"], named["weight"]
    labels = trace.labels(value)
    name = trace.where()
    if labels is None or trace.labels(weight) is not None:
        _unknown(trace, "convolution", [each for each in (value, weight) if trace.labels(each) is not None], result)
        return
    layers = trace.layers_of(weight, weight.shape, weight.stride())
    if named["transposed"] or any(dim != 1 for dim in varying(labels)) or name not in layers:
        _foreign(trace, value, result, "convolution", layers)
        return
    inputs, outputs = _sides(trace, name, layers)
    layer = trace.module.get_submodule(name)
    assert isinstance(layer, nn.Conv2d)
    trace.atoms.unite(inputs, labels.reshape(-1).expand(len(inputs)), f"{name} also reads the image or constants")
    if is_depthwise(layer):
        trace.atoms.unite(inputs, outputs, f"{name} works on channels that stay")
    elif layer.groups > 1:
        trace.atoms.blocks += [(inputs, layer.groups), (outputs, layer.groups)]
    trace.set_labels(result, outputs.reshape(1, -1, *([1] * (result.ndim - 2))))


def _product(trace: Trace, func: Any, named: Arguments, result: Tensor) -> None:
    """Products of two matrices, of which the second may be a layer's weight."""
    left, right = [named[key] for key in ("self", "mat1", "batch1", "mat2", "batch2") if key in named][-2:]
    labels = trace.labels(left)
    name = trace.where()
    if labels is None or trace.labels(right) is not None:
        _activations(trace, left, right, result)
        return
    layers = trace.layers_of(right, (right.shape[-1], right.shape[-2]), right.stride()[::-1])
    if name not in layers or any(dim != left.ndim - 1 for dim in varying(labels)) or right.ndim != 2:
        _foreign(trace, left, result, "matrix product", layers)
        return
    inputs, outputs = _sides(trace, name, layers)
    trace.atoms.unite(inputs, labels.reshape(-1).expand(len(inputs)), f"{name} also reads the image or constants")
    trace.set_labels(result, outputs.reshape(1, -1))
    bias = named.get("self") if "mat1" in named else None
    if bias is not None and bias.ndim == 1:
        trace.bind(bias, outputs)


def _sides(trace: Trace, name: str, layers: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Both sides of a layer, united with those of the layers that share its weights."""
    both = trace.side(name, Side.INPUT), trace.side(name, Side.OUTPUT)
    for other in layers:
        for side, own in zip((Side.INPUT, Side.OUTPUT), both, strict=True):
            trace.atoms.unite(own, trace.side(other, side), "it shares weights")
    return both


def _foreign(trace: Trace, value: Tensor, result: Tensor, what: str, layers: Sequence[str]) -> None:
    """A product with weights that no layer can be told to change."""
    whose = (
        f"with the weights of {layers[0]}, outside of that layer" if layers else "with weights that no known layer has"
    )
    _pin(trace, value, f"its channels go through a {what} in {trace.where()} {whose}")
    for layer in layers:
        for side in (Side.INPUT, Side.OUTPUT):
            trace.atoms.pin(trace.side(layer, side), f"its weights are used outside of it, in {trace.where()}")
    trace.fix(result)


def _activations(trace: Trace, left: Tensor, right: Tensor, result: Tensor) -> None:
    """A product of activations: what is summed over stays; channels along the free dimension of one of them pass through."""
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
        trace.set_labels(result, passing[0])
        return
    for labels in passing:
        trace.atoms.pin(labels, reason)
    trace.fix(result)


def _attention(trace: Trace, func: Any, named: Arguments, result: Any) -> None:
    query, key, value = named["query"], named["key"], named["value"]
    for each in tensors_in(result):
        trace.fix(each)
    for each in (query, key):
        _pin(trace, each, f"its channels meet in the attention of {trace.where()}")
    labels = trace.labels(value)
    if labels is not None and set(varying(labels)) <= {value.ndim - 1}:
        trace.set_labels(tensors_in(result)[0], labels)
    elif labels is not None:
        trace.atoms.pin(labels, f"its channels meet in the attention of {trace.where()}")


def _shuffle(trace: Trace, func: Any, named: Arguments, result: Tensor) -> None:
    """pixel_shuffle, pixel_unshuffle, channel_shuffle: channels in a grid with what becomes pixels or blocks."""
    value = named["self"]
    labels = trace.labels(value)
    assert labels is not None
    name = func._schema.name
    if not varying(labels):
        trace.set_labels(result, labels)
        return
    dim = value.ndim - 3
    if varying(labels) != (dim,):
        trace.atoms.pin(labels, f"its channels are shuffled in {trace.where()}")
        trace.fix(result)
    elif "unshuffle" in name:
        trace.set_labels(result, labels.repeat_interleave(named["downscale_factor"] ** 2, dim))
    elif "pixel" in name:
        grid = labels.unflatten(dim, (-1, named["upscale_factor"] ** 2))
        trace.set_labels(result, trace.atoms.unite_along(grid, [dim + 1]).squeeze(dim + 1))
    else:
        grid = labels.unflatten(dim, (named["groups"], -1))
        united = trace.atoms.unite_along(grid, [dim]).expand(grid.shape)
        trace.set_labels(result, united.transpose(dim, dim + 1).flatten(dim, dim + 1))


_RULES: dict[str, Rule] = {
    "split": _split,
    "split_with_sizes": _split,
    "slice": _slice,
    "constant_pad_nd": _pad,
    "cat": _cat,
    "stack": _stack,
    "index": _index,
    "native_batch_norm": _batch_norm,
    "cudnn_batch_norm": _batch_norm,
    "_native_batch_norm_legit": _batch_norm,
    "_native_batch_norm_legit_no_training": _batch_norm,
    "convolution": _convolution,
    "mm": _product,
    "addmm": _product,
    "bmm": _product,
    "baddbmm": _product,
    "pixel_shuffle": _shuffle,
    "pixel_unshuffle": _shuffle,
    "channel_shuffle": _shuffle,
    "native_channel_shuffle": _shuffle,
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_attention_math": _attention,
}
