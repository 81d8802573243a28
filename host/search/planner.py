"""Which width every group keeps: the least loss within a latency and a size budget, exactly.

HALP (Shen et al. 2022, arXiv 2110.10811) prices output channels only, which makes a knapsack; a layer's price
depends on a pair of widths, so this is an integer program, solved by HiGHS.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from host.search.budgets import Try, correct, round_budgets, within
from host.search.latency import LatencyModel
from host.search.network import Network, Plan
from host.search.program import Linear, Program
from host.search.solution import (
    TOLERANCE,
    Infeasible,
    Price,
    Solution,
    Widths,
    check_widths,
    parameters,
    parameters_of,
    price_of,
    summed,
    total,
)
from host.search.uniform import neighbours, uniform

__all__ = [
    "Infeasible",
    "Price",
    "Solution",
    "Try",
    "Widths",
    "check_feasible",
    "correct",
    "neighbours",
    "parameters",
    "round_budgets",
    "slowest_within",
    "solve",
    "uniform",
    "within",
]


def solve(
    network: Network,
    widths: Widths,
    losses: Mapping[str, Mapping[int, float]],
    price: Price | LatencyModel,
    *,
    latency_ratio: float,
    at_least: float | None = None,
    max_parameters: int | None = None,
    time_limit_s: float = 10.0,
    gap: float = 1e-3,
) -> Solution:
    """Return the plan of least summed loss whose predicted ratio is at most `latency_ratio`.

    `losses` holds a finite loss for every group and allowed width. `at_least` asks for a ratio no lower than
    this where one exists (equal losses leave it open how much of the budget is used); it is dropped where
    none does. `gap` is the relative distance to the optimum at which the search may stop; at the time limit
    the best plan so far is returned with the gap that it has. Raises Infeasible, with the fastest plan there
    is.
    """
    started = time.perf_counter()
    search = _Search(network, widths, price, latency_ratio, max_parameters, started + time_limit_s)
    table = [
        (group.name, width, _loss(losses, group.name, width))
        for group in network.groups
        for width in widths[group.name]
    ]
    objective = search.program.per_width(table)
    fallback = search.fastest()
    plan, bound = search.best(objective, at_least, gap)
    largest = max(abs(each) for _, _, each in table)
    if plan is None or bound is None or _distance(summed(losses, plan), bound, largest) > gap:
        # Time ran out. What was found must still be no worse than the plan that everybody can make.
        rivals = [each for each in (plan, search.uniform(), fallback) if each is not None]
        plan = min(rivals, key=lambda each: summed(losses, each))
    loss = summed(losses, plan)
    return Solution(
        plan=plan,
        predicted_ratio=search.ratio(plan),
        loss=loss,
        gap=None if bound is None else _distance(loss, bound, largest),
        seconds=time.perf_counter() - started,
    )


def _distance(loss: float, bound: float, largest: float) -> float:
    """Return how far `loss` may lie above the best possible, relative to itself; rounding counts as none."""
    slack = loss - bound
    return slack / max(abs(loss), 1e-9 * largest) if slack > 1e-9 * largest else 0.0


def slowest_within(
    network: Network,
    widths: Widths,
    price: Price | LatencyModel,
    *,
    latency_ratio: float,
    max_parameters: int | None = None,
    time_limit_s: float = 10.0,
    gap: float = 1e-4,
) -> Solution:
    """Return the plan whose predicted ratio comes nearest to `latency_ratio` from below, whatever its loss.

    Where it lies below the wanted window, no allowed width fits in between. Raises Infeasible as `solve`
    does.
    """
    started = time.perf_counter()
    search = _Search(network, widths, price, latency_ratio, max_parameters, started + time_limit_s)
    fallback = search.fastest()
    latency = search.latency
    plan, bound = search.best(Linear(coefficients=-latency.coefficients, constant=-latency.constant), None, gap)
    plan = plan or fallback
    ratio = search.ratio(plan)
    return Solution(
        plan=plan,
        predicted_ratio=ratio,
        loss=None,
        gap=None if bound is None else max(0.0, -bound - ratio) / ratio,
        seconds=time.perf_counter() - started,
    )


def check_feasible(
    network: Network,
    widths: Widths,
    price: Price | LatencyModel,
    *,
    latency_ratio: float,
    max_parameters: int | None = None,
    time_limit_s: float = 10.0,
) -> None:
    """Raise Infeasible, with the fastest plan there is, unless some plan keeps both budgets."""
    _Search(network, widths, price, latency_ratio, max_parameters, time.perf_counter() + time_limit_s).fastest()


class _Search:
    """One question's program, budgets and deadline."""

    def __init__(
        self,
        network: Network,
        widths: Widths,
        price: Price | LatencyModel,
        latency_ratio: float,
        max_parameters: int | None,
        deadline: float,
    ) -> None:
        if not latency_ratio > 0:
            raise ValueError(f"latency_ratio must be positive, got {latency_ratio}")
        if not network.groups:
            raise ValueError("the network has no group whose width could change")
        check_widths(network, widths)
        self._network, self._widths = network, widths
        self._price = price_of(price)
        self._budget, self._max_parameters, self._deadline = latency_ratio, max_parameters, deadline
        self.program = Program(network, widths)
        self.latency = self.program.quantity(self._price)
        self._size = None if max_parameters is None else self.program.quantity(parameters_of)

    def ratio(self, plan: Plan) -> float:
        return total(self._network, self._price, plan.kept)

    def _fits(self, plan: Plan) -> bool:
        return self.ratio(plan) <= self._budget * (1 + TOLERANCE) and self._small(plan)

    def _small(self, plan: Plan) -> bool:
        return self._max_parameters is None or parameters(self._network, plan.kept) <= self._max_parameters

    def _size_limits(self, over: int = 0) -> list[tuple[Linear, float, float]]:
        if self._size is None or self._max_parameters is None:
            return []
        return [(self._size, float("-inf"), self._max_parameters - over)]

    def _left_s(self) -> float:
        # Even a spent deadline leaves the solver time for a first incumbent.
        return max(self._deadline - time.perf_counter(), 0.5)

    def fastest(self) -> Plan:
        """Return a plan that fits, or raise Infeasible with the fastest one."""
        least = Plan(kept={group.name: self._widths[group.name][0] for group in self._network.groups})
        if self._fits(least):
            return least
        if not self._small(least):
            raise Infeasible(
                f"even the narrowest plan has {parameters(self._network, least.kept)} parameters, and the "
                f"budget is {self._max_parameters}: raise the size budget",
                fastest_ratio=self.ratio(least),
                fastest_plan=least,
            )
        # On a device that runs some narrow widths slowly, the narrowest plan need not be the fastest.
        plan, _, _ = self.program.minimise(self.latency, self._size_limits(), time_limit_s=self._left_s(), gap=1e-6)
        fastest = min((each for each in (plan, least) if each is not None and self._small(each)), key=self.ratio)
        if not self._fits(fastest):
            raise Infeasible(
                "no plan over the allowed widths is predicted below "
                f"{self.ratio(fastest):.3f}x of the baseline's latency, and the target is "
                f"{self._budget:.3f}x: choose a target of at least "
                f"{self.ratio(fastest):.3f}x",
                fastest_ratio=self.ratio(fastest),
                fastest_plan=fastest,
            )
        return fastest

    def uniform(self) -> Plan | None:
        """Return the uniform plan, or None if it does not fit."""
        try:
            plan = uniform(self._network, self._widths, self._price, self._budget).plan
        except Infeasible:
            return None
        return plan if self._fits(plan) else None

    def best(self, objective: Linear, at_least: float | None, gap: float) -> tuple[Plan | None, float | None]:
        """Return (best plan that truly fits, bound on the objective); the plan is None if time ran out
        without one.
        """
        lowest = float("-inf") if at_least is None else at_least
        highest = self._budget
        first_bound: float | None = None
        over = 0
        for _ in range(6):
            plan, bound, impossible = self.program.minimise(
                objective,
                [(self.latency, lowest, highest), *self._size_limits(over)],
                time_limit_s=self._left_s(),
                gap=gap,
            )
            if impossible and lowest > float("-inf"):
                lowest, highest = float("-inf"), self._budget
                continue
            first_bound = bound if first_bound is None else first_bound
            if plan is None or self._fits(plan):
                return plan, first_bound
            # The solver's tolerance, or the joined layers' surface, let a plan through that is a little too
            # big.
            highest -= 1.01 * max(self.ratio(plan) - self._budget, 0.0)
            if self._max_parameters is not None:
                over += max(parameters(self._network, plan.kept) - self._max_parameters, 0)
        return None, first_bound


def _loss(losses: Mapping[str, Mapping[int, float]], group: str, width: int) -> float:
    try:
        loss = float(losses[group][width])
    except KeyError:
        raise ValueError(f"no loss for group {group} at width {width}") from None
    if not abs(loss) < float("inf"):
        raise ValueError(f"loss of group {group} at width {width} is {loss}")
    return loss
