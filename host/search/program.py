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
        for part in layer.inputs:
            other = layer.output_group
            if layer.kind is LayerKind.DEPTHWISE or other is None or other == part.group:
                continue
            if (other, part.group) not in pairs:
                pairs[(part.group, other)] = None
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

        Exact for layers with at most one input part, whatever the price. A layer whose input joins several
        parts (a concatenation) is priced by the least-squares bilinear surface over its allowed widths: exact
        where the price is bilinear in the two widths.
        """
        coefficients, constant = np.zeros(self.columns), 0.0
        for layer in self._network.layers:
            if layer.kind is not LayerKind.DEPTHWISE and len(layer.inputs) > 1:
                constant += self._add_joined(layer, price, coefficients)
            else:
                constant += self._add_plain(layer, price, coefficients)
        return Linear(coefficients=coefficients, constant=constant)

    def _add_plain(self, layer: Layer, price: Price, into: Floats) -> float:
        source = layer.inputs[0].group if layer.inputs else None
        target = layer.output_group
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
        constant, inward, outward, both = self._surface(layer, price)
        target = layer.output_group
        if target is None:
            constant += outward * layer.output_channels
            inward, both = inward + both * layer.output_channels, 0.0
        else:
            for width in self._widths[target]:
                into[self._single[(target, width)]] += (outward + both * layer.input_fixed) * width
        for part in layer.inputs:
            for one in self._widths[part.group]:
                into[self._single[(part.group, one)]] += inward * part.features * one
                if target is None or both == 0.0:
                    continue
                if target == part.group:
                    into[self._single[(target, one)]] += both * part.features * one * one
                else:
                    for two in self._widths[target]:
                        into[self._column(part.group, one, target, two)] += both * part.features * one * two
        return constant + inward * layer.input_fixed

    def _surface(self, layer: Layer, price: Price) -> tuple[float, float, float, float]:
        """Return (a, b, c, d) of a + b in + c out + d in out, fitted to `price` over a grid of the layer's
        widths.
        """
        levels = max(len(self._widths[part.group]) for part in layer.inputs)
        ins = {
            layer.input_fixed + sum(self._at(part, level, levels) for part in layer.inputs) for level in range(levels)
        }
        target = layer.output_group
        outs = (layer.output_channels,) if target is None else self._widths[target]
        grid = list(product(sorted(ins), outs))
        matrix = np.array([(1.0, inward, outward, inward * outward) for inward, outward in grid])
        size = np.abs(matrix).max(axis=0)
        values = np.array([price(layer, inward, outward) for inward, outward in grid])
        solution = np.linalg.lstsq(matrix / size, values, rcond=None)[0] / size
        return (float(solution[0]), float(solution[1]), float(solution[2]), float(solution[3]))

    def _at(self, part: Part, level: int, levels: int) -> int:
        """Return the part's input features where its group stands at `level` of `levels` between its
        widths.
        """
        allowed = self._widths[part.group]
        return part.features * allowed[round(level / max(levels - 1, 1) * (len(allowed) - 1))]

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
