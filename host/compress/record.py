"""The record of a compression: plain JSON values, versioned, documented in docs/json-schema.md."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from device_agent.contract.document import device_document, statistics_ns
from device_agent.contract.measurement import Measurement
from device_agent.contract.plain_json import to_json
from host.compress.counting import count_macs, count_parameters

if TYPE_CHECKING:
    from host.compress.evaluation import Evaluation
    from host.compress.session import Session
    from host.search.network import Network, Plan

SCHEMA = 1


def measured(measurement: Measurement) -> dict[str, Any]:
    """Return what a record keeps of a measurement of one artifact."""
    result = measurement.result.artifacts[0]
    return {
        "latency_ns": statistics_ns(measurement.latencies_ns()),
        "peak_memory_bytes": result.peak_memory_bytes,
        "verdict": to_json(result.verdicts),
    }


def structure(module: nn.Module, input_shape: tuple[int, int, int], file: Path) -> dict[str, Any]:
    """Return what is counted and not measured: MACs and parameters of the module for images of `input_shape` (C, H, W), which is
    named beside them, and the file's size in bytes.
    """
    return {
        "input_shape": list(input_shape),
        "macs": count_macs(module, input_shape),
        "parameters": count_parameters(module),
        "size_bytes": file.stat().st_size,
    }


def tested(evaluation: Evaluation) -> dict[str, float | int]:
    """Return the accuracy on the test split, with the counts behind it."""
    return {"accuracy": evaluation.accuracy, "correct": evaluation.correct, "test_images": evaluation.count}


def header(session: Session) -> dict[str, Any]:
    """Return what identifies the run: model, data, device, runtime and settings."""
    info, settings, options = session.measuring.device.info, session.measuring.settings, session.options
    runtime = info.runtime(settings.runtime)
    assert runtime is not None
    return {
        "schema": SCHEMA,
        "model": options.model,
        "data": session.subject.data.name,
        "device": device_document(info, session.measuring.device.name),
        "runtime": {"name": runtime.name, "version": runtime.version, "provider": settings.provider},
        "threads": settings.threads,
        "method": options.method,
        "criterion": options.criterion,
        "epochs": options.epochs,
        "seed": options.seed,
    }


def plan_of(network: Network, plan: Plan) -> dict[str, dict[str, int]]:
    """Return channels and channels kept of every group, by the group's name."""
    return {group.name: {"channels": group.channels, "kept": plan.kept[group.name]} for group in network.groups}


def unmet(
    session: Session, sides: dict[str, dict[str, Any]], ratio: float, target: float, reason: str | None
) -> list[str]:
    """Return in words every constraint that the result does not meet; empty if all are met."""
    options, result = session.options, sides["result"]
    problems = []
    if ratio > target:
        problems.append(f"latency is {ratio / target:.3f} of the target" + (f" ({reason})" if reason else ""))
    if options.max_size_bytes is not None and result["size_bytes"] > options.max_size_bytes:
        problems.append(f"the file has {result['size_bytes']} bytes, {options.max_size_bytes} are allowed")
    memory = result["peak_memory_bytes"]
    if options.max_memory_bytes is not None and memory is None:
        problems.append("the device reported no peak memory, so the memory budget cannot be judged")
    elif options.max_memory_bytes is not None and memory > options.max_memory_bytes:
        problems.append(f"peak memory is {memory} bytes, {options.max_memory_bytes} are allowed")
    # From the counts: 0.915 - 0.905 is a little more than 0.01.
    drop = (sides["baseline"]["correct"] - result["correct"]) / result["test_images"]
    if options.max_accuracy_drop is not None and drop > options.max_accuracy_drop:
        problems.append(f"accuracy dropped by {drop:.4f}, {options.max_accuracy_drop:.4f} are allowed")
    return problems
