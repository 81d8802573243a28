"""What the planner answers, and the two things that it prices: latency and parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from host.constraints import ConstraintNotMet
from host.search.latency import LatencyModel
from host.search.network import Layer, LayerKind, Network, Plan

#: A budget counts as kept within this relative tolerance: the solver's own rounding, far below any
#: measurement.
TOLERANCE = 1e-6

#: (layer, input width, output width) -> fraction of the baseline's latency. Summed over all layers: the
#: ratio.
Price: TypeAlias = Callable[[Layer, int, int], float]
#: Allowed widths per group name, ascending.
Widths: TypeAlias = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """A plan with its predicted ratio to the baseline's latency, and the sum of its groups' losses.

    `loss` is None where no losses were given. `gap` is the proven relative distance of `loss` to the best
    possible; None where nothing is proven (a uniform plan, or a time limit before the first bound).
    """

    plan: Plan
    predicted_ratio: float
    loss: float | None
    gap: float | None
    seconds: float


class Infeasible(ConstraintNotMet):
    """No plan over the allowed widths fits the constraints.

    `fastest_ratio` is the lowest ratio that any plan within the size budget is predicted to reach, and
    `fastest_plan` that plan. Where the size budget alone cannot be met, both belong to the smallest plan.
    """

    def __init__(self, message: str, *, fastest_ratio: float, fastest_plan: Plan) -> None:
        super().__init__(message)
        self.fastest_ratio = fastest_ratio
        self.fastest_plan = fastest_plan


def price_of(price: Price | LatencyModel) -> Price:
    """Return the pricing function of a model, or the function itself."""
    return price.price if isinstance(price, LatencyModel) else price


def parameters_of(layer: Layer, width_in: int, width_out: int) -> float:
    """Return the layer's weights and biases; a folded batch norm is its bias. Bilinear in the two widths."""
    taps = 1.0 if layer.kind is LayerKind.DEPTHWISE else width_in / layer.groups
    return taps * width_out * layer.kernel + (width_out if layer.bias else 0)


def total(network: Network, price: Price, plan: Mapping[str, int]) -> float:
    """Return the sum of `price` over all layers under `plan`."""
    return sum(price(layer, *layer.widths(plan)) for layer in network.layers)


def parameters(network: Network, plan: Mapping[str, int]) -> int:
    """Return the number of parameters of the planned network's layers, batch norms folded."""
    return round(total(network, parameters_of, plan))


def summed(losses: Mapping[str, Mapping[int, float]], plan: Plan) -> float:
    """Return the sum of the groups' losses under `plan`."""
    return sum(float(losses[group][width]) for group, width in plan.kept.items())


def check_widths(network: Network, widths: Widths) -> None:
    """Raise ValueError if a group has no widths, or widths that are not ascending and within its channels."""
    for group in network.groups:
        allowed = widths.get(group.name)
        if not allowed or list(allowed) != sorted(set(allowed)) or allowed[0] < 1 or allowed[-1] > group.channels:
            raise ValueError(f"group {group.name} of {group.channels} channels: allowed widths {allowed}")
