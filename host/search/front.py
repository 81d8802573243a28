"""The Pareto front of latency and loss: one plan for each latency ratio, solved in one program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from host.search.cost import CostModel
from host.search.exact import Exact
from host.search.limits import Budgets
from host.search.network import Network
from host.search.planner import solve_in
from host.search.solution import TOLERANCE, Infeasible, Price, Solution, Widths


def front(
    network: Network,
    widths: Widths,
    losses: Mapping[str, Mapping[int, float]],
    price: Price | CostModel,
    ratios: Sequence[float],
    *,
    budgets: Budgets | None = None,
    time_limit_s: float = 10.0,
    gap: float = 1e-3,
) -> tuple[Solution, ...]:
    """Return the plans of least loss at most at each of `ratios`, the slowest first.

    The program is set up once. A plan that is fast enough for a later ratio too is the best there as well and is not sought
    again; what another plan beats in both is left out, and so are ratios that no plan reaches. Raises Infeasible if none is.
    `time_limit_s` is for each ratio.
    """
    exact = Exact(network, widths, price, budgets)
    found: list[Solution] = []
    for ratio in sorted(set(ratios), reverse=True):
        if found and found[-1].predicted_ratio <= ratio * (1 + TOLERANCE):
            continue
        try:
            solution = solve_in(
                exact, network, widths, losses, latency_ratio=ratio, at_least=None, time_limit_s=time_limit_s, gap=gap
            )
        except Infeasible:
            if not found:
                raise
            break
        # Within the gap, a faster plan may turn out to lose less.
        while found and (found[-1].loss or 0.0) >= (solution.loss or 0.0):
            found.pop()
        found.append(solution)
    return tuple(found)
