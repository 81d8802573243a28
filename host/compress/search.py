"""The search of one round: asks for plans, ranks each, and keeps every rank in the journal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from host.compress.ranking import Rank
from host.compress.session import Session
from host.search.asktell import Patience, PlanSearch, Proposal, Told
from host.search.exact import Exact
from host.search.network import Plan
from host.search.planner import solve_in
from host.search.solution import Widths
from host.search.surrogate import Losses

#: A solution uses at least this share of its budget where one does: equal losses leave it open otherwise.
LEAST_USE = 0.985
#: Relative gap and seconds at which a program is solved well enough to be ranked.
GAP = 0.01
SOLVE_S = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """What a search found: every plan with its score, best first; losses as they were learned; the record's word on it."""

    ranked: tuple[Told, ...]
    losses: Losses
    document: dict[str, Any]


def search_plans(
    session: Session,
    name: str,
    *,
    exact: Exact,
    widths: Widths,
    ratio: float,
    starts: Mapping[str, Plan],
    losses: Mapping[str, Losses],
    rank: Callable[[Plan], Rank],
    most: int,
) -> Searched:
    """Search for plans predicted at `ratio` of the baseline's latency at most, and rank up to `most` of them.

    `name` is the round's, for the journal; `exact` the round's program, with all other budgets. A search that was stopped goes
    on after the last plan that it ranked. Raises Infeasible if no plan keeps the budgets.
    """
    options, network = session.options, session.network

    def solve(weighed: Losses) -> Plan:
        return solve_in(
            exact,
            network,
            widths,
            weighed,
            latency_ratio=ratio,
            at_least=ratio * LEAST_USE,
            time_limit_s=SOLVE_S,
            gap=GAP,
        ).plan

    def fits(plan: Plan) -> bool:
        exact.ask(ratio, SOLVE_S)
        return exact.fits(plan) and exact.ratio(plan) >= ratio * LEAST_USE

    search = PlanSearch(
        [(group.name, max(widths[group.name])) for group in network.groups],
        widths,
        starts=starts,
        losses=losses,
        solve=solve,
        fits=fits,
        patience=Patience(most=most),
        seed=options.seed,
    )

    def next_one() -> dict[str, Any] | None:
        began = time.perf_counter()
        proposal = search.ask()
        if proposal is None:
            return None
        found = rank(proposal.plan)
        return {
            "number": proposal.number,
            "origin": proposal.origin,
            "kept": dict(proposal.plan.kept),
            "predicted_ratio": exact.ratio(proposal.plan),
            "divergence": found.divergence,
            "accuracy": found.accuracy,
            "seconds": time.perf_counter() - began,
        }

    rows: list[dict[str, Any]] = []
    stopped = "no-gain"
    while True:
        if options.search_seconds is not None and sum(row["seconds"] for row in rows) >= options.search_seconds:
            stopped = "seconds"
            break
        # The end is an entry too: a search that is over asks for no plan again.
        row = session.once(f"{name} candidate {len(rows)}", next_one)
        if row is None:
            stopped = "candidates" if len(rows) >= most else "no-gain"
            break
        rows.append(row)
        search.tell(
            Proposal(number=row["number"], origin=row["origin"], plan=Plan(kept=row["kept"])), row["divergence"]
        )
        session.observer.step(len(rows), most)
    document = {"round": name, "latency_ratio": ratio, "stopped": stopped, "candidates": rows}
    return Searched(ranked=tuple(search.best(len(rows))), losses=search.learned_losses(), document=document)


def finalists(ranked: tuple[Told, ...], count: int) -> list[Told]:
    """Return the best `count` plans that differ from each other in two groups or more; fewer where there are no such."""
    chosen: list[Told] = []
    for told in ranked:
        kept = told.proposal.plan.kept
        if all(sum(kept[name] != width for name, width in other.proposal.plan.kept.items()) > 1 for other in chosen):
            chosen.append(told)
        if len(chosen) == count:
            break
    return chosen
