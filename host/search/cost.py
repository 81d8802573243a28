"""What the planner asks of any cost that layers add up to, latency or energy: prices, predictions, and how far off they were.

Costs are fractions of the baseline's. A budget of 0.5 is half of the baseline's latency, or half of its energy per run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from host.search.network import Layer, Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutError:
    """Relative errors on plans that were left out of the fit, one at a time; `count` plans."""

    median: float
    maximum: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """Predicted cost of a plan over the baseline's.

    [low, high] covers nine in ten of the held-out errors (all of them below nine plans), and is wider where the model had to
    extrapolate; None with fewer than two plans to hold out. `extrapolated` names the layers with a width outside what was
    measured, or off the multiples that the device likes.
    """

    ratio: float
    low: float | None
    high: float | None
    extrapolated: tuple[str, ...]


class CostModel(Protocol):
    """A cost that is a sum over layers. The prices of all layers of a plan add up to its predicted ratio."""

    def price(self, layer: Layer, width_in: int, width_out: int) -> float:
        """Return the layer's fraction of the baseline's cost at these widths."""
        ...

    def predict(self, plan: Plan) -> Prediction:
        """Return the predicted ratio of `plan` to the baseline."""
        ...

    def held_out_error(self) -> HeldOutError | None:
        """Return the errors of plans predicted from the others; None with fewer than two measured plans."""
        ...


def summary(errors: Sequence[float]) -> HeldOutError | None:
    """Return what is reported of relative held-out errors."""
    if not errors:
        return None
    return HeldOutError(median=float(np.median(errors)), maximum=max(errors), count=len(errors))


def nine_in_ten(errors: Sequence[float]) -> float | None:
    """Return the error that nine in ten new plans stay below (split conformal), or the largest where too few tell."""
    if not errors:
        return None
    rank = math.ceil(0.9 * (len(errors) + 1))
    return sorted(errors)[min(rank, len(errors)) - 1]


def predicted(prices: Mapping[str, float], errors: Sequence[float], outside: Mapping[str, float]) -> Prediction:
    """Return the prediction of a plan from its layers' prices and the model's held-out errors.

    `outside` names the layers beyond what was measured, with their distance (a ratio's logarithm): that share of what they cost
    counts as unknown, and widens the interval.
    """
    ratio = sum(prices.values())
    spread = nine_in_ten(errors)
    if spread is not None and ratio > 0:
        spread += sum(abs(prices[name]) * distance for name, distance in outside.items()) / ratio
    return Prediction(
        ratio=ratio,
        low=None if spread is None else ratio / (1 + spread),
        high=None if spread is None else ratio * (1 + spread),
        extrapolated=tuple(outside),
    )
