"""What the planner answers, and what layers add up to: latency, energy, parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from host.constraints import ConstraintNotMet
from host.search.cost import CostModel
from host.search.network import Branch, Layer, LayerKind, Network, Plan

#: A budget counts as kept within this relative tolerance: the solver's own rounding, far below any
#: measurement.
TOLERANCE = 1e-6

#: (layer, input width, output width) -> fraction of the baseline's latency, or energy. Summed over all layers: the ratio.
#: A width of 0 means that the layer is gone: its price is then what belongs to no layer, if anything.
Price: TypeAlias = Callable[[Layer, int, int], float]
#: Allowed widths per group name, ascending. 0, where a group's branch may vanish, is one of them.
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
    """No plan over the allowed widths fits the budgets. The message says which one cannot be met, and what can.

    `fastest_ratio` is the lowest latency ratio that any plan within the other budgets is predicted to reach, and `fastest_plan`
    that plan. Where `budget` names another one ("size", "memory", "energy"), both belong to the plan that needs least of it.
    """

    def __init__(self, message: str, *, fastest_ratio: float, fastest_plan: Plan, budget: str = "latency") -> None:
        super().__init__(message)
        self.fastest_ratio = fastest_ratio
        self.fastest_plan = fastest_plan
        self.budget = budget


def price_of(price: Price | CostModel) -> Price:
    """Return the pricing function of a model, or the function itself."""
    return price if callable(price) else price.price


def parameters_of(layer: Layer, width_in: int, width_out: int) -> float:
    """Return the layer's weights and biases; a folded batch norm is its bias. Bilinear in the two widths.

    Of a vanished layer the biases stay: they are what its branch adds to the stream.
    """
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


def with_dropped(widths: Widths, branches: Iterable[Branch]) -> dict[str, tuple[int, ...]]:
    """Return the widths with 0 for every group whose branch may vanish."""
    vanishing = {branch.group for branch in branches}
    return {name: (0, *each) if name in vanishing and each[0] else tuple(each) for name, each in widths.items()}


def check_widths(network: Network, widths: Widths) -> None:
    """Raise ValueError if a group has no widths, or widths that are not ascending and within its channels.

    0 is allowed for groups whose branch may vanish.
    """
    vanishing = {branch.group for branch in network.branches}
    for group in network.groups:
        allowed, least = widths.get(group.name), 0 if group.name in vanishing else 1
        if not allowed or list(allowed) != sorted(set(allowed)) or allowed[0] < least or allowed[-1] > group.channels:
            raise ValueError(f"group {group.name} of {group.channels} channels: allowed widths {allowed}")
