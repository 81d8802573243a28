"""The latency model: what the device charges for every layer at every pair of widths, learned from whole-
network probes.

Node times of profiled nets give the shares of the layers, paired end-to-end ratios the total. MACs are one
feature among five, and never the price. `macs_line` is the model that others use, fitted for comparison only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from host.search.cost import HeldOutError, Prediction, nine_in_ten, summary
from host.search.granularity import Granularity
from host.search.network import Layer, Network, Plan
from host.search.probe import Probe, probe_plans
from host.search.regression import Estimate, estimate, features, plan_features

__all__ = ["HeldOutError", "LatencyModel", "MacsLine", "Prediction", "Probe", "macs_line", "probe_plans"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyModel:
    """Fitted prices of one network on one device, runtime and setting. Made by `fit`; a value.

    `full_ratio` is the latency of the full plan over the baseline's: 1 but where the variants are in another precision than the
    baseline. All ratios are to the baseline.
    """

    network: Network
    probes: tuple[Probe, ...]
    baseline_ns: float
    granularity: Granularity | None
    estimate: Estimate
    errors: tuple[float, ...]
    full_ratio: float = 1.0

    @classmethod
    def fit(
        cls,
        network: Network,
        probes: Sequence[Probe],
        baseline_ns: float,
        granularity: Granularity | None = None,
        *,
        full_ratio: float = 1.0,
    ) -> LatencyModel:
        """Fit `probes`; with node times from any of them per layer, else over whole nets. ValueError without
        a probe.
        """
        full = network.full_plan().key()
        if all(probe.plan.key() == full for probe in probes):
            raise ValueError("the latency model needs a probe of at least one plan narrower than the baseline")
        if not baseline_ns > 0:
            raise ValueError(f"baseline_ns must be positive, got {baseline_ns}")
        _check_names(network, probes)
        rows = [plan_features(network, probe.plan.kept, granularity) for probe in probes]
        baseline = plan_features(network, network.full_plan().kept, granularity)

        def priced(chosen: Sequence[int]) -> Estimate:
            own = [_over_full(probes[index], full_ratio) for index in chosen]
            found = estimate(network, own, [rows[index] for index in chosen], baseline)
            return replace(found, overhead=full_ratio * found.overhead, scale=full_ratio * found.scale)

        def refit(chosen: Sequence[int]) -> Callable[[int], float]:
            part = priced(chosen)
            return lambda index: part.total(network, rows[index])

        return cls(
            network=network,
            probes=tuple(probes),
            baseline_ns=baseline_ns,
            granularity=granularity,
            estimate=priced(range(len(probes))),
            errors=_left_out(network, probes, refit),
            full_ratio=full_ratio,
        )

    def updated(self, probe: Probe) -> LatencyModel:
        """Return the model fitted with one more measured plan."""
        probes = (*self.probes, probe)
        return LatencyModel.fit(self.network, probes, self.baseline_ns, self.granularity, full_ratio=self.full_ratio)

    def price(self, layer: Layer, width_in: int, width_out: int) -> float:
        """Return the layer's fraction of the baseline's latency at these widths.

        What belongs to no layer is spread evenly, so that the prices of all layers add up to the predicted
        ratio.
        """
        row = features(layer, width_in, width_out, self.granularity)
        return self.estimate.layer(layer, row) + self.estimate.overhead / len(self.network.layers)

    def predict(self, plan: Plan) -> Prediction:
        """Return the predicted ratio of `plan`, with its interval and the layers where the model had to
        extrapolate.
        """
        ratio = self.estimate.total(self.network, plan_features(self.network, plan.kept, self.granularity))
        spread = nine_in_ten(self.errors)
        return Prediction(
            ratio=ratio,
            low=None if spread is None else ratio / (1 + spread),
            high=None if spread is None else ratio * (1 + spread),
            extrapolated=self._extrapolated(plan),
        )

    def held_out_error(self) -> HeldOutError | None:
        """Return the leave-one-out error over the probed plans; None with fewer than two of them."""
        return summary(self.errors)

    def _extrapolated(self, plan: Plan) -> tuple[str, ...]:
        full = self.network.full_plan()
        plans = [full, *(probe.plan for probe in self.probes)]
        outside = []
        for layer in self.network.layers:
            seen = np.array([layer.widths(each.kept) for each in plans])
            widths = layer.widths(plan.kept)
            if 0 in widths:
                continue
            beyond = bool(((widths < seen.min(axis=0)) | (widths > seen.max(axis=0))).any())
            known = any(widths == (inward, outward) for inward, outward in seen.tolist())
            slow = self.granularity is not None and not self.granularity.fast(layer, *widths)
            if beyond or (slow and not known):
                outside.append(layer.name)
        return tuple(outside)


@dataclass(frozen=True, slots=True, kw_only=True)
class MacsLine:
    """Latency ratio as `slope * MACs + intercept`, with its leave-one-out errors. For comparison only."""

    slope: float
    intercept: float
    errors: tuple[float, ...]

    def predict(self, macs: int) -> float:
        """Return the ratio to the baseline for a number of MACs."""
        return self.slope * macs + self.intercept

    def held_out_error(self) -> HeldOutError | None:
        """Return the leave-one-out error over the probed plans; None with fewer than two of them."""
        return summary(self.errors)


def macs_line(network: Network, probes: Sequence[Probe]) -> MacsLine:
    """Fit a least-squares line over the MACs of the same probes and the baseline, which the latency model
    gets too.
    """
    macs = np.array([network.macs(probe.plan.kept) for probe in probes], dtype=np.float64)
    ratios = np.array([probe.ratio for probe in probes])
    full = float(network.macs(network.full_plan().kept))

    def line(chosen: Sequence[int]) -> tuple[float, float]:
        at = np.append(macs[list(chosen)], full)
        slope, intercept = np.linalg.lstsq(
            np.column_stack([at, np.ones_like(at)]), np.append(ratios[list(chosen)], 1.0), rcond=None
        )[0].tolist()
        return slope, intercept

    def refit(chosen: Sequence[int]) -> Callable[[int], float]:
        slope, intercept = line(chosen)
        return lambda index: slope * float(macs[index]) + intercept

    slope, intercept = line(range(len(probes)))
    return MacsLine(slope=slope, intercept=intercept, errors=_left_out(network, probes, refit))


def _over_full(probe: Probe, full_ratio: float) -> Probe:
    """Return the probe with its ratio to the full plan's latency in place of that to the baseline's."""
    ratio, low, high = (each / full_ratio for each in (probe.ratio, probe.ratio_low, probe.ratio_high))
    return replace(probe, ratio=ratio, ratio_low=low, ratio_high=high)


def _check_names(network: Network, probes: Sequence[Probe]) -> None:
    layers, groups = {layer.name for layer in network.layers}, {group.name for group in network.groups}
    for probe in probes:
        missing, unknown = groups - set(probe.plan.kept), set(probe.nodes or {}) - layers
        if missing or unknown:
            raise ValueError(
                f"probe does not fit the network: groups without a width {sorted(missing)}, "
                f"node times of unknown layers {sorted(unknown)}"
            )


def _left_out(
    network: Network, probes: Sequence[Probe], refit: Callable[[Sequence[int]], Callable[[int], float]]
) -> tuple[float, ...]:
    """Return the relative errors of plans left out one at a time, with every measurement of the same plan."""
    keys = [probe.plan.key() for probe in probes]
    plans = [key for key in dict.fromkeys(keys) if key != network.full_plan().key()]
    if len(plans) < 2:
        return ()
    errors = []
    for left in plans:
        predict = refit([index for index, key in enumerate(keys) if key != left])
        mine = [index for index, key in enumerate(keys) if key == left]
        errors.append(abs(predict(mine[0]) / float(np.median([probes[index].ratio for index in mine])) - 1))
    return tuple(errors)
