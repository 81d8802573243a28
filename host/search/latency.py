"""The latency model: what the device charges for every layer at every pair of widths, learned from whole-network probes.

Node times of profiled nets give the shares of the layers, paired end-to-end ratios the total. MACs are one feature among others,
and never the price. `macs_line` is the model that others use, fitted for comparison only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from host.search.cost import HeldOutError, Prediction, predicted, summary
from host.search.granularity import Granularity
from host.search.network import Layer, Network, Plan
from host.search.observations import Observation, observe, pooled
from host.search.probe import Probe, probe_plans
from host.search.regression import Estimate, estimate

__all__ = ["HeldOutError", "LatencyModel", "MacsLine", "Prediction", "Probe", "macs_line", "probe_plans"]

#: By how much, at least, the time of a layer beyond what was measured counts as unknown.
LEAST_DOUBT = 0.1
#: Plans are left out one at a time, or in this many parts where there are more: every part is a fit.
MOST_PARTS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyModel:
    """Fitted prices of one network on one device, runtime and setting. Made by `fit`; a value.

    `full_ratio` is the latency of the full plan over the baseline's: 1 but where the variants are in another precision than the
    baseline. All ratios are to the baseline. `kept` are layer times of other models on this device, which it leans on.
    """

    network: Network
    probes: tuple[Probe, ...]
    baseline_ns: float
    granularity: Granularity | None
    estimate: Estimate
    errors: tuple[float, ...]
    full_ratio: float = 1.0
    kept: tuple[Observation, ...] = ()

    @classmethod
    def fit(
        cls,
        network: Network,
        probes: Sequence[Probe],
        baseline_ns: float,
        granularity: Granularity | None = None,
        *,
        full_ratio: float = 1.0,
        kept: Sequence[Observation] = (),
    ) -> LatencyModel:
        """Fit `probes`: per layer with node times from any of them or with `kept` ones, else over whole nets.

        ValueError without a probe of a plan that is narrower than the baseline.
        """
        full = network.full_plan().key()
        if all(probe.plan.key() == full for probe in probes):
            raise ValueError("the latency model needs a probe of at least one plan narrower than the baseline")
        if not baseline_ns > 0:
            raise ValueError(f"baseline_ns must be positive, got {baseline_ns}")
        _check_names(network, probes)
        own = [_over_full(probe, full_ratio) for probe in probes]
        found = estimate(network, own, granularity, kept=kept)
        # Spreads are numbers of the device: those found with all probes serve the fits that leave some out.
        spreads = None if found.prices.residuals is None else found.prices.residuals.spreads

        def refit(chosen: Sequence[int]) -> Callable[[int], float]:
            part = estimate(network, [own[index] for index in chosen], granularity, kept=kept, spreads=spreads)
            return lambda index: full_ratio * part.total(network, probes[index].plan.kept)

        return cls(
            network=network,
            probes=tuple(probes),
            baseline_ns=baseline_ns,
            granularity=granularity,
            estimate=found,
            errors=_left_out(network, probes, refit),
            full_ratio=full_ratio,
            kept=tuple(kept),
        )

    def updated(self, *probes: Probe) -> LatencyModel:
        """Return the model fitted with more measured plans."""
        return self._with((*self.probes, *probes))

    def without(self, plan: Plan) -> LatencyModel | None:
        """Return the model fitted without the measurements of `plan`; None if no other is left."""
        others = tuple(probe for probe in self.probes if probe.plan.key() != plan.key())
        full = self.network.full_plan().key()
        return None if all(probe.plan.key() == full for probe in others) else self._with(others)

    def _with(self, probes: tuple[Probe, ...]) -> LatencyModel:
        return LatencyModel.fit(
            self.network, probes, self.baseline_ns, self.granularity, full_ratio=self.full_ratio, kept=self.kept
        )

    def price(self, layer: Layer, width_in: int, width_out: int) -> float:
        """Return the layer's fraction of the baseline's latency at these widths, 0 of which mean that it is gone.

        What belongs to no layer is spread over all, so that the prices of all layers add up to the predicted ratio.
        """
        return self.full_ratio * self.estimate.price(layer, width_in, width_out)

    def predict(self, plan: Plan) -> Prediction:
        """Return the predicted ratio of `plan`, with its interval and the layers where the model had to extrapolate.

        What the layers that are extrapolated take counts as unknown by as much as their widths lie outside of what was seen.
        """
        prices = {layer.name: self.price(layer, *layer.widths(plan.kept)) for layer in self.network.layers}
        outside = self.extrapolated(plan)
        return predicted(prices, self.errors, outside)

    def held_out_error(self) -> HeldOutError | None:
        """Return the errors of probed plans predicted from the others; None with fewer than two of them."""
        return summary(self.errors)

    def observations(self) -> list[Observation]:
        """Return the layer times in nanoseconds, for other models on this device: none where the runtime gives none."""
        units = [probe.unit_ns for probe in self.probes if probe.unit_ns is not None]
        return pooled(observe(self.network, self.probes, self.granularity), float(np.median(units))) if units else []

    def extrapolated(self, plan: Plan) -> dict[str, float]:
        """Return the layers with a width beyond those measured, or slow and never measured, and by how much (in logarithms)."""
        plans = [self.network.full_plan(), *(probe.plan for probe in self.probes)]
        outside = {}
        for layer in self.network.layers:
            seen = np.array([layer.widths(each.kept) for each in plans], dtype=np.float64)
            widths = np.array(layer.widths(plan.kept), dtype=np.float64)
            if not widths.all():  # gone with its branch
                continue
            low, high = seen.min(axis=0), seen.max(axis=0)
            beyond = float(np.log(np.maximum((low + 1) / (widths + 1), (widths + 1) / (high + 1))).max())
            known = bool((seen == widths).all(axis=1).any())
            slow = self.granularity is not None and not self.granularity.fast(layer, *layer.widths(plan.kept))
            if beyond > 0 or (slow and not known):
                outside[layer.name] = max(beyond, LEAST_DOUBT)
        return outside


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
    """Return the relative errors of plans predicted from the others, all measurements of a plan left out together."""
    keys = [probe.plan.key() for probe in probes]
    plans = [key for key in dict.fromkeys(keys) if key != network.full_plan().key()]
    if len(plans) < 2:
        return ()
    parts = min(MOST_PARTS, len(plans))
    errors = dict.fromkeys(plans, 0.0)
    for part in range(parts):
        left = plans[part::parts]
        predict = refit([index for index, key in enumerate(keys) if key not in left])
        for key in left:
            mine = [index for index, other in enumerate(keys) if other == key]
            errors[key] = abs(predict(mine[0]) / float(np.median([probes[index].ratio for index in mine])) - 1)
    return tuple(errors.values())
