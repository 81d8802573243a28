"""The end of a compression: precision chosen, test images touched once, files and record written."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from typing import Any

from torch import nn

from host.compress.attempt import Attempt
from host.compress.device_accuracy import tested_on_device
from host.compress.evaluation import evaluate
from host.compress.final import target_ratio
from host.compress.nodes import ExportedModel
from host.compress.precision import Choice, choose_precision
from host.compress.record import header, plan_of, structure, tested, unmet
from host.compress.rounds import Candidate
from host.compress.session import Session
from host.compress.surgery import save_compressed
from host.compress.variants import VARIANTS_FOLDER
from host.files import write_whole
from host.search.budgets import WINDOW
from host.search.latency import LatencyModel


def planned(session: Session, target: float, candidate: Candidate) -> dict[str, Any]:
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


def finish(
    session: Session,
    baseline: Mapping[str, Any],
    model: LatencyModel,
    attempt: Attempt,
) -> dict[str, Any]:
    """Choose the precision, touch the test images for the first and only time, write all files, and return the record."""
    candidate, module = attempt.candidate, attempt.candidate.state.module
    final = session.export(module, "model")  # a later attempt may lie there
    choice = choose_precision(session, module, final, attempt.comparison)
    comparison, target = choice.comparison, target_ratio(session, choice.comparison)
    session.observer.stage("evaluating on the test images")
    test = session.subject.data.test
    original = session.original
    sides = {
        "baseline": {
            **tested(evaluate(original, test.images, test.labels)),
            **_figures(session, original, session.baseline, baseline),
            "latency_ns": comparison["baseline_latency_ns"],
        },
        "result": {
            **(
                tested(evaluate(module, test.images, test.labels))
                if choice.artifact is None
                else tested_on_device(session, choice.file, comparison["latency_ns"]["p50"])
            ),
            **_figures(session, module, choice.file, comparison),
            "latency_ratio": comparison["latency_ratio"],
            "latency_ratio_interval": comparison["latency_ratio_interval"],
        },
    }
    problems = unmet(session, sides, comparison["latency_ratio"], target, candidate.found.reason)
    if choice.problem is not None:
        problems.append(choice.problem)
    checkpoint = session.out / "model.pt"
    record = {
        **header(session),
        **sides,
        **planned(session, target, candidate),
        "met": not problems,
        "reason": "; ".join(problems) or _spare(choice, target, candidate.found.reason),
        "output_check": attempt.comparison["check"],
        "latency_model_error": None if (error := model.held_out_error()) is None else dataclasses.asdict(error),
        "precision": choice.document,
        "artifacts": {
            "onnx": str(final.path),
            **({} if choice.artifact is None else {choice.artifact: str(choice.file.path)}),
            "checkpoint": str(checkpoint),
            "record": str(session.out / "record.json"),
        },
    }
    metadata = {"data": session.subject.data.name, "latency_ratio": attempt.comparison["latency_ratio"]}
    if choice.artifact is None:  # else the test images were the other file's alone
        metadata["test_accuracy"] = sides["result"]["accuracy"]
    save_compressed(
        module,
        checkpoint,
        kept=candidate.state.kept,
        architecture=session.options.model,
        arguments=session.subject.model.arguments,
        metadata=metadata,
    )
    write_whole(session.out / "record.json", (json.dumps(record, indent=2, allow_nan=False) + "\n").encode())
    (session.out / "variant.onnx").unlink(missing_ok=True)
    shutil.rmtree(session.out / VARIANTS_FOLDER, ignore_errors=True)
    return record


def _figures(session: Session, module: nn.Module, file: ExportedModel, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the record says of a side but for its accuracy: structure of `module`, size of `file`, what was measured."""
    measured_ones = {key: found[key] for key in ("latency_ns", "peak_memory_bytes", "verdict")}
    return {**structure(module, session.subject.model.input_shape, file.path), **measured_ones}


def _spare(choice: Choice, target: float, reason: str | None) -> str | None:
    """Return why a result that meets its target is faster than the window, None if it is not."""
    share = choice.comparison["latency_ratio"] / target
    if share >= WINDOW[0]:
        return None
    if choice.artifact is not None:
        return f"{choice.precision} takes {share:.0%} of the target's latency; what is to spare was not turned back into accuracy"
    return reason
