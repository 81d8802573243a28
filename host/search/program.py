"""The integer program over one width per group: columns, and linear expressions for quantities that layers
add up.

A binary column per group and width says which width is kept. A layer whose input and output follow different
groups costs by the pair, so each coupled pair of groups gets columns y[w1, w2] = x1[w1] x2[w2] in their tight
form: over w2 they sum to x1[w1], over w1 to x2[w2]. With binary x these y need not be declared binary. One more column is the
peak of the activations: no less than the sum of what lives at any step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, milp
from scipy.sparse import csr_array

from host.search.memory import ELEMENT_BYTES, live_sets
from host.search.network import Layer, LayerKind, LiveTensor, Network, Part, Plan
from host.search.solution import Price, Widths, parameters_of

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear:
    """A linear expression over the columns of a program: `coefficients . columns + constant`."""

    coefficients: Floats
    constant: float


def coupled(network: Network) -> tuple[tuple[str, str], ...]:
    """Return the pairs of different groups that meet in a layer, as (input group, output group)."""
    pairs: dict[tuple[str, str], None] = {}
    for layer in network.layers:
        if layer.kind is LayerKind.DEPTHWISE:
            continue
        for source, target in product(layer.inputs, layer.outputs):
            if source.group != target.group and (target.group, source.group) not in pairs:
                pairs[(source.group, target.group)] = None
    return tuple(pairs)


class Program:
    """Columns and structural rows of one network and its allowed widths; quantities become `Linear`, then
    rows.
    """

    def __init__(self, network: Network, widths: Widths) -> None:
        self._network, self._widths = network, widths
        self._single: dict[tuple[str, int], int] = {}
        for group in network.groups:
            for width in widths[group.name]:
                self._single[(group.name, width)] = len(self._single)
        self._pair: dict[tuple[str, int, str, int], int] = {}
        for first, second in coupled(network):
            for one, two in product(widths[first], widths[second]):
                self._pair[(first, one, second, two)] = len(self._single) + len(self._pair)
        self._peak = len(self._single) + len(self._pair)
        self.columns = self._peak + 1
        self._structure = self._structural_rows()
        #: Rows that hold the peak up, made when memory is asked for.
        self._live: LinearConstraint | None = None

    def _structural_rows(self) -> LinearConstraint:
        rows: list[list[tuple[int, float]]] = []
        right: list[float] = []
        for group in self._network.groups:
            rows.append([(self._single[(group.name, width)], 1.0) for width in self._widths[group.name]])
            right.append(1.0)
        for first, second in coupled(self._network):
            for one in self._widths[first]:
                across = [(self._pair[(first, one, second, two)], 1.0) for two in self._widths[second]]
                rows.append([*across, (self._single[(first, one)], -1.0)])
                right.append(0.0)
            for two in self._widths[second]:
                across = [(self._pair[(first, one, second, two)], 1.0) for one in self._widths[first]]
                rows.append([*across, (self._single[(second, two)], -1.0)])
                right.append(0.0)
        entries = [(row, column, value) for row, each in enumerate(rows) for column, value in each]
        at_row, at_column, values = zip(*entries, strict=True)
        matrix = csr_array((values, (at_row, at_column)), shape=(len(rows), self.columns))
        return LinearConstraint(matrix, np.array(right), np.array(right))

    def per_width(self, table: Sequence[tuple[str, int, float]]) -> Linear:
        """Return the expression that adds `value` for each (group, width, value) that is kept."""
        coefficients = np.zeros(self.columns)
        for group, width, value in table:
            coefficients[self._single[(group, width)]] += value
        return Linear(coefficients=coefficients, constant=0.0)

    def quantity(self, price: Price) -> Linear:
        """Return the sum of `price` over all layers as an expression.

        Exact for layers with at most one part on each side, whatever the price. A layer that joins several parts on a
        side (a concatenation, a sum with a padded shortcut) is priced by least squares over its allowed widths: by a line for
        each width of the other side, where that has one part, else by a bilinear surface. Exact where the price is bilinear.
        """
        coefficients, constant = np.zeros(self.columns), 0.0
        for layer in self._network.layers:
            inputs = () if layer.kind is LayerKind.DEPTHWISE else layer.inputs
            if len(layer.outputs) > 1 and len(inputs) == 1:
                self._add_lines(layer, price, coefficients, inputs[0], layer.outputs, inward=True)
            elif len(inputs) > 1 and len(layer.outputs) == 1:
                self._add_lines(layer, price, coefficients, layer.outputs[0], inputs, inward=False)
            elif len(layer.outputs) > 1 or len(inputs) > 1:
                constant += self._add_joined(layer, price, coefficients)
            else:
                constant += self._add_plain(layer, price, coefficients)
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
            constant += 0 if gone is not None else tensor.fixed
            if gone is not None:
                for width in self._widths[gone]:
                    coefficients[self._single[(gone, width)]] += tensor.fixed if width else 0
            for part in tensor.parts:
                if gone is None or gone == part.group or not self._coupled(gone, part.group):
                    for width in self._widths[part.group]:
                        coefficients[self._single[(part.group, width)]] += part.width(width)
                    continue
                for one, two in product(self._widths[gone], self._widths[part.group]):
                    coefficients[self._column(gone, one, part.group, two)] += part.width(two) if one else 0
        return Linear(coefficients=coefficients, constant=constant)

    def _coupled(self, one: str, other: str) -> bool:
        first = (one, self._widths[one][0], other, self._widths[other][0])
        return first in self._pair or (*first[2:], *first[:2]) in self._pair

    def _add_plain(self, layer: Layer, price: Price, into: Floats) -> float:
        target = layer.outputs[0].group if layer.outputs else None
        source = layer.inputs[0].group if layer.inputs else None
        if layer.kind is LayerKind.DEPTHWISE:
            source = target
        if source is None and target is None:
            return price(layer, *layer.widths({}))
        if source is None or target is None or source == target:
            only = target if source is None else source
            assert only is not None
            for width in self._widths[only]:
                into[self._single[(only, width)]] += price(layer, *layer.widths({only: width}))
            return 0.0
        for one, two in product(self._widths[source], self._widths[target]):
            into[self._column(source, one, target, two)] += price(layer, *layer.widths({source: one, target: two}))
        return 0.0

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

    def _column(self, source: str, one: int, target: str, two: int) -> int:
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
            if columns[column] > share.get(group, 0.0):
                kept[group], share[group] = width, float(columns[column])
        return Plan(kept=kept)
