"""Which input resolution to plan for: smaller images leave more channels at the same latency.

It is a single decision, so the integer program is solved once for each resolution and the best plan taken: that is exact. Each
resolution is priced by its own measurements, in turns with the baseline at its own. Plans of different resolutions are ranked as
all others are, by the divergence of their answers from those of the original, which sees the images whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from host.compress.groups import ModelNotPrunable
from host.compress.resolution import Size, named
from host.compress.rounds import Chooser, Round
from host.compress.session import Session
from host.search.solution import Infeasible


def choose_resolution(session: Session, baseline_ns: float, target: float) -> dict[str, Any] | None:
    """Leave the session at the resolution whose best plan for `target` is nearest to the original; None where none was asked for.

    Returns the record's word on it (docs/json-schema.md, `resolution`).
    """
    sides = session.options.resolutions
    if not sides:
        return None
    _, height, width = session.subject.model.input_shape
    sizes: list[Size | None] = [None, *((side, round(side * width / height)) for side in sorted(sides, reverse=True))]
    tried: list[dict[str, Any]] = []
    for size in sizes:
        shown = named(size or (height, width))
        session.observer.stage(f"planning at {shown}")
        entry: dict[str, Any] = {"size": list(size or (height, width)), "reason": None, "taken": False}
        entry |= dict.fromkeys(("full_ratio", "predicted_ratio", "divergence", "macs"))
        tried.append(entry)
        try:
            session.use(session.view_of(size))
            entry["full_ratio"] = session.pricing.full_ratio
            entry |= _best_plan(session, baseline_ns, target)
        except (Infeasible, ModelNotPrunable) as error:
            entry["reason"] = str(error)
            session.observer.note(f"left out: {error}")
            continue
        session.observer.note(f"best plan at {shown}: divergence from the original {entry['divergence']:.3f}")
    ranked = [each for each in tried if each["divergence"] is not None]
    # Where no resolution has a plan, the model's own says why.
    best = min(ranked, key=lambda each: float(each["divergence"])) if ranked else tried[0]
    best["taken"] = True
    session.use(session.view_of(sizes[tried.index(best)]))
    session.observer.note(f"planning at {named(tuple(best['size']))}")
    return {"size": best["size"], "tried": tried}


def _best_plan(session: Session, baseline_ns: float, target: float) -> Mapping[str, Any]:
    """Return what is predicted of the plan of least divergence, of the one of least loss and the uniform one."""
    widths, model = session.learned(baseline_ns)
    rounds = session.options.rounds_for(target)
    # The name of the first round: its losses are then in the journal, for the resolution that is taken.
    wanted = Round(
        name=f"{session.pricing.prefix}round 1 of {rounds}", ratio=target, window=(0.0, 1.0), tries=1, epochs=0
    )
    chooser = Chooser(session, session.start(), wanted, model, widths)
    plan, divergence = chooser.nearest_unmeasured(target)
    return {
        "predicted_ratio": model.predict(plan).ratio,
        "divergence": divergence,
        "macs": session.network.macs(plan.kept),
    }
