"""The uniform plan, which every search has to beat, and the plans one width step away from a given one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from itertools import pairwise

from host.search.cost import CostModel
from host.search.network import Network, Plan
from host.search.solution import (
    TOLERANCE,
    Infeasible,
    Price,
    Solution,
    Widths,
    check_widths,
    price_of,
    summed,
    total,
)


def uniform(
    network: Network,
    widths: Widths,
    price: Price | CostModel,
    latency_ratio: float,
    losses: Mapping[str, Mapping[int, float]] | None = None,
) -> Solution:
    """Return the plan of the largest keep ratio, one for all groups, predicted at most at `latency_ratio`.

    Each group takes the allowed width nearest to ratio x channels. Every ratio at which a group changes its
    width is looked at. At such a ratio two widths are equally near; where not all groups in that position can
    take the wider one, those first in the network do while the budget lasts, so that the plan comes as close
    to the budget as a uniform one can. No branch is dropped for it. Raises Infeasible if not even the narrowest plan fits.
    """
    started = time.perf_counter()
    check_widths(network, widths)
    widths = {name: tuple(width for width in each if width) or each for name, each in widths.items()}
    cost, budget = price_of(price), latency_ratio * (1 + TOLERANCE)
    switches = {1.0, 0.0}
    for group in network.groups:
        switches.update((low + high) / 2 / group.channels for low, high in pairwise(widths[group.name]))
    wider: Plan | None = None
    plan, ratio = network.full_plan(), float("inf")
    for keep in sorted(switches, reverse=True):
        plan = Plan(kept={group.name: _nearest(widths[group.name], keep * group.channels) for group in network.groups})
        ratio = total(network, cost, plan.kept)
        if ratio > budget:
            wider = plan
            continue
        for name, width in {} if wider is None else wider.kept.items():
            tried = Plan(kept={**plan.kept, name: width})
            if width != plan.kept[name] and (reached := total(network, cost, tried.kept)) <= budget:
                plan, ratio = tried, reached
        return Solution(
            plan=plan,
            predicted_ratio=ratio,
            loss=None if losses is None else summed(losses, plan),
            gap=None,
            seconds=time.perf_counter() - started,
        )
    raise Infeasible(
        f"the narrowest uniform plan is predicted at {ratio:.3f}x of the baseline's latency, and the target "
        f"is {latency_ratio:.3f}x: choose a larger target",
        fastest_ratio=ratio,
        fastest_plan=plan,
    )


def _nearest(allowed: tuple[int, ...], wanted: float) -> int:
    """Return the allowed width nearest to `wanted`, the narrower one of two."""
    return min(allowed, key=lambda width: (abs(width - wanted), width))


def neighbours(plan: Plan, widths: Widths) -> tuple[Plan, ...]:
    """Return the plans that differ from `plan` by one step of allowed widths in one group, narrower and
    wider.
    """
    near = []
    for name, width in plan.kept.items():
        allowed = widths[name]
        if width not in allowed:
            raise ValueError(f"group {name}: width {width} is not among the allowed {allowed}")
        place = allowed.index(width)
        for other in (place - 1, place + 1):
            if 0 <= other < len(allowed):
                near.append(Plan(kept={**plan.kept, name: allowed[other]}))
    return tuple(near)
