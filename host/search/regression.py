"""From layer times to prices: fractions of the baseline's latency that add up to the paired end-to-end ratio.

Node times give the shares of the layers, pairs the total. Profiling costs time at every node, and a profiled run finds other
caches than a plain one; so what a layer's time counts for is calibrated on the pairs, for all layers together and a little for
each kind and size of layer. Where a runtime shows no node times, and none are known of other models, whole nets are regressed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import nnls

from host.search.features import INPUT_ELEMENTS, OUTPUT_ELEMENTS, Floats, Shape, plan_features
from host.search.granularity import INTERVAL_WIDTH, Granularity
from host.search.network import Layer, LayerKind, Network
from host.search.observations import Observation, observe, shapes
from host.search.prices import DEVIATION, ROBUST_STEPS, LayerPrices, huber, relative_nnls
from host.search.probe import Probe
from host.search.residuals import Spreads

#: Ratio of relative changes, end to end over node times: what it usually is, and how widely it varies over nets and boards.
SLOPE, SLOPE_DEVIATION = 1.1, 0.5
#: By how much that differs from one kind and size of layer to another.
STAGE_DEVIATION = 0.1
#: What is left of a ratio when all of that is known.
REST_DEVIATION = 0.006
#: A price keeps at least this share of the usual slope.
LEAST = 0.1
#: Pull of the whole-network regression to its prior; few nets cannot tell fifteen columns apart.
RIDGE = 0.03


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Fitted prices. A layer's is `weights` x its time, and its share of `overhead`, in fractions of the baseline's latency.

    A positive overhead is what no width changes; it is spread evenly and stays when layers vanish. A negative one is what
    profiling added to every node: it is spread by the layers' nodes and vanishes with them. `per_output` is what nodes that
    belong to no single layer take per output element.
    """

    prices: LayerPrices
    weights: Mapping[str, float]
    per_output: float
    overhead: float
    _known: dict[tuple[str, int, int], float] = field(default_factory=dict, compare=False, repr=False)

    def price(self, layer: Layer, width_in: int, width_out: int) -> float:
        """Return the layer's fraction of the baseline's latency."""
        key = (layer.name, width_in, width_out)
        if key not in self._known:
            self._known[key] = float(self.all_prices([(layer, width_in, width_out)])[0])
        return self._known[key]

    def total(self, network: Network, plan: Mapping[str, int]) -> float:
        """Return the ratio to the baseline of `plan`."""
        return float(self.all_prices([(layer, *layer.widths(plan)) for layer in network.layers]).sum())

    def all_prices(self, asked: Sequence[tuple[Layer, int, int]]) -> Floats:
        """Return the price of each (layer, input width, output width), shape (asked,)."""
        times = self.prices.times(asked)
        found = []
        for (layer, width_in, width_out), time in zip(asked, times.tolist(), strict=True):
            here = bool(width_in and width_out)
            outputs = self.prices.outputs(layer, width_out) if here else 0
            share = _share(self.prices.shapes, layer.name, self.overhead) if here or self.overhead > 0 else 0.0
            found.append(self.weights[layer.name] * time + self.per_output * outputs + share * self.overhead)
        return np.array(found)


def _share(of: Mapping[str, Shape], name: str, overhead: float) -> float:
    if overhead >= 0:
        return 1 / len(of)
    return (1 + of[name].following) / sum(1 + shape.following for shape in of.values())


def estimate(
    network: Network,
    probes: Sequence[Probe],
    granularity: Granularity | None,
    *,
    kept: Sequence[Observation] = (),
    spreads: Spreads | None = None,
) -> Estimate:
    """Fit `probes`; `kept` are layer times of other models on this device. `spreads` saves the search for them."""
    observed = observe(network, probes, granularity)
    if not observed and not kept:
        return _from_whole_nets(network, probes, granularity)
    prices = LayerPrices.fit([*observed, *kept], shapes(network, probes), granularity, spreads)
    return _calibrated(network, probes, prices)


def _calibrated(network: Network, probes: Sequence[Probe], prices: LayerPrices) -> Estimate:
    """Choose what layer times count for, so that the full plan is at 1 and the probes at their ratios.

    A ridge regression of relative errors on the sums over layers of equal kind and size; each ratio weighs by its interval, and
    less if it contradicts the others.
    """
    stages = [(layer.kind, layer.kernel, layer.input_pixels, layer.output_pixels) for layer in network.layers]
    names = list(dict.fromkeys(stages))
    member = np.array([[stage == name for stage in stages] for name in names], dtype=np.float64)

    def sums(plan: Mapping[str, int]) -> tuple[Floats, float]:
        widths = [layer.widths(plan) for layer in network.layers]
        times = prices.times([(layer, *each) for layer, each in zip(network.layers, widths, strict=True)])
        outputs = sum(
            prices.outputs(layer, out)
            for layer, (inward, out) in zip(network.layers, widths, strict=True)
            if inward and out
        )
        return member @ times, float(outputs)

    full, full_outputs = sums(network.full_plan().kept)
    each = [sums(probe.plan.kept) for probe in probes]
    fixed, per_output = _others(probes, np.array([outputs for _, outputs in each]))
    unit = float(full.sum()) + fixed + per_output * full_outputs
    changes = np.array([stage - full for stage, _ in each]) / unit
    rest = per_output * np.array([outputs - full_outputs for _, outputs in each]) / unit
    ratios, trust = _ratios(probes)
    total = changes.sum(axis=1) + rest
    design = np.column_stack([total, changes]) / ratios[:, None]
    target = (ratios - 1 - SLOPE * total) / ratios
    spread = np.array([SLOPE_DEVIATION, *[STAGE_DEVIATION] * len(names)])
    pull, weights, solution = np.diag((REST_DEVIATION / spread) ** 2), trust, np.zeros(len(spread))
    for _ in range(ROBUST_STEPS):
        solution = np.linalg.solve(design.T @ (weights[:, None] * design) + pull, design.T @ (weights * target))
        weights = trust * huber(design @ solution - target)
    slope = max(SLOPE + float(solution[0]), LEAST * SLOPE)
    counts = np.maximum(slope + solution[1:], LEAST * slope) / unit
    return Estimate(
        prices=prices,
        weights={
            layer.name: float(counts[names.index(stage)]) for layer, stage in zip(network.layers, stages, strict=True)
        },
        per_output=slope * per_output / unit,
        overhead=float(1 - counts @ full - slope * per_output * full_outputs / unit),
    )


def _others(probes: Sequence[Probe], outputs: Floats) -> tuple[float, float]:
    """Return what nodes that belong to no layer take: always, and per output element of all layers."""
    seen = [(probe.other, each) for probe, each in zip(probes, outputs.tolist(), strict=True) if probe.other]
    if not seen:
        return 0.0, 0.0
    design = np.array([[1.0, each] for _, each in seen])
    fixed, per_output = relative_nnls(design, np.array([other for other, _ in seen])).tolist()
    return fixed, per_output


def _from_whole_nets(network: Network, probes: Sequence[Probe], granularity: Granularity | None) -> Estimate:
    """Price MACs and elements per kind from end-to-end ratios alone.

    Columns are scaled to 1 at the baseline, so a price is a share of it. The prior gives half the time to
    MACs, three tenths to elements, the rest to a constant: it decides only what the nets leave open.
    """
    kinds = list(dict.fromkeys(layer.kind for layer in network.layers))
    members = [np.array([layer.kind is kind for layer in network.layers]) for kind in kinds]
    columns = [(member, feature) for member in members for feature in (0, INPUT_ELEMENTS, OUTPUT_ELEMENTS)]
    rows = [plan_features(network, probe.plan.kept, granularity) for probe in probes]
    baseline = plan_features(network, network.full_plan().kept, granularity)

    def summed(each: Floats) -> Floats:
        return np.array([*(each[member, feature].sum() for member, feature in columns), 1.0])

    size = summed(baseline)
    totals = baseline.sum(axis=0)
    shares = [size[index] / totals[feature] for index, (_, feature) in enumerate(columns)]
    weight = {0: 0.5, INPUT_ELEMENTS: 0.15, OUTPUT_ELEMENTS: 0.15}
    prior = np.array([*(share * weight[feature] for share, (_, feature) in zip(shares, columns, strict=True)), 0.2])
    design = np.array([summed(each) / size for each in (baseline, *rows)])
    ratios, trust = _ratios(probes, with_full=True)
    pull = np.sqrt(RIDGE / len(prior)) * np.eye(len(prior))
    relative, weights, solution = design / ratios[:, None], trust, prior
    for _ in range(ROBUST_STEPS):
        root = np.sqrt(weights)
        solution = nnls(np.vstack([relative * root[:, None], pull]), np.concatenate([root, pull @ prior]))[0]
        weights = trust * huber(relative @ solution - 1.0)
    coefficients: dict[LayerKind, tuple[float, ...]] = {}
    for place, kind in enumerate(kinds):
        macs, inputs, outputs = solution[3 * place : 3 * place + 3] / size[3 * place : 3 * place + 3]
        coefficients[kind] = (float(macs), 0.0, float(inputs), float(outputs), 0.0, 0.0, 0.0, 0.0)
    prices = LayerPrices(
        coefficients=coefficients,
        passes=dict.fromkeys(kinds, 0),
        shapes=shapes(network, ()),
        granularity=granularity,
        residuals=None,
    )
    return Estimate(
        prices=prices,
        weights={layer.name: 1.0 for layer in network.layers},
        per_output=0.0,
        overhead=float(solution[-1]),
    )


def _ratios(probes: Sequence[Probe], *, with_full: bool = False) -> tuple[Floats, Floats]:
    """Return the measured ratios and how much each counts by its interval, in (0, 1]; on request the full plan's 1 first."""
    first = [1.0] if with_full else []
    ratios = np.array([*first, *(probe.ratio for probe in probes)])
    widths = np.array([*(0.0 for _ in first), *(probe.ratio_high - probe.ratio_low for probe in probes)])
    return ratios, 1 / (1 + (widths / INTERVAL_WIDTH / ratios / DEVIATION) ** 2)
