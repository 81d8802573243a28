"""What each ATen operation does to labels, by its name.

An operation that is not known here pins the channels that reach it. Rules are exact for code whose numbers follow the
tensors' shapes (`x.chunk(2, 1)`, `view(n, 2, c // 2, h, w)`); code with the old numbers in it is found out by the proof.
To add an operation, put its name into a table, or write a rule of its own as those in the modules beside this one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from host.compress.channels import meeting, mixing, moving, reading
from host.compress.channels.atoms import varying
from host.compress.channels.operation import Operation, unknown
from host.compress.channels.trace import Trace, tensors_in

Rule = Callable[[Operation], None]


def _table(rule: Rule, names: str) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


#: Rules for one tensor; others among the arguments must hold no channels.
_OF_ONE: dict[str, Rule] = {
    **_table(
        moving.alike, "detach alias lift_fresh _to_copy zeros_like ones_like full_like rand_like randn_like empty_like"
    ),
    **_table(
        moving.move,
        "view _unsafe_view _reshape_alias permute transpose t expand unsqueeze squeeze flip repeat",
    ),
    **_table(moving.split, "split split_with_sizes"),
    **_table(moving.cut, "slice"),
    **_table(moving.pad, "constant_pad_nd"),
    **_table(moving.index, "index"),
    **_table(moving.shuffle, "pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle"),
    **_table(
        mixing.along,
        "_softmax _log_softmax cumsum cumprod sort topk roll index_select gather glu unbind select",
    ),
    **_table(mixing.normalised, "native_layer_norm native_group_norm _fused_rms_norm"),
    **_table(
        mixing.batch_norm,
        "native_batch_norm cudnn_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training",
    ),
}
#: Where they have a dimension to work on.
_REDUCTIONS = _table(
    mixing.reduce,
    "mean sum amax amin max min var std prod logsumexp argmax argmin any all linalg_vector_norm var_mean norm",
)
#: Parts of names.
_SPATIAL = ("pool1d", "pool2d", "pool3d", "upsample_", "reflection_pad", "replication_pad", "grid_sampler")
_OF_SEVERAL: dict[str, Rule] = {
    # Elementwise, but not tagged so.
    **_table(meeting.pointwise, "hardswish _prelu_kernel clone masked_fill native_dropout"),
    **_table(meeting.cat, "cat"),
    **_table(meeting.stack, "stack"),
    **_table(reading.convolution, "convolution"),
    **_table(reading.product, "mm addmm bmm baddbmm"),
    **_table(reading.attention, "_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_attention_math"),
}
#: New tensors whose shape is given as numbers.
_NEW = frozenset({"new_zeros", "new_ones", "new_full", "new_empty", "new_empty_strided", "is_same_size"})


def known(func: Any) -> bool:
    """Whether there is a rule for an operation."""
    name = func._schema.name.removeprefix("aten::")
    return name in _NEW or _rule_of(name.removesuffix("_") if func._schema.is_mutable else name, func) is not None


def follow(trace: Trace, func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> None:
    """Label the result of an operation that has just run."""
    named = {each.name: value for each, value in zip(func._schema.arguments, args, strict=False)} | dict(kwargs)
    name = func._schema.name.removeprefix("aten::")
    op = Operation(trace=trace, func=func, name=name, named=named, result=result)
    if not op.inputs or name in _NEW:
        return
    in_place = name.endswith("_") and func._schema.is_mutable
    rule = _rule_of(name[:-1] if in_place else name, func)
    reads = op.inputs
    if in_place:
        meeting.in_place(op, known=rule is meeting.pointwise)
    elif rule is None or not (name in _OF_SEVERAL or rule is meeting.pointwise or _alone(op)):
        unknown(op)
    else:
        rule(op)
    trace.saw(name, reads, tensors_in(result), pointwise=rule is meeting.pointwise)


def _alone(op: Operation) -> bool:
    first, *others = op.inputs
    labels = [op.trace.labels(each) for each in others]
    return first is op.value and not any(each is not None and varying(each) for each in labels)


def _rule_of(name: str, func: Any) -> Rule | None:
    if func._overloadname == "dtype":  # a view of the bytes
        return None
    rule = _OF_ONE.get(name) or _OF_SEVERAL.get(name)
    if rule is not None:
        return rule
    if torch.Tag.pointwise in func.tags:
        return meeting.pointwise
    if any(part in name for part in _SPATIAL):
        return mixing.spatial
    has_dim = any(each.name in ("dim", "dims") for each in func._schema.arguments)
    return _REDUCTIONS.get(name) if has_dim else None
