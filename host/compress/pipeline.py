"""`host compress` without the command line: measure, learn what widths cost, then rounds of planning and fine-tuning."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from device_agent.contract.document import statistics_ns
from device_agent.contract.errors import InvalidRequest, StableError
from device_agent.contract.measurement import Measurement
from device_agent.contract.statistics import percentile
from host.compress.attempt import Attempt, nearest, with_reason
from host.compress.evaluation import evaluate
from host.compress.measuring import Measuring
from host.compress.nodes import ExportedModel
from host.compress.observer import Observer
from host.compress.options import CompressOptions
from host.compress.record import header, measured, plan_of, structure, tested, unmet
from host.compress.rounds import Candidate, Chooser, Round, best_of, fine_tune
from host.compress.session import Session, State
from host.compress.subject import Subject
from host.compress.surgery import save_compressed
from host.compress.verify import OutputCheck, check_outputs
from host.files import write_whole
from host.search.budgets import WINDOW, within
from host.search.latency import LatencyModel
from host.search.planner import Infeasible, check_feasible, round_budgets

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
) -> dict[str, Any]:
    """Compress `subject` for the device of `measuring`; write the results to `out` and return the record (docs/json-schema.md).

    The record says whether the target was met and, if not, why; a target that no allowed plan is predicted to reach raises
    Infeasible before anything is trained. A target in nanoseconds is a ratio to the baseline as measured last. With `dry_run` a
    plan for the whole target is measured on the device and nothing is trained. Raises the contract's errors, ModelNotPrunable,
    TrainingError, OutputsDiffer, JournalMismatch, CannotWrite.
    """
    session = Session(options, subject, measuring, out, observer or Observer())
    session.observer.stage("measuring the baseline on the device")
    baseline = session.once("baseline", lambda: measured(measuring.alone(session.baseline, options.model)))
    _verify(session, session.original, session.baseline)
    target = options.target.of(baseline["latency_ns"]["p50"])
    if target >= 1:
        raise InvalidRequest(
            f"the baseline already takes {baseline['latency_ns']['p50'] / 1e6:.3f} ms on {measuring.device.name}, and the target "
            f"is {target * baseline['latency_ns']['p50'] / 1e6:.3f} ms: there is nothing to compress for"
        )
    widths, granularity = session.widths()
    model = session.learn(widths, granularity, baseline["latency_ns"]["p50"])
    state, rounds = session.start(), options.rounds_for(target)
    if dry_run:
        wanted = Round(name="dry run", ratio=target, window=CHECK_WINDOW, tries=MOST_TRIES, epochs=0)
        candidate = best_of(Chooser(session, state, wanted, model, widths).candidates(_methods(options)), wanted)
        return {
            **header(session),
            "baseline": {**baseline, **structure(session.original, subject.model.input_shape, session.baseline.path)},
            **_planned(session, target, candidate),
            "met": None,
            "result": None,
        }
    check_feasible(session.network, widths, model, latency_ratio=target, max_parameters=session.max_parameters)
    budgets, epochs = round_budgets(target, rounds), split_epochs(options.epochs, rounds)
    for number, (budget, share) in enumerate(zip(budgets, epochs, strict=True), 1):
        last = number == rounds
        wanted = Round(
            name=f"round {number} of {rounds}",
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
    attempts = [_attempt(session, candidate, "final")]
    for number in range(1, MOST_CORRECTIONS + 1):
        last_try = attempts[-1]
        too_slow = last_try.share > WINDOW[1]
        if not too_slow and (last_try.share >= WINDOW[0] or candidate.found.reason is not None):
            break
        # Too slow: cut a little more from what was just trained. Too fast: from the last round's start, with more channels.
        wanted = Round(
            name=f"correction {number}",
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
        attempts.append(_attempt(session, candidate, f"final {number}"))
    return _finish(session, baseline, model, nearest(attempts))


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
    return dataclasses.replace(candidate, state=fine_tune(session, candidate.state, wanted)), chooser.updated_model()


def _attempt(session: Session, candidate: Candidate, key: str) -> Attempt:
    """Export the trained module, check its outputs on the device, and measure it in turns with the baseline, at length."""
    session.observer.stage("measuring the result on the device, in turns with the baseline")
    final = session.export(candidate.state.module, "model")

    def target_in(measurement: Measurement) -> float:
        return session.options.target.of(percentile(measurement.latencies_ns(0), 50))

    def measure() -> dict[str, Any]:
        check = _verify(session, candidate.state.module, final)
        found = session.measuring.compare(session.baseline, final, session.options.model, final=True)
        if not within(found.ratio.ratio, target_in(found.measurement), WINDOW):
            # A neighbour on the device can move a ratio by 2 %, and a correction costs epochs: the finding has to repeat.
            found = session.measuring.compare(session.baseline, final, session.options.model, final=True, longer=2.0)
        alone = measured(session.measuring.alone(final, session.options.model))
        return {
            "latency_ratio": found.ratio.ratio,
            "latency_ratio_interval": None if found.ratio.low is None else [found.ratio.low, found.ratio.high],
            "baseline_latency_ns": statistics_ns(found.measurement.latencies_ns(0)),
            "latency_ns": statistics_ns(found.measurement.latencies_ns(1)),
            "peak_memory_bytes": alone["peak_memory_bytes"],
            "verdict": alone["verdict"],
            "check": dataclasses.asdict(check),
        }

    comparison = session.once(f"{key} {final.sha256[:8]}", measure)
    target = session.options.target.of(comparison["baseline_latency_ns"]["p50"])
    return Attempt(candidate=candidate, comparison=comparison, target=target)


def _verify(session: Session, module: nn.Module, exported: ExportedModel) -> OutputCheck:
    """Compare the device's outputs with PyTorch's on validation images."""
    images = session.subject.data.validation.images[:VERIFIED_IMAGES]
    with torch.no_grad():
        reference = module(torch.from_numpy(images)).numpy()
    check = check_outputs(reference, session.measuring.outputs(exported, images))
    if not check.ok:
        raise OutputsDiffer(
            f"{exported.path} computes something else on {session.measuring.device.name} than in PyTorch: outputs differ by "
            f"{check.max_error:.3g} at most, top-1 agrees for {check.top1_agreement:.1%} of {len(images)} images. The runtime or "
            "the export is at fault: try another version of the runtime, and report it with the file"
        )
    return check


def _planned(session: Session, target: float, candidate: Candidate) -> dict[str, Any]:
    """Return the target and the plan with what was predicted and measured of it before training."""
    return {
        "target": {"latency_ratio": target, "latency_ns": session.options.target.latency_ns},
        "reason": candidate.found.reason,
        "chosen": candidate.method,
        "predicted_ratio": candidate.predicted,
        "measured_ratio": candidate.found.best.ratio,
        "device_seconds": session.measuring.device_ns / 1e9,
        "plan": plan_of(session.network, candidate.state.plan),
        "left_alone": [dataclasses.asdict(each) for each in session.network.left_alone],
    }


def _finish(
    session: Session,
    baseline: Mapping[str, Any],
    model: LatencyModel,
    attempt: Attempt,
) -> dict[str, Any]:
    """Touch the test images for the first and only time, write model, checkpoint and record, and return the record."""
    candidate, comparison, target = attempt.candidate, attempt.comparison, attempt.target
    final = session.export(candidate.state.module, "model")  # a later attempt may lie there
    session.observer.stage("evaluating on the test images")
    shape, test = session.subject.model.input_shape, session.subject.data.test
    sides = {
        name: {
            **tested(evaluate(module, test.images, test.labels)),
            **structure(module, shape, exported.path),
            **{key: value for key, value in found.items() if key in ("latency_ns", "peak_memory_bytes", "verdict")},
        }
        for name, module, exported, found in (
            (
                "baseline",
                session.original,
                session.baseline,
                {**baseline, "latency_ns": comparison["baseline_latency_ns"]},
            ),
            ("result", candidate.state.module, final, comparison),
        )
    }
    ratio = comparison["latency_ratio"]
    sides["result"]["latency_ratio"] = ratio
    sides["result"]["latency_ratio_interval"] = comparison["latency_ratio_interval"]
    problems = unmet(session, sides, ratio, target, candidate.found.reason)
    checkpoint = session.out / "model.pt"
    record = {
        **header(session),
        **sides,
        **_planned(session, target, candidate),
        "met": not problems,
        "reason": "; ".join(problems) or (candidate.found.reason if ratio < WINDOW[0] * target else None),
        "output_check": comparison["check"],
        "latency_model_error": None if (error := model.held_out_error()) is None else dataclasses.asdict(error),
        "artifacts": {
            "onnx": str(final.path),
            "checkpoint": str(checkpoint),
            "record": str(session.out / "record.json"),
        },
    }
    options = session.options
    save_compressed(
        candidate.state.module,
        checkpoint,
        kept=candidate.state.kept,
        architecture=options.model,
        arguments=session.subject.model.arguments,
        metadata={
            "data": session.subject.data.name,
            "test_accuracy": sides["result"]["accuracy"],
            "latency_ratio": ratio,
        },
    )
    write_whole(session.out / "record.json", (json.dumps(record, indent=2, allow_nan=False) + "\n").encode())
    (session.out / "variant.onnx").unlink(missing_ok=True)
    return record
