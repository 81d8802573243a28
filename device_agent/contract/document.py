"""The JSON document of `bench --json`, the same from host and agent; docs/json-schema.md describes it. Nothing is rounded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from device_agent.contract.artifact import Artifact
from device_agent.contract.device import DeviceInfo
from device_agent.contract.disturbance import TIME_SLICE_NS, enough_undisturbed, marks_are_void
from device_agent.contract.energy import energy_document
from device_agent.contract.measurement import ColdStart, Measurement, RunKind
from device_agent.contract.neighbours import others_note
from device_agent.contract.plain_json import to_json
from device_agent.contract.soak import soak_windows
from device_agent.contract.statistics import median, percentile

SCHEMA = 1


def bench_document(
    measurement: Measurement,
    *,
    artifact: Artifact,
    device_name: str,
    device: DeviceInfo,
    measurement_id: int | None,
) -> dict[str, Any]:
    """Return the document of a measurement of one artifact. `measurement_id` is its place in the history, if it has one."""
    result = measurement.result
    found = result.artifacts[0]
    return {
        "schema": SCHEMA,
        **latency_document(measurement, 0),
        "verdict": [to_json(verdict) for verdict in found.verdicts],
        "peak_memory_bytes": found.peak_memory_bytes,
        "peak_rss_bytes": found.peak_rss_bytes,
        **energy_document(measurement, device.channels),
        "device": device_document(device, device_name),
        "runtime": {
            "name": result.runtime,
            "version": result.runtime_version,
            "provider": found.provider,
            "provider_share": found.provider_share,
        },
        "threads": result.threads,
        "cpus": None if result.cpus is None else list(result.cpus),
        "settings": settings_document(measurement),
        "notes": notes(measurement, device),
        "artifact": to_json(artifact),
        "load_ns": found.load_ns,
        "memory": None if found.memory is None else to_json(found.memory),
        "cold_starts": cold_starts_document(found.cold_starts),
        "soak": soak_document(measurement, device),
        "device_time_ns": result.device_time_ns,
        "steal_fraction": result.steal_fraction,
        "measurement_id": measurement_id,
        **layers_document(measurement, 0),
    }


def latency_document(measurement: Measurement, artifact: int) -> dict[str, Any]:
    """Return the statistics of one artifact's timed runs, and how many runs these are."""
    latencies = measurement.latencies_ns(artifact)
    undisturbed = measurement.latencies_ns(artifact, undisturbed=True)
    void = marks_are_void(measurement.timed(artifact))
    enough = enough_undisturbed(len(undisturbed), len(latencies)) and not void
    return {
        "latency_ns": statistics_ns(latencies),
        "latency_undisturbed_ns": statistics_ns(undisturbed) if enough else None,
        "runs": len(latencies),
        "runs_undisturbed": len(undisturbed),
    }


def settings_document(measurement: Measurement) -> dict[str, Any]:
    """Return what was asked for, `null` where the choice was left to the device."""
    asked = to_json(measurement.request.settings)
    asked["provider_options"] = dict(measurement.request.settings.provider_options)
    return {**asked, "seed": measurement.request.seed}


def notes(measurement: Measurement, device: DeviceInfo) -> list[str]:
    """Return remarks on the settings that a reader of the figures should know; they are no verdicts."""
    found = []
    threads, pinned = measurement.result.threads, measurement.result.cpus
    usable = device.cores if pinned is None else min(device.cores, len(pinned))
    if threads > usable:
        where = f"{usable} {'core' if usable == 1 else 'cores'}"
        chosen = "" if pinned is None else " that the worker is pinned to"
        found.append(
            f"{threads} threads on {where}{chosen}: they take turns and wait for each other; try --threads {usable}"
        )
    if marks_are_void(measurement.timed()):
        found.append(
            f"a run takes longer than the scheduler's time slice ({TIME_SLICE_NS / 1e6:g} ms), so no run escapes a neighbour and"
            " the marks of disturbed runs tell nothing; the CPU pressure does"
        )
    span = measurement.result.timed_span
    other = None if span is None else others_note(measurement.readings, *span, cores=device.cores)
    if other is not None:
        found.append(other)
    return found


def cold_starts_document(starts: Sequence[ColdStart]) -> dict[str, Any] | None:
    """Return median and range of every part of the cold starts, and the starts themselves; None without any."""
    if not starts:
        return None
    parts = ("import_ns", "load_ns", "first_run_ns", "total_ns")
    rows = [{part: getattr(start, part) for part in parts} for start in starts]
    columns = {part: [row[part] for row in rows] for part in parts}
    return {
        "count": len(rows),
        **{
            part: {"median": float(median(values)), "min": min(values), "max": max(values)}
            for part, values in columns.items()
        },
        "starts": rows,
    }


def soak_document(measurement: Measurement, device: DeviceInfo) -> dict[str, Any] | None:
    """Return a soak as a table over time; None for a measurement that was none."""
    if measurement.request.soak_s is None:
        return None
    return {
        "asked_s": measurement.request.soak_s,
        "unrecorded_runs": measurement.result.artifacts[0].unrecorded_runs,
        "windows": [
            {**to_json(window), "counts": dict(window.counts)} for window in soak_windows(measurement, device.channels)
        ],
    }


def layers_document(measurement: Measurement, artifact: int) -> dict[str, Any]:
    """Return the node times of one artifact and, where it has none, why. Empty if they were not asked for.

    `layers_total` holds their sum against the median of the plain runs in the same turns: how far they explain it. `layer`, the
    module of the network that a node belongs to, is left for the host to fill in: it has the file at hand.
    """
    if not measurement.request.profile_nodes:
        return {}
    found = measurement.result.artifacts[artifact]
    if found.nodes is None:
        return {"layers": None, "layers_total": None, "layers_unavailable": found.nodes_unavailable}
    total = sum(node.median_ns for node in found.nodes)
    beside = _beside_profiled(measurement, artifact)
    return {
        "layers": [{"layer": None, **to_json(node)} for node in found.nodes],
        "layers_total": {"sum_ns": total, "plain_ns": beside, "ratio": None if beside is None else total / beside},
        "layers_unavailable": None,
    }


def _beside_profiled(measurement: Measurement, artifact: int) -> float | None:
    """Return the median of the plain runs made while the profiled twin took its turns; of the undisturbed, if these are enough.

    A preemption lengthens one node of many, and hardly moves the sum of their medians.
    """
    own = [run for run in measurement.runs if run.artifact == artifact]
    end = max((run.start_ns for run in own if run.kind is RunKind.PROFILED), default=None)
    plain = [run for run in own if run.kind is RunKind.TIMED and (end is None or run.start_ns <= end)]
    quiet = [run for run in plain if not run.disturbed]
    used = quiet if enough_undisturbed(len(quiet), len(plain)) else plain
    return percentile([run.latency_ns for run in used], 50) if used else None


def device_document(device: DeviceInfo, name: str) -> dict[str, Any]:
    """Return the device that figures belong to, under the name that it goes by where they are read."""
    return {
        "name": name,
        "id": device.device_id,
        "profile": device.profile,
        "board": device.board,
        "cpu": device.cpu,
        "cores": device.cores,
        "governor": device.governor,
    }


def statistics_ns(latencies: Sequence[int]) -> dict[str, float] | None:
    """Return p50, p90, p99, min and mean in nanoseconds; None without runs."""
    if not latencies:
        return None
    return {
        "p50": percentile(latencies, 50),
        "p90": percentile(latencies, 90),
        "p99": percentile(latencies, 99),
        "min": float(min(latencies)),
        "mean": sum(latencies) / len(latencies),
    }
