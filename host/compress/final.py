"""The final measurement of an exported result: in turns with the baseline at length, and alone for its peak memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from device_agent.contract.document import statistics_ns
from device_agent.contract.measurement import Measurement
from device_agent.contract.statistics import percentile
from host.compress.nodes import ExportedModel
from host.compress.record import measured
from host.compress.session import Session
from host.search.budgets import WINDOW, within


def measure_final(session: Session, exported: ExportedModel, window: tuple[float, float] = WINDOW) -> dict[str, Any]:
    """Return what the record keeps of the result's latency, ratio and memory, as JSON values.

    A ratio outside `window` (shares of the target) has to repeat in a longer measurement.
    """
    measuring, name, percent = session.measuring, session.options.model, session.options.target.percentile

    def target_in(measurement: Measurement) -> float:
        return session.options.target.of(percentile(measurement.latencies_ns(0), percent))

    found = measuring.compare(session.baseline, exported, name, final=True)
    if not within(found.at(percent).ratio, target_in(found.measurement), window):
        # A neighbour on the device can move a ratio by 2 %, and a correction costs epochs.
        found = measuring.compare(session.baseline, exported, name, final=True, longer=2.0)
    ratio, alone = found.at(percent), measured(measuring.alone(exported, name))
    return {
        "latency_ratio": ratio.ratio,
        "latency_ratio_interval": None if ratio.low is None else [ratio.low, ratio.high],
        "baseline_latency_ns": statistics_ns(found.measurement.latencies_ns(0)),
        "latency_ns": statistics_ns(found.measurement.latencies_ns(1)),
        "peak_memory_bytes": alone["peak_memory_bytes"],
        "verdict": alone["verdict"],
    }


def target_ratio(session: Session, comparison: Mapping[str, Any]) -> float:
    """Return the target as a ratio to the baseline's latency in the same measurement."""
    return session.options.target.of(comparison["baseline_latency_ns"][session.options.target.name])
