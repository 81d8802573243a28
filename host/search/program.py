"""The integer program over one width per group: columns, and linear expressions for quantities that layers
add up.

A binary column per group and width says which width is kept. A layer whose input and output follow different
groups costs by the pair, so each coupled pair of groups gets columns y[w1, w2] = x1[w1] x2[w2] in their tight
form: over w2 they sum to x1[w1], over w1 to x2[w2]. With binary x these y need not be declared binary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, milp
from scipy.sparse import csr_array

from host.search.network import Layer, LayerKind, Network, Part, Plan
from host.search.solution import Price, Widths

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
        self.columns = len(self._single) + len(self._pair)
        self._structure = self._structural_rows()

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
        side (a concatenation, a sum with a padded shortcut) is priced by the least-squares bilinear surface over its allowed
        widths: exact where the price is bilinear in the two widths.
        """
        coefficients, constant = np.zeros(self.columns), 0.0
        for layer in self._network.layers:
            if len(layer.outputs) > 1 or (layer.kind is not LayerKind.DEPTHWISE and len(layer.inputs) > 1):
                constant += self._add_joined(layer, price, coefficients)
            else:
                constant += self._add_plain(layer, price, coefficients)
        return Linear(coefficients=coefficients, constant=constant)

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
        constraints = [self._structure]
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
