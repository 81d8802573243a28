"""Node times of a pair as the latency model takes them: whole layers, with the nodes that follow them and are no layer's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from device_agent.contract.measurement import NodeTime
from host.compress.nodes import ExportedModel, find_layer


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeShares:
    """Times as fractions of the baseline's sum in the same window, which lasted `unit_ns`: common drift cancels.

    `nodes` are the candidate's layers, `baseline_nodes` the baseline's. Changes of layout, sums and activations that run as nodes
    of their own count to the layer that ran last before them: they come and go with it. `followers` says how many there are, in
    the baseline. `other` is the candidate's time before its first layer.
    """

    nodes: Mapping[str, float]
    other: float
    baseline_nodes: Mapping[str, float]
    followers: Mapping[str, int]
    unit_ns: float

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able form; the fields are those of a `Probe`."""
        return asdict(self)


def node_shares(
    candidate: Sequence[NodeTime], baseline: Sequence[NodeTime], files: tuple[ExportedModel, ExportedModel]
) -> NodeShares | None:
    """Return the shares of a pair; None where no node of the baseline could be matched to a layer. `files` are of the two."""
    times, _, before = _by_layer(candidate, files[0])
    base_times, followers, base_before = _by_layer(baseline, files[1])
    unit_ns = sum(base_times.values()) + base_before
    if not base_times or unit_ns <= 0:
        return None
    return NodeShares(
        nodes={name: time / unit_ns for name, time in times.items()},
        other=before / unit_ns,
        baseline_nodes={name: time / unit_ns for name, time in base_times.items()},
        followers=followers,
        unit_ns=unit_ns,
    )


def _by_layer(nodes: Sequence[NodeTime], exported: ExportedModel) -> tuple[dict[str, float], dict[str, int], float]:
    """Return (ns by layer, number of followers by layer, ns before the first layer); nodes stand in the order of their runs."""
    times: dict[str, float] = {}
    followers: dict[str, int] = {}
    before_ns = 0.0
    current: str | None = None
    for node in nodes:
        layer = find_layer(node, exported)
        if layer is not None:
            current = layer
            times[layer] = times.get(layer, 0.0) + node.median_ns
            followers.setdefault(layer, 0)
        elif current is None:
            before_ns += node.median_ns
        else:
            times[current] += node.median_ns
            followers[current] += 1
    return times, followers, before_ns
