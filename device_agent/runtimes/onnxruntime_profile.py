"""Node times from the JSON trace that ONNX Runtime's profiler writes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

from device_agent.contract.measurement import NodeTime

_SUFFIX = "_kernel_time"


def read(path: Path, *, skip: int = 0) -> tuple[NodeTime, ...]:
    """Return the nodes in the order in which they ran, each with the median over its runs after the first `skip`.

    Names are kept as ONNX Runtime reports them, after its fusions. Times in the trace are whole microseconds.
    """
    events: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for event in json.loads(path.read_text()):
        if event.get("cat") == "Node" and event["name"].endswith(_SUFFIX):
            arguments = event["args"]
            key = (event["name"][: -len(_SUFFIX)], str(arguments.get("node_index", "")))
            events.setdefault(key, []).append(event)
    medians = {}
    for key, made in events.items():
        kept = made[skip:] or made
        medians[key] = 1000.0 * median(event["dur"] for event in kept)
    total = sum(medians.values())
    return tuple(
        NodeTime(
            name=key[0],
            op_type=made[0]["args"]["op_name"],
            median_ns=medians[key],
            share=medians[key] / total if total else 0.0,
            runs=len(made[skip:] or made),
            input_shapes=_shapes(made[0]["args"].get("input_type_shape")),
            output_shapes=_shapes(made[0]["args"].get("output_type_shape")),
        )
        for key, made in events.items()
    )


def providers(path: Path) -> dict[str, int]:
    """Return how many nodes each execution provider ran, from the trace of one run."""
    counts: Counter[str] = Counter()
    for event in json.loads(path.read_text()):
        if event.get("cat") == "Node" and event["name"].endswith(_SUFFIX):
            counts[event["args"].get("provider", "")] += 1
    return dict(counts)


def _shapes(listed: Any) -> tuple[tuple[int, ...], ...]:
    """A shape arrives as `{"float": [1, 3, 8, 8]}`."""
    return tuple(tuple(next(iter(item.values()))) for item in listed or () if item)
