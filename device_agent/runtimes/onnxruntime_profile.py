"""Node times from the JSON trace that ONNX Runtime's profiler writes, and the graph that it optimised the file's to."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from device_agent.contract.measurement import NodeTime
from device_agent.runtimes.onnx_graph import read_graph
from device_agent.runtimes.onnxruntime_sources import sources
from device_agent.runtimes.profiling import NoProfile, median_ns

_SUFFIX = "_kernel_time"
_GRAPH, _WEIGHTS = "optimized.onnx", "weights"
#: Larger tensors than this many bytes are not written with the graph.
_INLINE_BYTES = 64


def keep_graph(options: Any, folder: Path) -> None:
    """Let the session write its optimised graph into `folder`. Its weights go nowhere: there may be hundreds of megabytes."""
    (folder / _WEIGHTS).symlink_to(os.devnull)
    options.optimized_model_filepath = str(folder / _GRAPH)
    options.add_session_config_entry("session.optimized_model_external_initializers_file_name", _WEIGHTS)
    options.add_session_config_entry(
        "session.optimized_model_external_initializers_min_size_in_bytes", str(_INLINE_BYTES)
    )


def keeping_graph(options: Any, folder: Path, create: Callable[[Any], Any]) -> Any:
    """Return the session that `create` makes with these options and the graph kept in `folder`.

    None if it cannot be made so: graphs with parts that a provider has compiled cannot be written. `folder` is then as it was.
    """
    keep_graph(options, folder)
    try:
        return create(options)
    except Exception:  # any other cause will show when the session is made without
        for name in (_GRAPH, _WEIGHTS):
            (folder / name).unlink(missing_ok=True)
        return None


def read(path: Path, *, skip: int = 0, file: Path | None = None, folder: Path | None = None) -> tuple[NodeTime, ...]:
    """Return the nodes in the order in which they ran, each with the median over its runs after the first `skip`.

    Names are kept as ONNX Runtime reports them, after its fusions. With the model's `file` and the `folder` of `keep_graph`, each
    node names its sources. NoProfile if the trace has no nodes.
    """
    events: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for event in json.loads(path.read_text()):
        if event.get("cat") == "Node" and event["name"].endswith(_SUFFIX):
            arguments = event["args"]
            key = (event["name"][: -len(_SUFFIX)], str(arguments.get("node_index", "")))
            events.setdefault(key, []).append(event)
    if not events:
        raise NoProfile("ONNX Runtime's trace shows no nodes, as with providers that take a graph as a whole")
    # ONNX Runtime cuts a duration to whole microseconds.
    medians = {
        key: median_ns([event["dur"] for event in made[skip:] or made], truncated=True) for key, made in events.items()
    }
    total = sum(medians.values())
    ran = [(key[0], made[0]["args"]["op_name"]) for key, made in events.items()]
    made_of = {} if file is None or folder is None else _sources(ran, file, folder / _GRAPH)
    return tuple(
        NodeTime(
            name=key[0],
            op_type=made[0]["args"]["op_name"],
            median_ns=medians[key],
            share=medians[key] / total if total else 0.0,
            runs=len(made[skip:] or made),
            input_shapes=_shapes(made[0]["args"].get("input_type_shape")),
            output_shapes=_shapes(made[0]["args"].get("output_type_shape")),
            sources=made_of.get(place, ()),
        )
        for place, (key, made) in enumerate(events.items())
    )


def _sources(ran: Sequence[tuple[str, str]], file: Path, optimized: Path) -> Mapping[int, tuple[str, ...]]:
    """Return place among the nodes that ran -> the file's nodes. Nodes of nested graphs are in neither of the two graphs."""
    try:
        graph = read_graph(optimized)
        found = sources(read_graph(file), graph)
    except (OSError, ValueError):
        return {}  # not written: a provider has compiled a part of the graph, or the disk is full
    nodes = [(node.name, node.op_type) for node in graph.nodes]
    if nodes == list(ran):
        return dict(enumerate(found))
    counts = Counter(nodes)
    by_name = {node: names for node, names in zip(nodes, found, strict=True) if counts[node] == 1}
    return {place: by_name[node] for place, node in enumerate(ran) if node in by_name and ran.count(node) == 1}


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
