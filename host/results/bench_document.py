"""The JSON document of `host bench --json`; docs/json-schema.md describes it. Base units, nothing rounded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from device_agent.contract.artifact import Artifact
from device_agent.contract.device import DeviceInfo, Quantity
from device_agent.contract.measurement import Measurement
from device_agent.contract.statistics import enough_undisturbed, percentile
from host.results.records import to_json

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
    latencies = measurement.latencies_ns()
    undisturbed = measurement.latencies_ns(undisturbed=True)
    document = {
        "schema": SCHEMA,
        "latency_ns": statistics_ns(latencies),
        "latency_undisturbed_ns": statistics_ns(undisturbed)
        if enough_undisturbed(len(undisturbed), len(latencies))
        else None,
        "runs": len(latencies),
        "runs_undisturbed": len(undisturbed),
        "verdict": to_json(found.verdicts),
        "peak_memory_bytes": found.peak_memory_bytes,
        "peak_rss_bytes": found.peak_rss_bytes,
        "energy_j_per_run": None,
        "energy_unavailable": energy_unavailable(device),
        "device": {
            "name": device_name,
            "id": device.device_id,
            "profile": device.profile,
            "board": device.board,
            "cpu": device.cpu,
            "cores": device.cores,
            "governor": device.governor,
        },
        "runtime": {
            "name": result.runtime,
            "version": result.runtime_version,
            "provider": found.provider,
            "provider_share": found.provider_share,
        },
        "threads": result.threads,
        "artifact": to_json(artifact),
        "load_ns": found.load_ns,
        "device_time_ns": result.device_time_ns,
        "steal_fraction": result.steal_fraction,
        "measurement_id": measurement_id,
    }
    if measurement.request.profile_nodes:
        document["layers"] = None if found.nodes is None else to_json(found.nodes)
    return document


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


def energy_unavailable(device: DeviceInfo) -> str:
    """Return why there is no energy per run."""
    if any(channel.quantity in (Quantity.POWER, Quantity.ENERGY) for channel in device.channels):
        return "this version keeps the readings of the power sensor but does not derive energy from them yet"
    return "the device has no power sensor that its agent can read"
