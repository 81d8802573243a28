"""From the operators that LiteRT ran back to those of the file. Pure functions on plain values.

The interpreter runs the file's operators under their own numbers. A delegate runs operators of its own: XNNPACK keeps the file's
order, makes fully connected layers of 1x1 convolutions, takes padding and activations into the operator beside them, splits other
activations off as clamps, and leaves out what needs no work. So operators of one kind are matched in order, and only where the
counts agree in that part of the graph; where they do not, nothing is said.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Builtin operator codes of the TFLite schema (tflite/schema/schema.fbs).
ADD, AVERAGE_POOL, CONV, DEPTHWISE, DEPTH_TO_SPACE, DEQUANTIZE, FULLY_CONNECTED = 0, 1, 3, 4, 5, 6, 9
CUSTOM = 32
PAD, PADV2, RELU_KINDS = 34, 60, frozenset({19, 20, 21, 152})
_WEIGHTED = frozenset({CONV, DEPTHWISE, FULLY_CONNECTED})

# XNNPACK's name up to its bracket -> the file's operators that it can stand for. Kinds that share an operator form one class.
_CLASSES: tuple[tuple[frozenset[str], frozenset[int]], ...] = (
    (frozenset({"Convolution", "Fully Connected"}), _WEIGHTED),
    (
        frozenset({"Deconvolution"}),
        frozenset({67, CUSTOM}),
    ),  # MediaPipe's Convolution2DTransposeBias is a custom operator
    (frozenset({"Batch Matrix Multiply"}), frozenset({126})),
    (frozenset({"Add"}), frozenset({ADD})),
    (frozenset({"Subtract"}), frozenset({41})),
    (frozenset({"Multiply"}), frozenset({18})),
    (frozenset({"Divide"}), frozenset({42})),
    (frozenset({"Average Pooling"}), frozenset({AVERAGE_POOL})),
    (frozenset({"Max Pooling"}), frozenset({17})),
    (frozenset({"Mean", "Global Average Pooling"}), frozenset({40})),
    (frozenset({"Sigmoid"}), frozenset({14})),
    (frozenset({"Tanh"}), frozenset({28})),
    (frozenset({"HardSwish"}), frozenset({117})),
    (frozenset({"PReLU"}), frozenset({54})),
    (frozenset({"Leaky ReLU"}), frozenset({98})),
    (frozenset({"ELU"}), frozenset({111})),
    (frozenset({"GELU"}), frozenset({150})),
    (frozenset({"Softmax"}), frozenset({25})),
    (frozenset({"Resize Bilinear"}), frozenset({23})),
    (frozenset({"Depth To Space"}), frozenset({DEPTH_TO_SPACE})),
    (frozenset({"Space To Depth"}), frozenset({26})),
    (frozenset({"Transpose"}), frozenset({39})),
    (frozenset({"Static Reshape", "Reshape"}), frozenset({22})),
    (frozenset({"Constant Pad"}), frozenset({PAD, PADV2})),
)
_CLAMP = "Clamp"
_PAD = "Constant Pad"


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOperator:
    """An operator of the file's main graph. `name` is its first output tensor's; tensors go by their names.

    `inputs` are those that are no constants of the file; the shapes are those of all. `activation`: one is part of the operator.
    """

    name: str
    code: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    input_shapes: tuple[tuple[int, ...], ...] = ()
    output_shapes: tuple[tuple[int, ...], ...] = ()
    activation: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RanOperator:
    """An operator as it ran. `number` is that of the file's operator, or inside a delegate its place there."""

    tag: str
    number: int
    delegated: bool

    @property
    def kind(self) -> str:
        """The tag without XNNPACK's layout, types and kernel: `Convolution (NHWC, F32) IGEMM` is a Convolution."""
        return self.tag.partition(" (")[0]


def match(ran: Sequence[RanOperator], file: Sequence[FileOperator]) -> list[tuple[int, ...]]:
    """Return for each operator that ran the places in `file` of those that it is made of; empty where that is not certain."""
    found: list[list[int]] = [[] if one.delegated or one.number >= len(file) else [one.number] for one in ran]
    made = [name for operator in file for name in operator.outputs]
    stretches = _stretches(ran)
    if len(set(made)) == len(made):
        subsets = _subsets(file, {place for places in found for place in places})
        own = [[ran[place].number for place in places] for delegated, places in stretches if not delegated]
        alike = [delegated for delegated, _ in subsets] == [delegated for delegated, _ in stretches]
        if alike and own == [places for delegated, places in subsets if not delegated]:
            folded = _folded(file)
            for (delegated, places), (_, candidates) in zip(stretches, subsets, strict=True):
                if delegated:
                    rest = [place for place in candidates if place not in folded]
                    for place, sources in _match_part([ran[one] for one in places], file, rest).items():
                        found[places[place]] = sources
    return [tuple(sorted(places)) for places in found]


def _stretches(ran: Sequence[RanOperator]) -> list[tuple[bool, list[int]]]:
    """Return (delegated, places): parts of the graph in the order in which they ran. A delegated one starts at a lower number."""
    stretches: list[tuple[bool, list[int]]] = []
    for place, one in enumerate(ran):
        anew = one.delegated and place > 0 and one.number <= ran[place - 1].number
        if not stretches or stretches[-1][0] != one.delegated or anew:
            stretches.append((one.delegated, []))
        stretches[-1][1].append(place)
    return stretches


def _subsets(file: Sequence[FileOperator], own: set[int]) -> list[tuple[bool, list[int]]]:
    """Return (delegated, places in the file): how TFLite partitions a graph whose `own` operators no delegate takes.

    Each part takes whatever of its kind is ready, in the order of the file (tflite/graph_info.cc).
    """
    missing = {name for operator in file for name in operator.outputs}
    left = list(range(len(file)))
    subsets: list[tuple[bool, list[int]]] = []
    while left:
        subset: tuple[bool, list[int]] | None = None
        progress = True
        while progress:
            progress = False
            for place in list(left):
                delegated = place not in own
                ready = missing.isdisjoint(file[place].inputs)
                if ready and subset is None:
                    subset = (delegated, [])
                if ready and subset is not None and subset[0] == delegated:
                    subset[1].append(place)
                    missing.difference_update(file[place].outputs)
                    left.remove(place)
                    progress = True
        if subset is None:
            return []
        subsets.append(subset)
    return subsets


def _folded(file: Sequence[FileOperator]) -> set[int]:
    """Return the operators that work on constants only (weights that are unpacked): a delegate does so once, when it loads."""
    found: set[int] = set()
    constant: set[str] = set()
    for place, operator in enumerate(file):
        if all(name in constant for name in operator.inputs):
            found.add(place)
            constant.update(operator.outputs)
    return found


def _match_part(ran: Sequence[RanOperator], file: Sequence[FileOperator], rest: Sequence[int]) -> dict[int, list[int]]:
    matched: dict[int, list[int]] = {}
    for kinds, codes in _CLASSES:
        ours = [place for place, one in enumerate(ran) if one.kind in kinds]
        theirs = [place for place in rest if file[place].code in codes]
        if len(ours) == len(theirs) and all(
            _fits(ran[one], file[other]) for one, other in zip(ours, theirs, strict=True)
        ):
            matched.update({one: [other] for one, other in zip(ours, theirs, strict=True)})
    order = [matched[place][0] for place in sorted(matched)]
    if order != sorted(order):
        return {}
    _add_neighbours(matched, ran, file, rest)
    return matched


def _fits(ran: RanOperator, operator: FileOperator) -> bool:
    """Whether an operator with weights can be this one of the file: their kinds overlap, and order alone would not tell."""
    if operator.code not in _WEIGHTED:
        return True
    if ran.kind == "Fully Connected":
        pointwise = any(len(shape) == 4 and shape[1:3] == (1, 1) for shape in operator.input_shapes[1:])
        return operator.code == FULLY_CONNECTED or (operator.code == CONV and pointwise)
    # A depthwise operator on a single channel (the first one of a net for grey images) is an ordinary convolution.
    plain = operator.code == CONV or any(shape[-1:] == (1,) for shape in operator.input_shapes[:1])
    return operator.code in (CONV, DEPTHWISE) and (ran.tag.endswith("DWConv") or plain)


def _add_neighbours(
    matched: dict[int, list[int]], ran: Sequence[RanOperator], file: Sequence[FileOperator], rest: Sequence[int]
) -> None:
    """Match clamps, which follow the operator that they were split off; add activations and padding that a neighbour took in."""
    at = {places[0]: place for place, places in matched.items()}
    made_by = {name: place for place, operator in enumerate(file) for name in operator.outputs}
    taken_by: dict[str, list[int]] = {}
    for place, operator in enumerate(file):
        for name in operator.inputs:
            taken_by.setdefault(name, []).append(place)
    clamps = {place for place, one in enumerate(ran) if one.kind == _CLAMP}
    for place in clamps:
        before = matched.get(place - 1, [])
        if before and file[before[0]].activation:
            matched[place] = list(before)
    taken_in: list[tuple[int, int]] = []
    for place in rest:
        operator = file[place]
        if operator.code in RELU_KINDS:
            maker = made_by.get(operator.inputs[0])
            if maker in at and _only(taken_by, file[maker]) == place:
                after = at[maker] + 1
                if after in clamps - set(matched):
                    matched[after] = [place]
                else:
                    taken_in.append((at[maker], place))
        elif operator.code in (PAD, PADV2) and not any(one.kind == _PAD for one in ran):
            user = _only(taken_by, operator)
            if user in at and file[user].code in _WEIGHTED:
                taken_in.append((at[user], place))
    if clamps <= set(matched):  # else one that is left could be any of these
        for one, place in taken_in:
            matched[one].append(place)


def _only(taken_by: Mapping[str, Sequence[int]], operator: FileOperator) -> int | None:
    """Return the only operator that takes what this one makes, None where there are several or none."""
    users = [place for name in operator.outputs for place in taken_by.get(name, ())]
    return users[0] if len(users) == 1 else None
