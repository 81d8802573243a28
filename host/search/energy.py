"""The energy model: what a run of a plan takes of the battery, as a fraction of the baseline's energy per run.

A layer's energy is its time times the power that the board draws meanwhile. The latency model has the times; kinds of layers
differ in power, since some wait for memory and some keep the arithmetic units busy. So a few measured plans are enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from host.search.cost import HeldOutError, Prediction, predicted, summary
from host.search.features import Floats
from host.search.latency import LatencyModel
from host.search.network import Layer, LayerKind, Plan

#: By how much the power during one kind of layer commonly differs from the mean.
POWER_DEVIATION = 0.3
#: What a plan's energy is off by beyond what the meter says of itself.
REST_DEVIATION = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyProbe:
    """A plan's measured energy per run over the baseline's, and its relative standard deviation."""

    plan: Plan
    ratio: float
    deviation: float

    def __post_init__(self) -> None:
        if not (0 < self.ratio < math.inf and 0 <= self.deviation < math.inf):
            raise ValueError(f"energy ratio {self.ratio} with deviation {self.deviation}")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyModel:
    """Prices in energy of one network on one device, a `CostModel`. Made by `fit`; a value.

    `powers` holds the power during each kind of layer over the mean power of a baseline's run.
    """

    latency: LatencyModel
    probes: tuple[EnergyProbe, ...]
    powers: Mapping[LayerKind, float]
    errors: tuple[float, ...]
    full_ratio: float = 1.0

    @classmethod
    def fit(cls, latency: LatencyModel, probes: Sequence[EnergyProbe], *, full_ratio: float = 1.0) -> EnergyModel:
        """Fit `probes` on the times of `latency`; without any, energy is taken to follow the time.

        `full_ratio` is the full plan's energy over the baseline's: 1 but where variants are in another precision.
        """
        network = latency.network
        kinds = tuple(dict.fromkeys(layer.kind for layer in network.layers))
        plans = [*(probe.plan for probe in probes), network.full_plan()]
        rows = [_by_kind(latency, kinds, plan) for plan in plans]
        ratios = np.array([*(probe.ratio for probe in probes), full_ratio])
        # The baseline is the unit of all others, so it is exact.
        deviations = np.array([*(math.hypot(probe.deviation, REST_DEVIATION) for probe in probes), REST_DEVIATION / 10])

        def powers(chosen: Sequence[int]) -> Floats:
            picked = [*chosen, len(probes)]
            weights = 1 / (ratios[picked] * deviations[picked])
            pull = np.eye(len(kinds)) / POWER_DEVIATION
            matrix = np.vstack([np.array(rows)[picked] * weights[:, None], pull])
            target = np.concatenate([ratios[picked] * weights, pull.sum(axis=1)])
            return np.asarray(nnls(matrix, target)[0], dtype=np.float64)

        found = powers(range(len(probes)))
        return cls(
            latency=latency,
            probes=tuple(probes),
            powers=dict(zip(kinds, found.tolist(), strict=True)),
            errors=_left_out(probes, powers, rows),
            full_ratio=full_ratio,
        )

    def updated(self, *probes: EnergyProbe) -> EnergyModel:
        """Return the model fitted with more measured plans."""
        return EnergyModel.fit(self.latency, (*self.probes, *probes), full_ratio=self.full_ratio)

    def price(self, layer: Layer, width_in: int, width_out: int) -> float:
        """Return the layer's fraction of the baseline's energy at these widths."""
        return self.powers[layer.kind] * self.latency.price(layer, width_in, width_out)

    def predict(self, plan: Plan) -> Prediction:
        """Return the predicted ratio of `plan` to the baseline's energy per run."""
        prices = {layer.name: self.price(layer, *layer.widths(plan.kept)) for layer in self.latency.network.layers}
        return predicted(prices, self.errors, self.latency.extrapolated(plan))

    def held_out_error(self) -> HeldOutError | None:
        """Return the errors of measured plans predicted from the others; None with fewer than two of them."""
        return summary(self.errors)


def _by_kind(latency: LatencyModel, kinds: Sequence[LayerKind], plan: Plan) -> Floats:
    shares = dict.fromkeys(kinds, 0.0)
    for layer in latency.network.layers:
        shares[layer.kind] += latency.price(layer, *layer.widths(plan.kept))
    return np.array(list(shares.values()))


def _left_out(
    probes: Sequence[EnergyProbe], powers: Callable[[Sequence[int]], Floats], rows: Sequence[Floats]
) -> tuple[float, ...]:
    keys = [probe.plan.key() for probe in probes]
    if len(set(keys)) < 2:
        return ()
    errors = []
    for key in dict.fromkeys(keys):
        found = powers([index for index, other in enumerate(keys) if other != key])
        mine = [index for index, other in enumerate(keys) if other == key]
        measured = float(np.median([probes[index].ratio for index in mine]))
        errors.append(abs(float(found @ rows[mine[0]]) / measured - 1))
    return tuple(errors)
