"""The JSON document of `bench --json`, the same from host and agent; docs/json-schema.md describes it. Nothing is rounded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from enum import Enum
from typing import Any

from device_agent.contract.artifact import Artifact
from device_agent.contract.device import DeviceInfo, Quantity
from device_agent.contract.measurement import Measurement
from device_agent.contract.statistics import enough_undisturbed, percentile

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
        "verdict": [_plain(verdict) for verdict in found.verdicts],
        "peak_memory_bytes": found.peak_memory_bytes,
        "peak_rss_bytes": found.peak_rss_bytes,
        "energy_j_per_run": None,
        "energy_unavailable": energy_unavailable(device),
        "device": device_document(device, device_name),
        "runtime": {
            "name": result.runtime,
            "version": result.runtime_version,
            "provider": found.provider,
            "provider_share": found.provider_share,
        },
        "threads": result.threads,
        "artifact": _plain(artifact),
        "load_ns": found.load_ns,
        "device_time_ns": result.device_time_ns,
        "steal_fraction": result.steal_fraction,
        "measurement_id": measurement_id,
    }
    if measurement.request.profile_nodes:
        document["layers"] = None if found.nodes is None else [_plain(node) for node in found.nodes]
    return document


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


def energy_unavailable(device: DeviceInfo) -> str:
    """Return why there is no energy per run."""
    if any(channel.quantity in (Quantity.POWER, Quantity.ENERGY) for channel in device.channels):
        return "this version keeps the readings of the power sensor but does not derive energy from them yet"
    return "the device has no power sensor that its agent can read"


def _plain(value: Any) -> dict[str, Any]:
    """Return a contract dataclass as a dict of JSON values."""

    def plain(items: list[tuple[str, Any]]) -> dict[str, Any]:
        return {name: item.value if isinstance(item, Enum) else item for name, item in items}

    return asdict(value, dict_factory=plain)
