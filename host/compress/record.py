"""The record of a compression: plain JSON values, versioned, documented in docs/json-schema.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from device_agent.contract.measurement import Measurement
from device_agent.contract.statistics import percentile

if TYPE_CHECKING:
    from host.compress.evaluation import Evaluation
    from host.compress.session import Session
    from host.search.network import Network, Plan

SCHEMA = 1


def latency_ns(latencies: Sequence[int]) -> dict[str, float]:
    """Return p50, p90, p99, min and mean of timed latencies in nanoseconds."""
    return {
        "p50": percentile(latencies, 50),
        "p90": percentile(latencies, 90),
        "p99": percentile(latencies, 99),
        "min": float(min(latencies)),
        "mean": sum(latencies) / len(latencies),
    }


def measured(measurement: Measurement) -> dict[str, Any]:
    """Return what a record keeps of a measurement of one artifact."""
    result = measurement.result.artifacts[0]
    return {
        "latency_ns": latency_ns(measurement.latencies_ns()),
        "peak_memory_bytes": result.peak_memory_bytes,
        "verdict": [
            {
                "code": each.code.value,
                "value": each.value,
                "unit": each.unit,
                "threshold": each.threshold,
                "hint": each.hint,
            }
            for each in result.verdicts
        ],
    }


def side(
    evaluation: Evaluation, latency: dict[str, float], macs: int, parameters: int, file: Path, memory: int | None
) -> dict[str, Any]:
    """Return one side, `baseline` or `result`: accuracy on the test split, latency, MACs, parameters, sizes in bytes."""
    return {
        "accuracy": evaluation.accuracy,
        "correct": evaluation.correct,
        "test_images": evaluation.count,
        "latency_ns": latency,
        "macs": macs,
        "parameters": parameters,
        "size_bytes": file.stat().st_size,
        "peak_memory_bytes": memory,
    }


def header(session: Session) -> dict[str, Any]:
    """Return what identifies the run: model, data, device, runtime and settings."""
    info, settings, options = session.measuring.device.info, session.measuring.settings, session.options
    runtime = next(each for each in info.runtimes if each.name == settings.runtime)
    return {
        "schema": SCHEMA,
        "model": options.model,
        "data": session.subject.data.name,
        "device": {
            "name": session.measuring.device.name,
            "id": info.device_id,
            "profile": info.profile,
            "board": info.board,
            "cpu": info.cpu,
        },
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
    drop = sides["baseline"]["accuracy"] - result["accuracy"]
    if options.max_accuracy_drop is not None and drop > options.max_accuracy_drop:
        problems.append(f"accuracy dropped by {drop:.4f}, {options.max_accuracy_drop:.4f} are allowed")
    return problems
