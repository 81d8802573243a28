"""Which width every group keeps: the least loss within budgets for latency, size, memory and energy, exactly.

HALP (Shen et al. 2022, arXiv 2110.10811) prices output channels only, which makes a knapsack; a layer's price
depends on a pair of widths, so this is an integer program, solved by HiGHS.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from host.search.budgets import Try, correct, round_budgets, within
from host.search.cost import CostModel
from host.search.exact import Exact, loss_of
from host.search.limits import Budgets
from host.search.network import Network
from host.search.program import Linear
from host.search.solution import Infeasible, Price, Solution, Widths, parameters, summed
from host.search.uniform import neighbours, uniform

__all__ = [
    "Budgets",
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
    price: Price | CostModel,
    *,
    latency_ratio: float,
    at_least: float | None = None,
    budgets: Budgets | None = None,
    time_limit_s: float = 10.0,
    gap: float = 1e-3,
) -> Solution:
    """Return the plan of least summed loss whose predicted ratio is at most `latency_ratio`, within `budgets`.

    `losses` holds a finite loss for every group and allowed width. `at_least` asks for a ratio no lower than
    this where one exists (equal losses leave it open how much of the budget is used); it is dropped where
    none does. `gap` is the relative distance to the optimum at which the search may stop; at the time limit
    the best plan so far is returned with the gap that it has. Raises Infeasible, which says what cannot be met.
    """
    return solve_in(
        Exact(network, widths, price, budgets),
        network,
        widths,
        losses,
        latency_ratio=latency_ratio,
        at_least=at_least,
        time_limit_s=time_limit_s,
        gap=gap,
    )


def solve_in(
    exact: Exact,
    network: Network,
    widths: Widths,
    losses: Mapping[str, Mapping[int, float]],
    *,
    latency_ratio: float,
    at_least: float | None,
    time_limit_s: float,
    gap: float,
) -> Solution:
    """`solve` in a program that is built already: several budgets then cost one set-up."""
    started = time.perf_counter()
    exact.ask(latency_ratio, time_limit_s)
    table = [
        (group.name, width, loss_of(losses, group.name, width))
        for group in network.groups
        for width in widths[group.name]
    ]
    objective = exact.program.per_width(table)
    fallback = exact.fastest()
    plan, bound = exact.best(objective, at_least, gap)
    largest = max(abs(each) for _, _, each in table)
    if plan is None or bound is None or _distance(summed(losses, plan), bound, largest) > gap:
        # Time ran out. What was found must still be no worse than the plan that everybody can make.
        rivals = [each for each in (plan, exact.uniform(), fallback) if each is not None]
        plan = min(rivals, key=lambda each: summed(losses, each))
    loss = summed(losses, plan)
    return Solution(
        plan=plan,
        predicted_ratio=exact.ratio(plan),
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
    price: Price | CostModel,
    *,
    latency_ratio: float,
    budgets: Budgets | None = None,
    time_limit_s: float = 10.0,
    gap: float = 1e-4,
) -> Solution:
    """Return the plan whose predicted ratio comes nearest to `latency_ratio` from below, whatever its loss.

    Where it lies below the wanted window, no allowed width fits in between. Raises Infeasible as `solve` does.
    """
    started = time.perf_counter()
    exact = Exact(network, widths, price, budgets)
    exact.ask(latency_ratio, time_limit_s)
    fallback, latency = exact.fastest(), exact.latency
    plan, bound = exact.best(Linear(coefficients=-latency.coefficients, constant=-latency.constant), None, gap)
    plan = plan or fallback
    ratio = exact.ratio(plan)
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
    price: Price | CostModel,
    *,
    latency_ratio: float,
    budgets: Budgets | None = None,
    time_limit_s: float = 10.0,
) -> None:
    """Raise Infeasible, which says what cannot be met and what can, unless some plan keeps all budgets."""
    exact = Exact(network, widths, price, budgets)
    exact.ask(latency_ratio, time_limit_s)
    exact.fastest()
