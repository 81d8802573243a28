"""The JSON document of `bench A B --json`: several artifacts measured in turns, and decisions on them. Nothing is rounded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from device_agent.contract.artifact import Artifact
from device_agent.contract.decision import DIFFERENCE, Decision, decide_all
from device_agent.contract.device import DeviceInfo
from device_agent.contract.document import (
    cold_starts_document,
    device_document,
    latency_document,
    layers_document,
    notes,
    settings_document,
)
from device_agent.contract.measurement import Measurement
from device_agent.contract.plain_json import to_json

SCHEMA = 1
#: The baseline's place among the artifacts.
BASELINE = 0


def compare_document(
    measurement: Measurement,
    *,
    artifacts: Sequence[Artifact],
    device_name: str,
    device: DeviceInfo,
    measurement_id: int | None,
    difference: float = DIFFERENCE,
) -> dict[str, Any]:
    """Return the document of a measurement of several artifacts, the first of which is the baseline."""
    result = measurement.result
    return {
        "schema": SCHEMA,
        "baseline": BASELINE,
        "artifacts": [_artifact(measurement, place, artifact) for place, artifact in enumerate(artifacts)],
        "comparisons": [
            _comparison(place, decision)
            for place, decision in enumerate(
                decide_all(measurement.runs, len(artifacts), difference=difference), start=BASELINE + 1
            )
        ],
        "device": device_document(device, device_name),
        "runtime": {"name": result.runtime, "version": result.runtime_version},
        "threads": result.threads,
        "cpus": None if result.cpus is None else list(result.cpus),
        "settings": settings_document(measurement),
        "notes": notes(measurement, device),
        "device_time_ns": result.device_time_ns,
        "steal_fraction": result.steal_fraction,
        "measurement_id": measurement_id,
    }


def _artifact(measurement: Measurement, place: int, artifact: Artifact) -> dict[str, Any]:
    found = measurement.result.artifacts[place]
    return {
        **to_json(artifact),
        **latency_document(measurement, place),
        "verdict": to_json(found.verdicts),
        "provider": found.provider,
        "provider_share": found.provider_share,
        "load_ns": found.load_ns,
        "cold_starts": cold_starts_document(found.cold_starts),
        **layers_document(measurement, place),
    }


def _comparison(place: int, decision: Decision) -> dict[str, Any]:
    ratio = decision.ratio
    return {
        "artifact": place,
        "ratio": ratio.ratio,
        "ratio_interval": None if ratio.low is None or ratio.high is None else [ratio.low, ratio.high],
        "confidence": ratio.confidence,
        "blocks": ratio.blocks,
        "decision": decision.code.value,
        "difference": decision.difference,
        "error_rate": decision.error_rate,
        "hint": decision.hint,
    }
