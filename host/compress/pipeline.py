"""`host compress` without the command line: measure, learn what widths cost, then rounds of planning and fine-tuning."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from device_agent.contract.errors import InvalidRequest, StableError
from host.compress.attempt import Attempt, nearest, with_reason
from host.compress.final import measure_final, target_ratio
from host.compress.findings import findings
from host.compress.finetune import fine_tune
from host.compress.finish import finish, finished, planned
from host.compress.measuring import Measuring
from host.compress.nodes import ExportedModel
from host.compress.observer import Observer
from host.compress.options import CompressOptions
from host.compress.precision import choose_precision
from host.compress.pricing_choice import choose_pricing
from host.compress.record import header, measured, structure
from host.compress.replay import replayed, trained
from host.compress.resolution import for_files
from host.compress.resolution_choice import choose_resolution
from host.compress.rounds import Candidate, Chooser, Round, best_of
from host.compress.session import Session, State
from host.compress.subject import Subject
from host.compress.verify import OutputCheck, check_outputs
from host.search.budgets import WINDOW
from host.search.latency import LatencyModel
from host.search.planner import Infeasible, check_feasible, round_budgets
from host.search.solution import with_dropped

#: Between rounds nothing has to be met exactly, so one measurement is enough.
LOOSE_WINDOW = (0.9, 1.1)
#: A plan is checked before it is trained; room for noise keeps the final measurement at or under the target.
CHECK_WINDOW = (WINDOW[0], 0.993)
#: Corrections after fine-tuning, where the final measurement lies outside the window.
MOST_CORRECTIONS = 2
#: Plans measured where the target has to be met.
MOST_TRIES = 6
VERIFIED_IMAGES = 32


class OutputsDiffer(StableError):
    """The device computes something else than PyTorch does."""


def compress(
    options: CompressOptions,
    subject: Subject,
    measuring: Measuring,
    *,
    out: Path,
    observer: Observer | None = None,
    dry_run: bool = False,
    front: Sequence[float] = (),
) -> dict[str, Any]:
    """Compress `subject` for the device of `measuring`; write the results to `out` and return the record (docs/json-schema.md).

    The record says whether the target was met and, if not, why; a target that no allowed plan is predicted to reach raises
    Infeasible before anything is trained. A target in nanoseconds is a ratio to the baseline as measured last. With `dry_run` a
    plan for the whole target is measured on the device and nothing is trained. `front` are latencies (over the baseline's) at
    which the record shows the best plan. Raises the contract's errors, ModelNotPrunable,
    TrainingError, OutputsDiffer, JournalMismatch, CannotWrite.
    """
    session = Session(options, subject, measuring, out, observer or Observer())
    session.front_ratios = tuple(front)
    if not dry_run and (record := finished(session)) is not None:
        return record
    session.observer.stage("measuring the baseline on the device")
    baseline = session.once("baseline", lambda: measured(measuring.alone(session.baseline, options.model)))
    session.baseline_peak = baseline["peak_memory_bytes"]
    _verify(session, session.original, session.baseline)
    baseline_ns = baseline["latency_ns"]["p50"]
    aimed_ns = baseline["latency_ns"][options.target.name]
    target = options.target.of(aimed_ns)
    if target >= 1:
        raise InvalidRequest(
            f"the baseline already takes {aimed_ns / 1e6:.3f} ms ({options.target.name}) on {measuring.device.name}, and the "
            f"target is {target * aimed_ns / 1e6:.3f} ms: there is nothing to compress for"
        )
    if options.plan is not None:
        candidate = replayed(session, Path(options.plan))
        if dry_run:
            return _dry(session, baseline, target, candidate, None, None)
        return finish(
            session, baseline, None, _attempt(session, trained(session, candidate), "final", baseline_ns), None
        )
    resolution = choose_resolution(session, baseline_ns, target)
    choice = choose_pricing(session, baseline_ns, target)
    if dry_run:
        widths, model = session.learned(baseline_ns)
        wanted = Round(name="dry run", ratio=target, window=CHECK_WINDOW, tries=MOST_TRIES, epochs=0)
        chooser = Chooser(session, session.start(), wanted, model, widths)
        candidate = best_of(chooser.candidates(_methods(options)), wanted)
        return _dry(session, baseline, target, candidate, model, choice.document, resolution)
    may_give_up = session.pricing.variant is not None and options.precision != "int8"
    try:
        attempt, model = _reach(session, target, baseline_ns)
        lost = attempt.lost
    except Infeasible as error:
        if not may_give_up:
            raise
        lost = str(error)
    if lost is not None and may_give_up:
        choice = choice.given_up(session, f"planned in int8, {lost}")
        attempt, model = _reach(session, target, baseline_ns)
    return finish(session, baseline, model, attempt, choice.document, resolution)


def _reach(session: Session, target: float, baseline_ns: float) -> tuple[Attempt, LatencyModel]:
    """Plan, cut and train for `target` in the session's pricing; return the best attempt and what was learned of latency.

    An attempt whose accuracy in that precision is lost ends the corrections.
    """
    options, prefix = session.options, session.pricing.prefix
    widths, model = session.learned(baseline_ns)
    allowed = with_dropped(widths, session.network.branches) if options.drop_blocks else widths
    check_feasible(session.network, allowed, model, latency_ratio=target, budgets=session.budgets)
    state, rounds = session.start(), options.rounds_for(target)
    budgets, epochs = round_budgets(target, rounds), split_epochs(options.epochs, rounds)
    for number, (budget, share) in enumerate(zip(budgets, epochs, strict=True), 1):
        last = number == rounds
        wanted = Round(
            name=f"{prefix}round {number} of {rounds}",
            ratio=budget,
            window=CHECK_WINDOW if last else LOOSE_WINDOW,
            tries=MOST_TRIES if last else 1,
            epochs=share,
        )
        before = state
        try:
            candidate, model = _round(session, state, wanted, model, widths)
        except Infeasible as error:
            if number == 1:
                raise
            candidate = with_reason(candidate, str(error))
            break
        state = candidate.state
    attempts = [_attempt(session, candidate, "final", baseline_ns)]
    for number in range(1, MOST_CORRECTIONS + 1):
        last_try = attempts[-1]
        if last_try.lost is not None and options.precision != "int8":
            break
        too_slow = last_try.share > WINDOW[1]
        if not too_slow and (last_try.share >= WINDOW[0] or candidate.found.reason is not None):
            break
        # Too slow: cut a little more from what was just trained. Too fast: from the last round's start, with more channels.
        wanted = Round(
            name=f"{prefix}correction {number}",
            ratio=candidate.found.best.ratio / last_try.share,
            window=CHECK_WINDOW,
            tries=MOST_TRIES,
            epochs=max(1, epochs[-1] // 4) if too_slow else epochs[-1],
        )
        try:
            candidate, model = _round(session, state if too_slow else before, wanted, model, widths)
        except Infeasible as error:
            attempts[-1] = dataclasses.replace(last_try, candidate=with_reason(candidate, str(error)))
            break
        state = candidate.state
        attempts.append(_attempt(session, candidate, f"final {number}", baseline_ns))
    return nearest([each for each in attempts if each.lost is None] or attempts), model


def _dry(
    session: Session,
    baseline: dict[str, Any],
    target: float,
    candidate: Candidate,
    model: LatencyModel | None,
    pricing: Mapping[str, Any] | None,
    resolution: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the record of a plan that was measured and not trained."""
    sizes = structure(session.original, session.subject.model.input_shape, session.baseline.path)
    return {
        **header(session),
        "baseline": {**baseline, **sizes},
        **planned(session, target, candidate),
        "met": None,
        "result": None,
        "resolution": resolution,
        "pricing": pricing,
        **findings(session, model, candidate.state.plan),
    }


def split_epochs(epochs: int, rounds: int) -> list[int]:
    """Return the fine-tuning epochs of each round: the last gets half of all, and what does not divide."""
    if rounds == 1:
        return [epochs]
    each = max(1, epochs // 2 // (rounds - 1))
    return [each] * (rounds - 1) + [max(1, epochs - each * (rounds - 1))]


def _methods(options: CompressOptions) -> tuple[str, ...]:
    return ("latency", "uniform") if options.method == "latency" else (options.method,)


def _round(
    session: Session, start: State, wanted: Round, model: LatencyModel, widths: Mapping[str, tuple[int, ...]]
) -> tuple[Candidate, LatencyModel]:
    """Choose, fine-tune and keep the weights; return the candidate with its trained state, and what was learned of latency."""
    chooser = Chooser(session, start, wanted, model, widths)
    candidate = best_of(chooser.candidates(_methods(session.options)), wanted)
    session.observer.note(
        f"taken: the {candidate.method} plan, {candidate.found.best.ratio:.3f}x of the baseline's latency"
    )
    session.trace.taken(wanted.name, candidate.state.plan)
    state = fine_tune(session, candidate.state, name=wanted.name, epochs=wanted.epochs)
    return dataclasses.replace(candidate, state=state), chooser.model


def _attempt(session: Session, candidate: Candidate, key: str, baseline_ns: float) -> Attempt:
    """Export the trained module, check its outputs on the device, and measure it in turns with the baseline, at length.

    What is measured is the file in the precision that was planned in.
    """
    session.observer.stage("measuring the result on the device, in turns with the baseline")
    final = session.export(candidate.state.module, "model")

    def check() -> dict[str, Any]:
        return dataclasses.asdict(_verify(session, candidate.state.module, final))

    if session.pricing.variant is None:
        comparison = session.once(
            f"{key} {final.sha256[:8]}", lambda: {**measure_final(session, final), "check": check()}
        )
        return Attempt(
            candidate=candidate, comparison=comparison, target=target_ratio(session, comparison), float32=comparison
        )
    # No more than a guess of the float32 file's time: it decides how many images the device is asked about.
    expected = {"latency_ns": {"p50": baseline_ns * candidate.found.best.ratio}}
    made = choose_precision(session, candidate.state.module, final, expected)
    comparison = {**made.comparison, "check": session.once(f"{key} {final.sha256[:8]} check", check)}
    return Attempt(
        candidate=candidate,
        comparison=comparison,
        target=target_ratio(session, comparison),
        float32=expected,
        lost=made.lost,
    )


def _verify(session: Session, module: nn.Module, exported: ExportedModel) -> OutputCheck:
    """Compare the device's outputs with PyTorch's on validation images."""
    images = session.subject.data.validation.images[:VERIFIED_IMAGES]
    with torch.no_grad():
        reference = module(torch.from_numpy(images)).numpy()
    check = check_outputs(reference, session.measuring.outputs(exported, for_files(session, images)))
    if not check.ok:
        raise OutputsDiffer(
            f"{exported.path} computes something else on {session.measuring.device.name} than in PyTorch: outputs differ by "
            f"{check.max_error:.3g} at most, top-1 agrees for {check.top1_agreement:.1%} of {len(images)} images. The runtime or "
            "the export is at fault: try another version of the runtime, and report it with the file"
        )
    return check
