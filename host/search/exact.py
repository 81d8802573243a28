"""One network's integer program with its budgets and a deadline: what fits, what is fastest, what is best."""

from __future__ import annotations

import time
from collections.abc import Mapping

from host.search.cost import CostModel
from host.search.limits import Budgets, LatencyLimit, Limit
from host.search.network import Network, Plan
from host.search.program import Linear, Program
from host.search.solution import Infeasible, Price, Widths, check_widths, price_of
from host.search.uniform import uniform

#: Solutions of the program that broke a budget by the solver's rounding, or by a joined layer's price, before it gives up.
MOST_CORRECTIONS = 6


class Exact:
    """The program is built once; `latency_ratio` and the deadline are set for each question."""

    def __init__(self, network: Network, widths: Widths, price: Price | CostModel, budgets: Budgets | None) -> None:
        if not network.groups:
            raise ValueError("the network has no group whose width could change")
        check_widths(network, widths)
        self._network, self._widths, self._price = network, widths, price_of(price)
        self.program = Program(network, widths)
        self._latency = LatencyLimit(network, 1.0, self._price)
        self._limits = (budgets or Budgets()).limits(network)
        self.latency = self._latency.expression(self.program)
        self._expressions = [limit.expression(self.program) for limit in self._limits]
        self._deadline = time.perf_counter()

    def ask(self, latency_ratio: float, time_limit_s: float) -> None:
        """Set the latency budget, and the time for all that is asked from here on."""
        if not latency_ratio > 0:
            raise ValueError(f"latency_ratio must be positive, got {latency_ratio}")
        self._latency.highest = latency_ratio
        self._deadline = time.perf_counter() + time_limit_s

    def ratio(self, plan: Plan) -> float:
        """Return the predicted latency of a plan over the baseline's."""
        return self._latency.value(plan.kept)

    def _keeps(self, plan: Plan) -> bool:
        return all(limit.keeps(plan.kept) for limit in self._limits)

    def fits(self, plan: Plan) -> bool:
        """Return whether a plan keeps all budgets."""
        return self._latency.keeps(plan.kept) and self._keeps(plan)

    def _left_s(self) -> float:
        # Even a spent deadline leaves the solver time for a first incumbent.
        return max(self._deadline - time.perf_counter(), 0.5)

    def fastest(self) -> Plan:
        """Return a plan that fits. Raise Infeasible with the plan that comes nearest where none does."""
        least = Plan(kept={group.name: self._widths[group.name][0] for group in self._network.groups})
        if self.fits(least):
            return least
        for limit, expression in zip(self._limits, self._expressions, strict=True):
            self._check_alone(limit, expression, least)
        plan = self._least(self.latency, self._latency, least, within=True)
        if plan is None:
            names = " and ".join(limit.name for limit in self._limits)
            raise Infeasible(
                f"each of the budgets for {names} can be met alone, and no plan meets them together: raise one of them",
                fastest_ratio=self.ratio(least),
                fastest_plan=least,
                budget=self._limits[0].name,
            )
        if not self.fits(plan):
            self._refuse_latency(plan, least)
        return plan

    def _check_alone(self, limit: Limit, expression: Linear, narrowest: Plan) -> None:
        if limit.keeps(narrowest.kept):
            return
        least = self._least(expression, limit, narrowest, within=False)
        if least is not None and not limit.keeps(least.kept):
            raise Infeasible(
                f"no plan over the allowed widths is predicted below {limit.words(limit.value(least.kept))}, and the "
                f"{limit.name} budget is {limit.words(limit.highest)}: raise the {limit.name} budget",
                fastest_ratio=self.ratio(least),
                fastest_plan=least,
                budget=limit.name,
            )

    def _refuse_latency(self, fastest: Plan, narrowest: Plan) -> None:
        ratio, others = self.ratio(fastest), ", ".join(limit.name for limit in self._limits)
        message = (
            f"no plan over the allowed widths{f' within the budgets for {others}' if others else ''} is predicted below "
            f"{ratio:.3f}x of the baseline's latency, and the target is {self._latency.highest:.3f}x: choose a target of at "
            f"least {ratio:.3f}x"
        )
        if others:
            free = self._least(self.latency, self._latency, narrowest, within=False)
            if free is not None and self._latency.keeps(free.kept):
                message += f", or raise the others: without them {self.ratio(free):.3f}x can be reached"
        raise Infeasible(message, fastest_ratio=ratio, fastest_plan=fastest)

    def _least(self, expression: Linear, quantity: Limit, narrowest: Plan, *, within: bool) -> Plan | None:
        """Return the plan of the least quantity, `within` the limits or not: the narrowest need not be it."""
        plan, _ = self._solve(expression, float("-inf"), float("inf"), 1e-6, within=within)
        found = [each for each in (plan, narrowest) if each is not None and (not within or self._keeps(each))]
        return min(found, key=lambda each: quantity.value(each.kept), default=None)

    def uniform(self) -> Plan | None:
        """Return the uniform plan, or None if it does not fit."""
        try:
            plan = uniform(self._network, self._widths, self._price, self._latency.highest).plan
        except Infeasible:
            return None
        return plan if self.fits(plan) else None

    def best(self, objective: Linear, at_least: float | None, gap: float) -> tuple[Plan | None, float | None]:
        """Return (best plan that truly fits, bound on the objective); the plan is None if time ran out without one.

        `at_least` is the lowest latency ratio wanted; it is dropped where no plan has one.
        """
        lowest = float("-inf") if at_least is None else at_least
        return self._solve(objective, lowest, self._latency.highest, gap, within=True)

    def _solve(
        self, objective: Linear, lowest: float, highest: float, gap: float, *, within: bool
    ) -> tuple[Plan | None, float | None]:
        limits = list(zip(self._limits, self._expressions, strict=True)) if within else []
        bounds = [limit.highest for limit, _ in limits]
        budget, first_bound = highest, None
        for _ in range(MOST_CORRECTIONS):
            rows = [(expression, float("-inf"), bound) for (_, expression), bound in zip(limits, bounds, strict=True)]
            if budget < float("inf"):
                rows.append((self.latency, lowest, budget))
            plan, bound, impossible = self.program.minimise(objective, rows, time_limit_s=self._left_s(), gap=gap)
            if impossible and lowest > float("-inf"):
                lowest, budget = float("-inf"), highest
                continue
            first_bound = bound if first_bound is None else first_bound
            if plan is None:
                return None, first_bound
            late = max(self.ratio(plan) - highest, 0.0) if not self._within(plan, highest) else 0.0
            over = [0.0 if limit.keeps(plan.kept) else limit.value(plan.kept) - limit.highest for limit, _ in limits]
            if not late and not any(over):
                return plan, first_bound
            # The solver's tolerance, or the joined layers' lines, let a plan through that is a little too big.
            budget -= 1.01 * late
            bounds = [bound - 1.01 * each for bound, each in zip(bounds, over, strict=True)]
        return None, first_bound

    def _within(self, plan: Plan, highest: float) -> bool:
        return highest == float("inf") or self._latency.keeps(plan.kept)


def loss_of(losses: Mapping[str, Mapping[int, float]], group: str, width: int) -> float:
    """Return the loss of a group at a width; ValueError if there is none, or if it is not finite."""
    try:
        loss = float(losses[group][width])
    except KeyError:
        raise ValueError(f"no loss for group {group} at width {width}") from None
    if not abs(loss) < float("inf"):
        raise ValueError(f"loss of group {group} at width {width} is {loss}")
    return loss
