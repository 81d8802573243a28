"""What a run found out, in the record's words: prices, losses and choices by group and layer, predicted against measured."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

from host.compress.frontier import front_of
from host.compress.session import Session
from host.compress.trace import prediction_values
from host.results.environment import host_environment
from host.search.latency import LatencyModel
from host.search.network import Group, Layer, Plan
from host.search.solution import total


def findings(session: Session, model: LatencyModel | None, plan: Plan) -> dict[str, Any]:
    """Return the record's fields behind its figures; `plan` is the one taken. Where no latency model was fitted (a plan was
    replayed) the fields that come from it are null or empty.
    """
    trace, options = session.trace, session.options
    return {
        "created_at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "host": host_environment(),
        "budgets": {
            "max_size_bytes": options.max_size_bytes,
            "max_memory_bytes": options.max_memory_bytes,
            "max_energy": None if options.max_energy is None else dataclasses.asdict(options.max_energy),
            "max_accuracy_drop": options.max_accuracy_drop,
        },
        "granularity": trace.granularity,
        "layers": layers_of(session, plan, model),
        "groups": [group_of(session, group, plan, model) for group in session.network.groups],
        "losses_round": trace.losses_round,
        "probes": probes_of(session, model),
        "candidates": trace.candidates,
        "search": searches_of(session),
        "front": front_of(session, model),
        "training": trace.trainings,
        "times": {
            "seconds": session.observer.seconds,
            "training_seconds": sum(epoch["seconds"] for each in trace.trainings for epoch in each["epochs"]),
            "device_seconds": session.measuring.device_ns / 1e9,
            "stages": session.observer.stages(),
        },
        "measurements": [each["measurement_id"] for each in trace.measurements if each["measurement_id"] is not None],
    }


def searches_of(session: Session) -> list[dict[str, Any]]:
    """Return what each round's search ranked, with the device's word on the plans that it measured, and which was taken."""
    trace = session.trace
    rows = []
    for each in trace.searches:
        measured = {
            tuple(sorted(probe["kept"].items())): probe["ratio"]
            for key, probe in trace.probes.items()
            if key.startswith(each["round"])
        }
        taken = [other["kept"] for other in trace.candidates if other["round"] == each["round"] and other["taken"]]
        candidates = [
            {
                **candidate,
                "measured_ratio": measured.get(tuple(sorted(candidate["kept"].items()))),
                "taken": candidate["kept"] in taken,
            }
            for candidate in each["candidates"]
        ]
        rows.append({**each, "candidates": candidates})
    return rows


def layers_of(session: Session, plan: Plan, model: LatencyModel | None) -> list[dict[str, Any]]:
    """Return every layer before and after: widths, MACs, its share of the baseline's latency as measured and as modelled.

    Measured shares are node times over the baseline's sum in the same turns: of the baseline the median over all probes, of
    the result from the probes of this very plan. None where the runtime gives no node times or the plan was not profiled.
    """
    network, probes = session.network, session.trace.probes
    whole = {layer.name: layer for layer in session.own.analysed.network.layers}
    before = [each["baseline_nodes"] for each in probes.values() if each.get("baseline_nodes")]
    after = [each["nodes"] for each in probes.values() if each["kept"] == dict(plan.kept) and each["nodes"]]
    full = network.full_plan()

    def side(layer: Layer, kept: Mapping[str, int], nodes: Sequence[Mapping[str, float]]) -> dict[str, Any]:
        inward, outward = layer.widths(kept)
        shares = [each[layer.name] for each in nodes if layer.name in each]
        return {
            "input_width": inward,
            "output_width": outward,
            "macs": layer.macs(kept),
            "share": statistics.median(shares) if shares else None,
            "modelled_share": None if model is None else float(model.price(layer, inward, outward)),
        }

    return [
        {
            "name": layer.name,
            "kind": layer.kind.value,
            "input_groups": [part.group for part in layer.inputs],
            "output_groups": [part.group for part in layer.outputs],
            "baseline": side(whole.get(layer.name, layer), full.kept, before),
            "result": side(layer, plan.kept, after),
        }
        for layer in network.layers
    ]


def group_of(session: Session, group: Group, plan: Plan, model: LatencyModel | None) -> dict[str, Any]:
    """Return a group's choice: the widths that it might have had, and what each would have cost in loss and in latency.

    `latency_ratios` is the modelled ratio of the whole network with that width here and the plan's widths everywhere else.
    """
    trace = session.trace
    kept = plan.kept[group.name]
    losses = trace.losses.get(group.name)
    allowed = sorted({*trace.widths.get(group.name, []), kept, group.channels, *map(int, losses or ())})
    ratios = None
    if model is not None:
        ratios = {
            str(width): float(total(session.network, model.price, {**plan.kept, group.name: width}))
            for width in allowed
        }
    return {
        "name": group.name,
        "channels": group.channels,
        "kept": kept,
        "multiple": group.multiple,
        "layers": list(group.layers),
        "allowed": allowed,
        "losses": losses,
        "latency_ratios": ratios,
    }


def probes_of(session: Session, model: LatencyModel | None) -> list[dict[str, Any]]:
    """Return every variant that was measured, with what the model said of it without having seen it.

    `basis` says how: `before` it was measured, or `left-out`, from all the others. No prediction where there is no model.
    """
    trace = session.trace
    rows = []
    for key, value in trace.probes.items():
        said, basis = trace.predictions.get(key), "before"
        if said is None and model is not None:
            said, basis = _left_out(model, value["kept"]), "left-out"
        rows.append(
            {
                "name": key,
                "kept": value["kept"],
                "measured_ratio": value["ratio"],
                "measured_interval": None if value["low"] is None else [value["low"], value["high"]],
                "predicted_ratio": None if said is None else said["ratio"],
                "predicted_interval": None if said is None else said["interval"],
                "extrapolated": [] if said is None else said["extrapolated"],
                "basis": None if said is None else basis,
                "macs": session.network.macs(value["kept"]),
            }
        )
    return rows


def _left_out(model: LatencyModel, kept: Mapping[str, int]) -> dict[str, Any] | None:
    plan = Plan(kept=dict(kept))
    others = model.without(plan)
    return None if others is None else prediction_values(others.predict(plan))
