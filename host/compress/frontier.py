"""The front of what was possible: the least loss at every latency, over the widths and losses of the last round."""

from __future__ import annotations

from typing import Any

from host.compress.session import Session
from host.search.front import front
from host.search.latency import LatencyModel
from host.search.memory import memory_bytes
from host.search.network import Plan
from host.search.solution import TOLERANCE, Infeasible, Solution, parameters

#: Latencies that are asked for, in equal factors from the narrowest plan to the widest.
POINTS = 9
#: The front is for looking at: a coarse gap, and no long waits.
GAP, SECONDS = 0.02, 2.0


def front_of(session: Session, model: LatencyModel | None) -> list[dict[str, Any]]:
    """Return plans that no other beats in both, the slowest first: what is predicted of each, its summed loss, `kept`.

    At `session.front_ratios` where the user asked for some, else at POINTS latencies. Losses are those of groups alone above the
    start of the last round, so sums grow less sure the harder a plan cuts. Empty where there was no model or nothing was weighed.
    """
    losses = {name: {int(width): loss for width, loss in row.items()} for name, row in session.trace.losses.items()}
    if model is None or set(losses) != {group.name for group in session.network.groups}:
        return []
    widths = {name: tuple(sorted(row)) for name, row in losses.items()}
    fastest, slowest = (
        model.predict(Plan(kept={name: row[end] for name, row in widths.items()})).ratio for end in (0, -1)
    )
    ratios = list(session.front_ratios)
    if not ratios and not 0 < fastest < slowest:
        return []
    if not ratios:
        ratios = [slowest * (fastest / slowest) ** (step / (POINTS - 1)) for step in range(POINTS)]
    try:
        found = front(
            session.network, widths, losses, model, ratios, budgets=session.budgets, time_limit_s=SECONDS, gap=GAP
        )
    except Infeasible:
        return []
    points = [_point(session, each) for each in found if each.loss is not None]
    for ratio in session.front_ratios:
        if not any(point["latency_ratio"] <= ratio * (1 + TOLERANCE) for point in points):
            session.observer.note(f"no plan within the other budgets is predicted at {ratio:g}x")
    if len(points) < len(session.front_ratios):
        session.observer.note("where a faster plan loses no more, it stands for the slower one too")
    return points


def _point(session: Session, solution: Solution) -> dict[str, Any]:
    kept = solution.plan.kept
    return {
        "latency_ratio": solution.predicted_ratio,
        "loss": solution.loss,
        "gap": solution.gap,
        "parameters": parameters(session.network, kept),
        "size_bytes": session.size_of(kept),
        "memory_bytes": memory_bytes(session.network, kept),
        "peak_memory_bytes": None if session.memory is None else round(session.memory.predict(solution.plan)),
        "kept": dict(kept),
    }
