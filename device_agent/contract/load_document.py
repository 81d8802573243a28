"""The JSON document of `load --json`, the same from host and agent; docs/json-schema.md describes it. Nothing is rounded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from device_agent.contract.artifact import Artifact
from device_agent.contract.bound import CONFIDENCE
from device_agent.contract.device import DeviceInfo
from device_agent.contract.document import SCHEMA, device_document
from device_agent.contract.load import LoadMeasurement, LoadTrial, ServedRequest
from device_agent.contract.neighbours import others_note
from device_agent.contract.plain_json import to_json
from device_agent.contract.statistics import percentile


def load_document(
    measurement: LoadMeasurement, *, artifact: Artifact, device_name: str, device: DeviceInfo, load_id: int | None
) -> dict[str, Any]:
    """Return the document of a load job. `load_id` is its place in the history, if it has one."""
    request, result = measurement.request, measurement.result
    trials = [_trial(measurement, number) for number in range(len(result.trials))]
    closed = next((trial for trial in trials if trial["rate_per_s"] is None), None)
    bound = None
    if request.bound_ns is not None:
        bound = {"latency_ns": request.bound_ns, "percent": request.percent, "confidence": CONFIDENCE}
    settings = to_json(request.settings)
    settings["provider_options"] = dict(request.settings.provider_options)
    return {
        "schema": SCHEMA,
        "streams": result.streams,
        "threads": result.threads,
        "cpus": None if result.cpus is None else list(result.cpus),
        "rate_per_s": request.rate_per_s,
        "bound": bound,
        "duration_s": request.duration_s,
        "min_requests": request.min_requests,
        "throughput_per_s": None if closed is None else closed["served_per_s"],
        "highest_rate_per_s": result.highest_rate_per_s,
        "lowest_rate_beyond_per_s": min(
            (trial.rate_per_s for trial in result.trials if trial.within_bound is False and trial.rate_per_s),
            default=None,
        ),
        "trials": trials,
        "dispatch_late_ns": _lateness(measurement),
        "verdict": [to_json(verdict) for verdict in result.verdicts],
        "notes": notes(measurement, device),
        "settings": {**settings, "seed": request.seed},
        "device": device_document(device, device_name),
        "runtime": {"name": result.runtime, "version": result.runtime_version, "provider": result.provider},
        "artifact": to_json(artifact),
        "load_ns": result.load_ns,
        "device_time_ns": result.device_time_ns,
        "steal_fraction": result.steal_fraction,
        "load_id": load_id,
    }


def _trial(measurement: LoadMeasurement, number: int) -> dict[str, Any]:
    request, trial = measurement.request, measurement.result.trials[number]
    latencies = [one.latency_ns for one in measurement.of_trial(number)]
    over = None
    if request.bound_ns is not None and trial.rate_per_s is not None:
        late = sum(latency > request.bound_ns for latency in latencies) + trial.unserved
        over = late / (len(latencies) + trial.unserved)
    return {
        "rate_per_s": trial.rate_per_s,
        "served_per_s": _served_per_s(trial),
        "seconds": (trial.end_ns - trial.start_ns) / 1e9,
        "requests": trial.requests,
        "unserved": trial.unserved,
        "latency_ns": _latency(latencies, request.percent),
        "over_bound": over,
        "within_bound": trial.within_bound,
    }


def _served_per_s(trial: LoadTrial) -> float:
    return trial.requests / (trial.end_ns - trial.start_ns) * 1e9


def _latency(latencies: Sequence[int], percent: float) -> dict[str, float] | None:
    """Return p50, p90, p99, maximum, mean and the percentile of the bound in nanoseconds; None without requests."""
    if not latencies:
        return None
    ordered = sorted(latencies)
    return {
        "p50": percentile(ordered, 50),
        "p90": percentile(ordered, 90),
        "p99": percentile(ordered, 99),
        "max": float(ordered[-1]),
        "mean": sum(ordered) / len(ordered),
        "at_percent": percentile(ordered, percent),
    }


def _lateness(measurement: LoadMeasurement) -> dict[str, float] | None:
    """Return how late the load generator itself was: None in a closed loop, and where no request found an idle stream."""
    late: list[int] = []
    for number, trial in enumerate(measurement.result.trials):
        if trial.rate_per_s is not None:
            late += dispatch_lateness_ns(measurement.of_trial(number))
    if not late:
        return None
    return {"p50": percentile(late, 50), "p99": percentile(late, 99), "max": float(max(late))}


def dispatch_lateness_ns(served: Iterable[ServedRequest]) -> list[int]:
    """Return, for every request of an open loop whose stream was idle when it arrived, how long after that it was begun.

    Nothing but the waking of a thread lies between the two. It is part of the latency, as it would be in any server.
    """
    last_end: dict[int, int] = {}
    late: list[int] = []
    for one in sorted(served, key=lambda one: one.start_ns):
        if last_end.get(one.stream, 0) <= one.arrival_ns:
            late.append(one.start_ns - one.arrival_ns)
        last_end[one.stream] = one.end_ns
    return late


def notes(measurement: LoadMeasurement, device: DeviceInfo) -> list[str]:
    """Return remarks that a reader of the figures should know; they are no verdicts."""
    result, request = measurement.result, measurement.request
    found = []
    usable = device.cores if result.cpus is None else min(device.cores, len(result.cpus))
    if result.threads * result.streams > usable:
        found.append(
            f"{result.streams} streams of {result.threads} thread{'s' * (result.threads != 1)} on {usable}"
            f" core{'s' * (usable != 1)}: they take turns and wait for each other"
        )
    if request.settings.threads is None and result.streams > 1:
        found.append("the device's threads were divided among the streams; --threads sets those of each stream")
    if any(trial.unserved for trial in result.trials):
        found.append("trials with unserved requests were given up, because the queue only grew")
    if result.trials:
        span = (result.trials[0].start_ns, result.trials[-1].end_ns)
        other = others_note(measurement.readings, *span, cores=device.cores)
        if other is not None:
            found.append(other)
    return found
