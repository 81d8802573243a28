"""Whole-network probes: which plans to measure, and what a measurement of one looks like."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from host.search.network import Network, Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One plan, measured in turns with the baseline.

    `ratio` is the paired end-to-end latency over the baseline's, with its interval. `nodes` maps a layer's name to its profiled
    time as a fraction of the baseline's total profiled time in the same window (drift cancels); None where the runtime gives no
    node times. A layer missing from it was not matched. `other` is the rest of the profiled time in the same unit, nodes that
    belong to no layer; None if unknown. `baseline_nodes` are the baseline's own, in the same unit, if it is the full plan in the
    same precision. Where a layer's time includes that of nodes which follow it and are no layer's, `followers` counts them, in
    the full plan. The unit lasts `unit_ns`, None if unknown. The baseline itself may be given: full plan, ratio 1.
    """

    plan: Plan
    ratio: float
    ratio_low: float
    ratio_high: float
    nodes: Mapping[str, float] | None = None
    other: float | None = None
    baseline_nodes: Mapping[str, float] | None = None
    followers: Mapping[str, int] | None = None
    unit_ns: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.ratio_low <= self.ratio <= self.ratio_high or not math.isfinite(self.ratio_high):
            raise ValueError(f"probe ratio {self.ratio} in [{self.ratio_low}, {self.ratio_high}]")
        times = [*(self.nodes or {}).items(), *(self.baseline_nodes or {}).items()]
        wrong = {name: time for name, time in times if not (time >= 0 and math.isfinite(time))}
        if wrong:
            raise ValueError(f"node times must be finite and not negative: {wrong}")
        if self.other is not None and not (self.other >= 0 and math.isfinite(self.other)):
            raise ValueError(f"other must be finite and not negative, got {self.other}")
        if self.unit_ns is not None and not (self.unit_ns > 0 and math.isfinite(self.unit_ns)):
            raise ValueError(f"unit_ns must be positive, got {self.unit_ns}")


def probe_plans(network: Network, widths: Mapping[str, tuple[int, ...]], count: int, seed: int) -> tuple[Plan, ...]:
    """Return up to `count` different plans over `widths` (ascending, by group name) that vary every group
    alike.

    A Latin hypercube (McKay, Beckman, Conover 1979) on `count` evenly spaced levels: each group takes each
    level once. The first plan keeps the smallest width of every group, so that the fastest the device can go
    is measured and no later prediction lies below what was seen; the levels of the others are drawn. The full
    plan is left out.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    rng = np.random.default_rng(seed)
    kept: list[dict[str, int]] = [{} for _ in range(count)]
    for group in network.groups:
        levels = widths[group.name]
        order = (0, *(1 + rng.permutation(count - 1)))
        for plan, level in zip(kept, order, strict=True):
            # Levels end one short of the full width, which the baseline shows: (level + jitter) over count.
            place = (level + rng.random()) / count if level else 0.0
            plan[group.name] = levels[min(int(place * len(levels)), len(levels) - 1)]
    full = network.full_plan().key()
    unique = {plan.key(): plan for plan in (Plan(kept=each) for each in kept)}
    return tuple(plan for key, plan in unique.items() if key != full)
