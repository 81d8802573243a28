"""The end of a compression: precision chosen, test images touched once, files and record written."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from host.compress.attempt import Attempt
from host.compress.device_accuracy import tested_on_device
from host.compress.energy_budget import judge
from host.compress.evaluation import evaluate
from host.compress.final import target_ratio
from host.compress.findings import findings
from host.compress.manifest import MANIFEST, ArtifactFile, reference_images, write_manifest
from host.compress.nodes import ExportedModel
from host.compress.plan_file import PlanFile
from host.compress.precision import Choice, choose_precision
from host.compress.record import header, plan_of, structure, tested, unmet
from host.compress.resolution import for_files
from host.compress.rounds import Candidate
from host.compress.session import Session
from host.compress.surgery import save_compressed
from host.compress.variants import VARIANTS_FOLDER, Variant
from host.files import write_whole
from host.report.page import report_page
from host.search.budgets import WINDOW
from host.search.latency import LatencyModel

#: What every finished run writes beside its models, by the record's name for it.
FILES = {
    "plan": "plan.json",
    "manifest": MANIFEST,
    "measurements": "measurements.jsonl",
    "record": "record.json",
    "report": "report.html",
}


def planned(session: Session, target: float, candidate: Candidate) -> dict[str, Any]:
    """Return the target and the plan with what was predicted and measured of it before training."""
    return {
        "target": {
            "latency_ratio": target,
            "latency_ns": session.options.target.latency_ns,
            "percentile": session.options.target.percentile,
        },
        "reason": candidate.found.reason,
        "chosen": candidate.method,
        "predicted_ratio": None if session.options.plan is not None else candidate.predicted,
        "measured_ratio": candidate.found.best.ratio,
        "device_seconds": session.measuring.device_ns / 1e9,
        "plan": plan_of(session.network, candidate.state.plan),
        "left_alone": [dataclasses.asdict(each) for each in session.network.left_alone],
    }


def finish(
    session: Session,
    baseline: Mapping[str, Any],
    model: LatencyModel | None,
    attempt: Attempt,
    pricing: Mapping[str, Any] | None,
    resolution: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Choose the precision, touch the test images for the first and only time, write all files, and return the record.

    `pricing` and `resolution` are the record's words on what the plan was made in. Without a latency model (a plan was replayed)
    the record has no prices.
    """
    candidate, module = attempt.candidate, attempt.candidate.state.module
    final = session.export(module, "model")  # a later attempt may lie there
    choice = choose_precision(session, module, final, attempt.float32)
    comparison, target = choice.comparison, target_ratio(session, choice.comparison)
    session.observer.stage("evaluating on the test images")
    test = session.subject.data.test
    original = session.original
    sides = {
        "baseline": {
            **tested(evaluate(original, test.images, test.labels)),
            **_figures(original, session.own.analysed.input_shape, session.baseline, baseline),
            "latency_ns": comparison["baseline_latency_ns"],
        },
        "result": {
            **(
                tested(evaluate(module, test.images, test.labels))
                if choice.artifact is None
                else tested_on_device(session, choice.file, comparison["latency_ns"]["p50"])
            ),
            **_figures(module, session.input_shape, choice.file, comparison),
            "latency_ratio": comparison["latency_ratio"],
            "latency_ratio_interval": comparison["latency_ratio_interval"],
        },
    }
    problems = unmet(session, sides, comparison["latency_ratio"], target, candidate.found.reason)
    energy, over = judge(session, choice.file)
    problems += [problem for problem in (choice.problem, over) if problem is not None]
    checkpoint = session.out / "model.pt"
    record = {
        **header(session),
        **sides,
        **planned(session, target, candidate),
        "energy": energy,
        "met": not problems,
        "reason": "; ".join(problems) or _spare(choice, session.pricing.variant, target, candidate.found.reason),
        "output_check": attempt.comparison["check"],
        "latency_model_error": _model_error(model),
        "resolution": resolution,
        "pricing": pricing,
        "precision": choice.document,
        "artifacts": {
            session.format.name: str(final.path),
            **({} if choice.artifact is None else {choice.artifact: str(choice.file.path)}),
            "checkpoint": str(checkpoint),
            **{name: str(session.out / file) for name, file in FILES.items()},
        },
        **findings(session, model, candidate.state.plan),
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
    _write_plan(session, attempt, session.out / FILES["plan"])
    _write_manifest(session, module, final, choice)
    lines = "".join(json.dumps(each, allow_nan=False) + "\n" for each in session.trace.measurements)
    write_whole(session.out / FILES["measurements"], lines.encode())
    write_whole(session.out / FILES["report"], report_page(record).encode())
    write_whole(session.out / FILES["record"], (json.dumps(record, indent=2, allow_nan=False) + "\n").encode())
    session.once("finished", lambda: None)
    _clean(session.out)
    return record


def finished(session: Session) -> dict[str, Any] | None:
    """Return the record of a run that has already come to its end in this folder, None for any other."""
    path = session.out / FILES["record"]
    if "finished" not in session.journal or not path.exists():
        return None
    _clean(session.out)
    record: dict[str, Any] = json.loads(path.read_bytes())
    return record


def _clean(out: Path) -> None:
    """Remove what only a run that is to be resumed needs."""
    for path in (*out.glob("*.training"), *out.glob("variant.*")):
        path.unlink(missing_ok=True)
    shutil.rmtree(out / VARIANTS_FOLDER, ignore_errors=True)


def _write_plan(session: Session, attempt: Attempt, path: Path) -> None:
    options = session.options
    PlanFile(
        model=options.model,
        weights=session.subject.fingerprints()["weights"],
        channels={group.name: group.channels for group in session.network.groups},
        kept={group.name: tuple(sorted(attempt.candidate.state.kept[group.name])) for group in session.network.groups},
        target=dataclasses.asdict(options.target),
        latency_ratio=float(attempt.comparison["latency_ratio"]),
        input_size=session.view.size,
    ).write(path)


def _write_manifest(session: Session, module: nn.Module, final: ExportedModel, choice: Choice) -> None:
    """Write the references: PyTorch's answers for the float32 file, the device's own for one of a lower precision."""
    images = for_files(session, reference_images(session.subject.data))
    with torch.no_grad():
        answers = module(torch.from_numpy(images)).numpy()
    made = [
        ArtifactFile(
            role=session.format.name,
            path=final.path,
            precision="float32",
            outputs=answers,
            computed_by="PyTorch on the host",
        )
    ]
    if choice.artifact is not None:
        info, settings = session.measuring.device.info, session.measuring.settings
        runtime = info.runtime(settings.runtime)
        assert runtime is not None
        given = session.once(
            f"reference outputs {choice.file.sha256[:8]}",
            lambda: session.measuring.outputs(choice.file, images).tolist(),
        )
        made.append(
            ArtifactFile(
                role=choice.artifact,
                path=choice.file.path,
                precision=choice.precision,
                outputs=np.asarray(given, dtype=np.float32),
                computed_by=f"{runtime.name} {runtime.version} on {info.cpu}",
            )
        )
    others = {
        "checkpoint": session.out / "model.pt",
        "plan": session.out / FILES["plan"],
        "baseline": session.baseline.path,
    }
    write_manifest(
        session.out,
        model=session.options.model,
        data=session.subject.data,
        images=images,
        artifacts=made,
        others=others,
    )


def _model_error(model: LatencyModel | None) -> dict[str, Any] | None:
    error = None if model is None else model.held_out_error()
    return None if error is None else dataclasses.asdict(error)


def _figures(
    module: nn.Module, input_shape: tuple[int, int, int], file: ExportedModel, found: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what the record says of a side but for its accuracy: structure of `module`, size of `file`, what was measured."""
    measured_ones = {key: found[key] for key in ("latency_ns", "peak_memory_bytes", "verdict")}
    return {"sha256": file.sha256, **structure(module, input_shape, file.path), **measured_ones}


def _spare(choice: Choice, planned_in: Variant | None, target: float, reason: str | None) -> str | None:
    """Return why a result that meets its target is faster than the window, None if it is not."""
    share = choice.comparison["latency_ratio"] / target
    if share >= WINDOW[0]:
        return None
    if choice.artifact is not None and planned_in is None:
        return f"{choice.precision} takes {share:.0%} of the target's latency; the plan was made at float32 prices"
    return reason
