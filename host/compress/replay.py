"""A plan that is given instead of being looked for: cut it, check it on the device, fine-tune it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from host.compress.cutting import cut_and_refit
from host.compress.evaluation import evaluate
from host.compress.finetune import fine_tune
from host.compress.plan_file import read_plan
from host.compress.rounds import Candidate
from host.compress.session import Session, State
from host.search.meeting import Found, Tried
from host.search.network import Plan

METHOD = "plan"


def replayed(session: Session, path: Path) -> Candidate:
    """Return the plan in `path`, cut from the original and measured on the device, not trained yet.

    Raises InvalidRequest for a file that is no plan, PlanMismatch for one of another network.
    """
    given = read_plan(path)
    session.use(session.view_of(given.input_size))
    given.check(session.network)
    session.observer.stage("the given plan, checked on the device")
    if given.weights != session.subject.fingerprints()["weights"]:
        session.observer.note("the plan was made for other weights: which channels matter least may differ in these")
    plan = Plan(kept={name: len(indices) for name, indices in given.kept.items()})
    data = session.subject.data
    module = cut_and_refit(session.analysed, session.start().module, given.kept, data.train, seed=session.options.seed)
    probe = session.probe("plan", plan, lambda: module)
    there = "" if given.latency_ratio is None else f", {given.latency_ratio:.3f}x where the plan was made"
    session.observer.note(f"measured {probe.ratio:.3f}x of the baseline's latency{there}")
    accuracy = evaluate(module, data.validation.images, data.validation.labels).accuracy
    session.observer.note(f"validation accuracy before fine-tuning {accuracy:.1%}")
    session.trace.candidate("given plan", METHOD, plan, accuracy, probe.ratio)
    session.trace.taken("given plan", plan)
    tried = Tried(plan=plan, ratio=probe.ratio, low=probe.ratio_low, high=probe.ratio_high)
    return Candidate(
        method=METHOD,
        found=Found(best=tried, tried=(tried,), reason="the plan was given, so its widths stay"),
        predicted=probe.ratio,
        state=State(module=module, plan=plan, kept=given.kept),
        accuracy=accuracy,
    )


def trained(session: Session, candidate: Candidate) -> Candidate:
    """Return the candidate fine-tuned for all epochs in one go."""
    state = fine_tune(session, candidate.state, name="given plan", epochs=session.options.epochs)
    return dataclasses.replace(candidate, state=state)
