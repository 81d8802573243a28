"""The integer program over one width per group: columns, and linear expressions for quantities that layers add
up.

A binary column per group and width says which width is kept. A side of a layer that joins several groups (a concatenation, a
shortcut padded with zeros) has such columns for the widths that the groups can add up to, tied to theirs by that sum. A layer
costs by its pair of widths, so each pair of sides that meet in a layer gets columns y[w1, w2] = x1[w1] x2[w2] in their tight
form: over w2 they sum to x1[w1], over w1 to x2[w2]. With binary x these y need not be declared binary. One more column is the
peak of the activations: no less than the sum of what lives at any step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, milp
from scipy.sparse import csr_array

from host.search.memory import ELEMENT_BYTES, live_sets
from host.search.network import Layer, LayerKind, LiveTensor, Network, Part, Plan
from host.search.quiet import quiet_stdout
from host.search.solution import Price, Widths, parameters_of

Floats = npt.NDArray[np.float64]
#: A side that joins groups to more widths than this has no columns of its own.
MOST_SUMS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """A linear expression over the columns of a program: `coefficients . columns + constant`."""

    coefficients: Floats
    constant: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """A width that several groups add up to."""

    parts: tuple[Part, ...]
    fixed: int


#: What a side of a layer follows: nothing, a group by its name, or a sum of several.
Side: TypeAlias = "str | Sum | None"


def sides(layer: Layer) -> tuple[Side, Side]:
    """Return what input and output of a layer follow; a depthwise layer has one width, its output's."""
    outward = _side(layer.outputs, layer.output_fixed)
    return (outward if layer.kind is LayerKind.DEPTHWISE else _side(layer.inputs, layer.input_fixed)), outward


def _side(parts: tuple[Part, ...], fixed: int) -> Side:
    if len(parts) < 2:
        return parts[0].group if parts else None
    return Sum(parts=tuple(sorted(parts, key=lambda part: (part.group, part.features, part.per))), fixed=fixed)


def coupled(network: Network) -> tuple[tuple[str | Sum, str | Sum], ...]:
    """Return the pairs of different widths that meet in a layer, as (input, output)."""
    pairs: dict[tuple[str | Sum, str | Sum], None] = {}
    for layer in network.layers:
        source, target = sides(layer)
        if source is None or target is None or source == target or (target, source) in pairs:
            continue
        pairs[(source, target)] = None
    return tuple(pairs)


class Program:
    """Columns and structural rows of one network and its allowed widths; quantities become `Linear`, then
    rows.
    """

    def __init__(self, network: Network, widths: Widths) -> None:
        self._network, self._widths = network, widths
        self._values: dict[str | Sum, tuple[int, ...]] = {group.name: widths[group.name] for group in network.groups}
        for side in dict.fromkeys(side for layer in network.layers for side in sides(layer)):
            if isinstance(side, Sum) and len(sums := self._sums(side)) <= MOST_SUMS:
                self._values[side] = sums
        self._single: dict[tuple[str | Sum, int], int] = {}
        for side, values in self._values.items():
            for value in values:
                self._single[(side, value)] = len(self._single)
        self._pair: dict[tuple[str | Sum, int, str | Sum, int], int] = {}
        self._pairs = [pair for pair in self._meeting() if pair[0] in self._values and pair[1] in self._values]
        for first, second in self._pairs:
            for one, two in product(self._values[first], self._values[second]):
                self._pair[(first, one, second, two)] = len(self._single) + len(self._pair)
        self._peak = len(self._single) + len(self._pair)
        self.columns = self._peak + 1
        self._structure = self._structural_rows()
        #: Rows that hold the peak up, made when memory is asked for.
        self._live: LinearConstraint | None = None

    def _sums(self, side: Sum) -> tuple[int, ...]:
        """Return the widths that a sum can have, ascending; some more than MOST_SUMS where it has so many."""
        found = {side.fixed}
        for part in side.parts:
            found = {start + part.width(width) for start in found for width in self._widths[part.group]}
            if len(found) > MOST_SUMS:
                break
        return tuple(sorted(found))

    def _meeting(self) -> list[tuple[str | Sum, str | Sum]]:
        """Return the pairs that need columns: of a sum without columns of its own, its groups meet the other side."""
        pairs: dict[tuple[str | Sum, str | Sum], None] = {}
        for first, second in coupled(self._network):
            for source, target in product(self._spread(first), self._spread(second)):
                if source != target and (target, source) not in pairs:
                    pairs[(source, target)] = None
        return list(pairs)

    def _spread(self, side: str | Sum) -> list[str | Sum]:
        if side in self._values or isinstance(side, str):
            return [side]
        return list(dict.fromkeys(part.group for part in side.parts))

    def _structural_rows(self) -> LinearConstraint:
        rows: list[list[tuple[int, float]]] = []
        right: list[float] = []
        for side, values in self._values.items():
            rows.append([(self._single[(side, value)], 1.0) for value in values])
            right.append(1.0)
            if isinstance(side, Sum):
                rows.append([(self._single[(side, value)], float(value)) for value in values])
                right.append(side.fixed)
                for part in side.parts:
                    for width in self._widths[part.group]:
                        rows[-1].append((self._single[(part.group, width)], -float(part.width(width))))
        for first, second in self._pairs:
            for one in self._values[first]:
                across = [(self._pair[(first, one, second, two)], 1.0) for two in self._values[second]]
                rows.append([*across, (self._single[(first, one)], -1.0)])
                right.append(0.0)
            for two in self._values[second]:
                across = [(self._pair[(first, one, second, two)], 1.0) for one in self._values[first]]
                rows.append([*across, (self._single[(second, two)], -1.0)])
                right.append(0.0)
        entries = [(row, column, value) for row, each in enumerate(rows) for column, value in each]
        at_row, at_column, coefficients = zip(*entries, strict=True)
        # Entries of one place, from a group that a sum holds twice, are added up.
        matrix = csr_array((coefficients, (at_row, at_column)), shape=(len(rows), self.columns))
        return LinearConstraint(matrix, np.array(right), np.array(right))

    def per_width(self, table: Sequence[tuple[str, int, float]]) -> Linear:
        """Return the expression that adds `value` for each (group, width, value) that is kept."""
        coefficients = np.zeros(self.columns)
        for group, width, value in table:
            coefficients[self._single[(group, width)]] += value
        return Linear(coefficients=coefficients, constant=0.0)

    def quantity(self, price: Price) -> Linear:
        """Return the sum of `price` over all layers as an expression: exact, whatever the price.

        Only where a side joins groups to more than MOST_SUMS widths is a layer priced by least squares over its allowed widths:
        by a line for each width of the other side, where that follows one group or none, else by a bilinear surface.
        """
        coefficients, constant = np.zeros(self.columns), 0.0
        for layer in self._network.layers:
            source, target = sides(layer)
            inputs = () if layer.kind is LayerKind.DEPTHWISE else layer.inputs
            if all(side is None or side in self._values for side in (source, target)):
                constant += self._add_plain(layer, price, coefficients)
            elif len(inputs) == 1:
                self._add_lines(layer, price, coefficients, inputs[0], layer.outputs, inward=True)
            elif len(layer.outputs) == 1:
                self._add_lines(layer, price, coefficients, layer.outputs[0], inputs, inward=False)
            else:
                constant += self._add_joined(layer, price, coefficients)
        return Linear(coefficients=coefficients, constant=constant)

    def memory(self) -> Linear:
        """Return bytes of weights and of the activations' peak (`memory.memory_bytes`), held up from here on."""
        weights = self.quantity(parameters_of)
        sets, full = live_sets(self._network), self._network.full_plan().kept
        steps = [self._sum_of(tensors) for tensors in sets]
        largest = max((sum(tensor.elements(full) for tensor in tensors) for tensors in sets), default=0) or 1
        # largest * peak - live >= 0, in shares of the largest; the peak is a column between 0 and 1.
        rows = [-step.coefficients / largest for step in steps]
        for row in rows:
            row[self._peak] = 1.0
        if rows:
            floor = np.array([step.constant / largest for step in steps])
            self._live = LinearConstraint(csr_array(np.array(rows)), floor, np.full(len(rows), np.inf))
        coefficients = ELEMENT_BYTES * weights.coefficients
        coefficients[self._peak] = ELEMENT_BYTES * largest
        return Linear(coefficients=coefficients, constant=ELEMENT_BYTES * weights.constant)

    def _sum_of(self, tensors: Sequence[LiveTensor]) -> Linear:
        """Return the elements of tensors.

        What goes with a dropped branch counts in full where the branch's group and the tensor's meet in no layer.
        """
        coefficients, constant = np.zeros(self.columns), 0.0
        for tensor in tensors:
            gone = tensor.gone_with
            if gone is None:
                constant += tensor.fixed
            else:
                for width in self._widths[gone]:
                    coefficients[self._single[(gone, width)]] += tensor.fixed if width else 0
                if self._add_gone(tensor, gone, coefficients):
                    continue
            for part in tensor.parts:
                for width in self._widths[part.group]:
                    coefficients[self._single[(part.group, width)]] += part.width(width)
        return Linear(coefficients=coefficients, constant=constant)

    def _add_gone(self, tensor: LiveTensor, gone: str, into: Floats) -> bool:
        """Add the parts of a tensor that is there only while the group `gone` is; False if no columns tell of both."""
        for first, second in self._pairs:
            other = second if first == gone else first if second == gone else None
            scale = None if other is None else _scale(tensor.parts, other)
            if other is None or scale is None:
                continue
            fixed = other.fixed if isinstance(other, Sum) else 0
            for one, two in product(self._widths[gone], self._values[other]):
                into[self._column(gone, one, other, two)] += float(scale * (two - fixed)) if one else 0.0
            return True
        return False

    def _add_plain(self, layer: Layer, price: Price, into: Floats) -> float:
        source, target = sides(layer)
        if source is None and target is None:
            return price(layer, *layer.widths({}))
        if source is None or target is None or source == target:
            only = target if source is None else source
            assert only is not None
            for value in self._values[only]:
                into[self._single[(only, value)]] += price(layer, *self._widths_at(layer, value, value))
            return 0.0
        for one, two in product(self._values[source], self._values[target]):
            into[self._column(source, one, target, two)] += price(layer, *self._widths_at(layer, one, two))
        return 0.0

    def _widths_at(self, layer: Layer, source: int, target: int) -> tuple[int, int]:
        """Return the layer's widths where its sides stand at these values: a group's kept channels, or a sum's width."""
        inputs = _width_at(layer.inputs, layer.input_fixed, source)
        return inputs, _width_at(layer.outputs, layer.output_fixed, target)

    def _add_lines(
        self, layer: Layer, price: Price, into: Floats, single: Part, joined: Sequence[Part], *, inward: bool
    ) -> None:
        """Add, for each width of the single part, a line over the width that the others join to."""
        own, fixed = (layer.input_fixed, layer.output_fixed) if inward else (layer.output_fixed, layer.input_fixed)
        across = self._joined_widths(joined, fixed)
        matrix = np.array([(1.0, other) for other in across])
        for width in self._widths[single.group]:
            here = own + single.width(width)
            values = [price(layer, here, other) if inward else price(layer, other, here) for other in across]
            start, slope = np.linalg.lstsq(matrix, np.array(values), rcond=None)[0].tolist()
            into[self._single[(single.group, width)]] += start + slope * fixed
            for part in joined:
                if part.group == single.group:
                    into[self._single[(single.group, width)]] += slope * part.width(width)
                    continue
                for other in self._widths[part.group]:
                    into[self._column(single.group, width, part.group, other)] += slope * part.width(other)

    def _add_joined(self, layer: Layer, price: Price, into: Floats) -> float:
        """Add a + b in + c out + d in out, where both widths are sums over parts, term by term."""
        constant, inward, outward, both = self._surface(layer, price)
        if layer.kind is LayerKind.DEPTHWISE:
            inputs: tuple[Part, ...] = ()
            fixed_in = 0
        else:
            inputs, fixed_in = layer.inputs, layer.input_fixed
        for part in layer.outputs:
            for width in self._widths[part.group]:
                into[self._single[(part.group, width)]] += (outward + both * fixed_in) * part.width(width)
        for part in inputs:
            for width in self._widths[part.group]:
                into[self._single[(part.group, width)]] += (inward + both * layer.output_fixed) * part.width(width)
        for source, target in product(inputs, layer.outputs) if both else ():
            if source.group == target.group:
                for width in self._widths[source.group]:
                    into[self._single[(source.group, width)]] += both * source.width(width) * target.width(width)
                continue
            for one, two in product(self._widths[source.group], self._widths[target.group]):
                into[self._column(source.group, one, target.group, two)] += both * source.width(one) * target.width(two)
        return constant + inward * fixed_in + (outward + both * fixed_in) * layer.output_fixed

    def _surface(self, layer: Layer, price: Price) -> tuple[float, float, float, float]:
        """Return (a, b, c, d) of a + b in + c out + d in out, fitted to `price` over a grid of the layer's widths.

        A depthwise layer has one width: b and d are 0.
        """
        outs = self._joined_widths(layer.outputs, layer.output_fixed)
        if layer.kind is LayerKind.DEPTHWISE:
            matrix = np.array([(1.0, 0.0, outward, 0.0) for outward in outs])
            values = np.array([price(layer, outward, outward) for outward in outs])
        else:
            grid = list(product(self._joined_widths(layer.inputs, layer.input_fixed), outs))
            matrix = np.array([(1.0, inward, outward, inward * outward) for inward, outward in grid])
            values = np.array([price(layer, inward, outward) for inward, outward in grid])
        size = np.maximum(np.abs(matrix).max(axis=0), 1e-12)
        solution = np.linalg.lstsq(matrix / size, values, rcond=None)[0] / size
        return (float(solution[0]), float(solution[1]), float(solution[2]), float(solution[3]))

    def _joined_widths(self, parts: Sequence[Part], fixed: int) -> list[int]:
        """Return widths from the narrowest to the full one, all parts in step."""
        levels = max((len(self._widths[part.group]) for part in parts), default=1)
        return sorted({fixed + sum(self._at(part, level, levels) for part in parts) for level in range(levels)})

    def _at(self, part: Part, level: int, levels: int) -> int:
        """Return the part's features where its group stands at `level` of `levels` between its widths."""
        allowed = self._widths[part.group]
        return part.width(allowed[round(level / max(levels - 1, 1) * (len(allowed) - 1))])

    def _column(self, source: str | Sum, one: int, target: str | Sum, two: int) -> int:
        forward = self._pair.get((source, one, target, two))
        return self._pair[(target, two, source, one)] if forward is None else forward

    def minimise(
        self,
        objective: Linear,
        limits: Sequence[tuple[Linear, float, float]],
        *,
        time_limit_s: float,
        gap: float,
    ) -> tuple[Plan | None, float | None, bool]:
        """Return (best plan found, proven lower bound of the objective, whether it was shown that there is no
        plan).

        `limits` are (expression, lowest, highest); they are scaled to their size, and so is the objective,
        because HiGHS works with absolute tolerances of 1e-6.
        """
        constraints = [self._structure, *(() if self._live is None else (self._live,))]
        for expression, lowest, highest in limits:
            size = float(np.abs(expression.coefficients).max()) or 1.0
            low, high = lowest - expression.constant, highest - expression.constant
            constraints.append(LinearConstraint(expression.coefficients[None, :] / size, low / size, high / size))
        size = float(np.abs(objective.coefficients).max()) / 1000 or 1.0
        integrality = np.zeros(self.columns, dtype=np.int64)
        integrality[: len(self._single)] = 1
        with quiet_stdout():
            result: OptimizeResult = milp(
                objective.coefficients / size,
                integrality=integrality,
                bounds=Bounds(0, 1),
                constraints=constraints,
                options={"time_limit": time_limit_s, "mip_rel_gap": gap},
            )
        bound = getattr(result, "mip_dual_bound", None)
        proven = None if bound is None or not np.isfinite(bound) else float(bound) * size + objective.constant
        if result.x is None:
            return None, proven, result.status == 2
        return self._plan(np.asarray(result.x)), proven, False

    def _plan(self, columns: Floats) -> Plan:
        kept: dict[str, int] = {}
        share: dict[str, float] = {}
        for (group, width), column in self._single.items():
            if isinstance(group, str) and columns[column] > share.get(group, 0.0):
                kept[group], share[group] = width, float(columns[column])
        return Plan(kept=kept)


def _width_at(parts: Sequence[Part], fixed: int, value: int) -> int:
    if len(parts) > 1:
        return value
    return fixed + sum(part.width(value) for part in parts)


def _scale(parts: Sequence[Part], side: str | Sum) -> Fraction | None:
    """Return how many elements of `parts` there are for each of a side's own, None if they aren't in proportion."""
    own = {side: Fraction(1)} if isinstance(side, str) else {}
    for part in () if isinstance(side, str) else side.parts:
        own[part.group] = own.get(part.group, Fraction(0)) + Fraction(part.features, part.per)
    mine: dict[str, Fraction] = {}
    for part in parts:
        mine[part.group] = mine.get(part.group, Fraction(0)) + Fraction(part.features, part.per)
    if not mine or mine.keys() != own.keys():
        return None
    scales = {mine[group] / own[group] for group in mine}
    return next(iter(scales)) if len(scales) == 1 else None
