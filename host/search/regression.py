"""What the latency model fits: non-negative prices per kind of layer, corrections per layer, and the end-to-
end scale.

All regressions minimise relative errors: a layer of 20 us must be as right as one of 2 ms, since plans trade
them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from host.search.granularity import INTERVAL_WIDTH, Granularity
from host.search.network import Layer, LayerKind, Network
from host.search.probe import Probe

Floats = npt.NDArray[np.float64]

#: MACs, input elements, output elements, weights, one.
FEATURES = 5
OUTPUT_ELEMENTS = 2
#: A prior on the end-to-end offset, as a share of the baseline: profiling every node adds a time that plain
#: runs lack.
OFFSET_DEVIATION = 0.1
#: What a paired ratio is commonly off by.
RATIO_DEVIATION = 0.01
#: Turns of reweighting; the weights settle in a few.
ROBUST_STEPS = 5
#: Pull of the whole-network regression to its prior; few nets cannot tell fifteen columns apart.
RIDGE = 0.03


def features(layer: Layer, width_in: int, width_out: int, granularity: Granularity | None) -> Floats:
    """Return the layer's features, shape (5,). Bilinear in the two widths on the device's multiples.

    A width off the multiples counts as the next one, times what the device was seen to charge for being off.
    """
    if not width_in or not width_out:  # the layer is gone, with the branch that it belongs to
        return np.zeros(FEATURES)
    inward, outward, charge = width_in, width_out, 1.0
    if granularity is not None:
        inward, outward, charge = granularity.effective(layer, width_in, width_out)
    if layer.kind is LayerKind.DEPTHWISE:
        inward = outward
        weights = float(outward * layer.kernel)
    else:
        weights = inward * outward * layer.kernel / layer.groups
    return charge * np.array(
        [
            weights * layer.output_pixels,
            inward * layer.input_pixels,
            outward * layer.output_pixels,
            weights,
            1.0,
        ]
    )


def plan_features(network: Network, plan: Mapping[str, int], granularity: Granularity | None) -> Floats:
    """Return the features of every layer, shape (layers, 5)."""
    return np.array([features(layer, *layer.widths(plan), granularity) for layer in network.layers])


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Fitted numbers. A layer's time is `scale * (correction * coefficients . features + per_output *
    outputs)`, in fractions of the baseline's latency; `overhead` is what no width changes, scale and offset
    already applied."""

    coefficients: Mapping[LayerKind, tuple[float, ...]]
    corrections: Mapping[str, float]
    per_output: float
    overhead: float
    scale: float

    def layer(self, layer: Layer, row: Floats) -> float:
        """Return the layer's share for its features `row`, shape (5,), without overhead."""
        own = self.corrections.get(layer.name, 1.0) * float(np.dot(self.coefficients[layer.kind], row))
        return self.scale * (own + self.per_output * float(row[OUTPUT_ELEMENTS]))

    def total(self, network: Network, rows: Floats) -> float:
        """Return the ratio to the baseline for `rows`, shape (layers, 5)."""
        return self.overhead + sum(self.layer(layer, row) for layer, row in zip(network.layers, rows, strict=True))


def estimate(network: Network, probes: Sequence[Probe], rows: Sequence[Floats], baseline: Floats) -> Estimate:
    """Fit `probes`, whose features are `rows` (each of shape (layers, 5)); `baseline` has the full plan's
    features.
    """
    if any(probe.nodes for probe in probes):
        raw, fixed = _from_nodes(network, probes, rows)
    else:
        raw, fixed = _from_whole_nets(network, probes, rows, baseline)
    predicted = np.array([fixed + raw.total(network, each) for each in (baseline, *rows)])
    scale, offset = _calibrate(predicted, probes)
    return Estimate(
        coefficients=raw.coefficients,
        corrections=raw.corrections,
        per_output=raw.per_output,
        overhead=scale * fixed + offset,
        scale=scale,
    )


def _relative_nnls(matrix: Floats, target: Floats) -> Floats:
    """Return x >= 0, shape (columns,), that minimises the relative error of `matrix @ x` to a positive
    `target`.

    Rows that the others call wrong (a neighbour on the board, a page fault) count less: Huber's weights.
    """
    size = matrix.max(axis=0)
    size[size == 0] = 1.0
    relative, weights = matrix / size / target[:, None], np.ones(len(target))
    solution = np.zeros(matrix.shape[1])
    for _ in range(ROBUST_STEPS):
        root = np.sqrt(weights)
        solution = nnls(relative * root[:, None], root)[0]
        weights = _huber(relative @ solution - 1.0)
    return np.asarray(solution / size, dtype=np.float64)


def _huber(residuals: Floats) -> Floats:
    """Return weights in (0, 1]: 1 within two robust standard deviations, then falling as one over the
    distance.
    """
    deviation = max(1.483 * float(np.median(np.abs(residuals))), RATIO_DEVIATION)
    return np.asarray(np.minimum(1.0, 2 * deviation / np.maximum(np.abs(residuals), 1e-12)), dtype=np.float64)


def _from_nodes(network: Network, probes: Sequence[Probe], rows: Sequence[Floats]) -> tuple[Estimate, float]:
    coefficients: dict[LayerKind, tuple[float, ...]] = {}
    corrections: dict[str, float] = {}
    for kind in dict.fromkeys(layer.kind for layer in network.layers):
        names, matrix, times = [], [], []
        for index, layer in enumerate(network.layers):
            if layer.kind is kind:
                for probe, each in zip(probes, rows, strict=True):
                    time = (probe.nodes or {}).get(layer.name)
                    if time:
                        names.append(layer.name)
                        matrix.append(each[index])
                        times.append(time)
        if not times:  # the runtime shows no such nodes: their time is in `other`, or in the end-to-end scale
            coefficients[kind] = (0.0,) * FEATURES
            continue
        design, target = np.array(matrix), np.array(times)
        own: dict[str, float] = {}
        for _ in range(2):  # prices and corrections in turns; they settle at once
            factor = np.array([own.get(name, 1.0) for name in names])
            prices = _relative_nnls(design, target / factor)
            own = _corrections(names, np.log(target / np.maximum(design @ prices, 1e-12)))
        coefficients[kind] = tuple(prices.tolist())
        corrections.update(own)
    seen = [(probe.other, each) for probe, each in zip(probes, rows, strict=True) if probe.other]
    fixed = per_output = 0.0
    if seen:
        outputs = np.array([[1.0, each[:, OUTPUT_ELEMENTS].sum()] for _, each in seen])
        fixed, per_output = _relative_nnls(outputs, np.array([other for other, _ in seen])).tolist()
    return _raw(coefficients, corrections, per_output), fixed


def _corrections(names: Sequence[str], residuals: Floats) -> dict[str, float]:
    """Return a factor per layer from log residuals, shrunk to 1 as far as their scatter asks (James and Stein
    1961).
    """
    grouped: dict[str, list[float]] = {}
    for name, residual in zip(names, residuals.tolist(), strict=True):
        grouped.setdefault(name, []).append(residual)
    means = {name: float(np.mean(each)) for name, each in grouped.items()}
    degrees = sum(len(each) - 1 for each in grouped.values())
    spread = float(np.mean(np.square(list(means.values()))))
    scatter = sum(float(np.var(each)) * len(each) for each in grouped.values())
    # With one measurement per layer, scatter and character cannot be told apart: half counts as each.
    within = scatter / degrees if degrees else spread / 2
    between = max(spread - within * len(grouped) / len(residuals), 0.0)
    return {
        name: float(np.exp(means[name] * between / (between + within / len(each)))) if between > 0 else 1.0
        for name, each in grouped.items()
    }


def _from_whole_nets(
    network: Network, probes: Sequence[Probe], rows: Sequence[Floats], baseline: Floats
) -> tuple[Estimate, float]:
    """Price MACs and elements per kind from end-to-end ratios alone.

    Columns are scaled to 1 at the baseline, so a price is a share of it. The prior gives half the time to
    MACs, three tenths to elements, the rest to a constant: it decides only what the nets leave open.
    """
    kinds = list(dict.fromkeys(layer.kind for layer in network.layers))
    members = [np.array([layer.kind is kind for layer in network.layers]) for kind in kinds]
    columns = [(member, feature) for member in members for feature in (0, 1, 2)]

    def summed(each: Floats) -> Floats:
        return np.array([*(each[member, feature].sum() for member, feature in columns), 1.0])

    size = summed(baseline)
    totals = baseline.sum(axis=0)
    shares = [size[index] / totals[feature] for index, (_, feature) in enumerate(columns)]
    weight = (0.5, 0.15, 0.15)
    prior = np.array([*(share * weight[feature] for share, (_, feature) in zip(shares, columns, strict=True)), 0.2])
    design = np.array([summed(each) / size for each in (baseline, *rows)])
    ratios, trust = _ratios(probes)
    pull = np.sqrt(RIDGE / len(prior)) * np.eye(len(prior))
    relative, weights, solution = design / ratios[:, None], trust, prior
    for _ in range(ROBUST_STEPS):
        root = np.sqrt(weights)
        solution = nnls(np.vstack([relative * root[:, None], pull]), np.concatenate([root, pull @ prior]))[0]
        weights = trust * _huber(relative @ solution - 1.0)
    coefficients = {
        kind: (*(solution[3 * place : 3 * place + 3] / size[3 * place : 3 * place + 3]).tolist(), 0.0, 0.0)
        for place, kind in enumerate(kinds)
    }
    return _raw(coefficients, {}, 0.0), float(solution[-1])


def _raw(
    coefficients: Mapping[LayerKind, tuple[float, ...]], corrections: Mapping[str, float], per_output: float
) -> Estimate:
    return Estimate(coefficients=coefficients, corrections=corrections, per_output=per_output, overhead=0.0, scale=1.0)


def _calibrate(predicted: Floats, probes: Sequence[Probe]) -> tuple[float, float]:
    """Return (scale, offset) that take predicted sums of node times, the baseline's first, to end-to-end
    ratios.

    Each ratio weighs by its interval. The offset comes from a robust least squares with a prior at 0; the
    scale is then the weighted median, which a bad pair cannot move.
    """
    ratios, trust = _ratios(probes)
    design = np.column_stack([predicted, np.ones_like(predicted)]) / ratios[:, None]
    prior = np.array([[0.0, RATIO_DEVIATION / OFFSET_DEVIATION]])
    weights, solution = trust, np.array([1.0, 0.0])
    for _ in range(ROBUST_STEPS):
        root = np.sqrt(weights)
        solution = np.linalg.lstsq(np.vstack([design * root[:, None], prior]), np.append(root, 0.0), rcond=None)[0]
        weights = trust * _huber(design @ solution - 1.0)
    # An offset that ate more than half of the fastest net would price small nets below nothing.
    offset = float(np.clip(solution[1], -ratios.min() / 2, ratios.min() / 2))
    return _weighted_median((ratios - offset) / predicted, trust), offset


def _ratios(probes: Sequence[Probe]) -> tuple[Floats, Floats]:
    """Return the measured ratios, the baseline's 1 first, and how much each counts by its interval, in (0,
    1].
    """
    ratios = np.array([1.0, *(probe.ratio for probe in probes)])
    widths = np.array([0.0, *(probe.ratio_high - probe.ratio_low for probe in probes)])
    return ratios, 1 / (1 + (widths / INTERVAL_WIDTH / ratios / RATIO_DEVIATION) ** 2)


def _weighted_median(values: Floats, weights: Floats) -> float:
    order = np.argsort(values)
    shares = (np.cumsum(weights[order]) - weights[order] / 2) / weights.sum()
    return float(np.interp(0.5, shares, values[order]))
