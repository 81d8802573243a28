"""Learning what the device charges: variants of the whole network in turns with the baseline, and what earlier models taught.

Layer times of a model are kept in the store under what must be equal for times to be comparable (board, runtime, version,
settings, precision). The next model on the same device leans on them and needs fewer variants, if its first ones bear them out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from host.compress.groups import ModelNotPrunable
from host.compress.surgery import prune_to
from host.search.granularity import Granularity
from host.search.latency import LatencyModel
from host.search.network import Network, Plan
from host.search.observations import KEPT, Observation
from host.search.probe import Probe, probe_plans

if TYPE_CHECKING:
    from host.compress.measuring import Comparison
    from host.compress.session import Session
    from host.results.store import ResultStore

FACT = "layer times"
#: Models whose times are kept, the newest; and rows of all of them that a fit takes, since its time grows with their cube.
MOST_MODELS, MOST_ROWS = 4, 400
#: With times of earlier models, learning ends at this many variants if each is predicted from the others within ENOUGH.
FEWEST_PROBES, ENOUGH = 3, 0.025
#: A ratio from too few blocks for an interval is taken to be known within this factor.
NO_INTERVAL = 1.1


def learn_latency(
    session: Session, widths: Mapping[str, tuple[int, ...]], granularity: Granularity, baseline_ns: float
) -> LatencyModel:
    """Measure variants of the network and fit what every width costs; raises ModelNotPrunable if there is no narrower one."""
    session.observer.stage(f"learning what the device charges for every layer width{session.pricing.label}")
    options, prefix, store = session.options, session.pricing.prefix, session.measuring.store
    key = json.dumps(session.where(), sort_keys=True)
    stored = session.once(f"{prefix}{FACT}", lambda: {} if store is None else store.get_device_fact(key, FACT) or {})
    kept = kept_times(stored, session.network)
    plans = probe_plans(session.network, widths, options.probes, options.seed)
    probes: list[Probe] = []
    model: LatencyModel | None = None
    for index, plan in enumerate(plans):
        session.observer.step(index, len(plans))
        build = partial(prune_to, session.analysed, session.original, plan)
        probes.append(session.probe(f"{prefix}probe {index}", plan, build))
        if len(probes) == len(plans) or (kept and len(probes) >= FEWEST_PROBES):
            full_ratio = session.pricing.full_ratio
            model = LatencyModel.fit(
                session.network, probes, baseline_ns, granularity, full_ratio=full_ratio, kept=kept
            )
            error = model.held_out_error()
            if error is not None and kept and error.maximum <= ENOUGH:
                break
    if model is None:
        raise ModelNotPrunable(
            f"no layer of {options.model} can be made narrower on this device: the widths that it runs fast "
            "leave no choice below the full ones"
        )
    error = model.held_out_error()
    if error is not None:
        leaning = f" and {len(kept)} layer times of earlier models" if kept else ""
        session.observer.note(
            f"latency model from {len(probes)} variants{leaning}; each predicted from the others: "
            f"{error.median:.1%} off in the median, {error.maximum:.1%} at most"
        )
    if store is not None:
        size = session.pricing.size
        keep_times(store, key, options.model if size is None else f"{options.model} at {size[0]}x{size[1]}", model)
    return model


def kept_times(stored: Mapping[str, Any], network: Network) -> tuple[Observation, ...]:
    """Return the layer times in a stored fact that tell of `network`: of kinds that it has, of the newest models first."""
    kinds = {layer.kind for layer in network.layers}
    found: list[Observation] = []
    for number, model in enumerate(reversed(stored.get("models", []))):
        rows = [Observation.from_dict(row, f"{KEPT} {number}") for row in model["times"]]
        found += [row for row in rows if row.shape.kind in kinds]
    return tuple(found[:MOST_ROWS])


def keep_times(store: ResultStore, key: str, name: str, model: LatencyModel) -> None:
    """Keep the layer times of `model`, in nanoseconds, in place of earlier ones of the same name; none where there are none."""
    times = [each.to_dict() for each in model.observations()]
    if not times:
        return
    known = store.get_device_fact(key, FACT) or {}
    others = [each for each in known.get("models", []) if each["model"] != name]
    newest = [*others, {"model": name, "times": times}][-MOST_MODELS:]
    store.put_device_fact(key, FACT, {"models": newest})


def pair_value(plan: Plan, found: Comparison) -> dict[str, Any]:
    """Return a profiled pair of `plan` with the baseline as plain JSON values, of which `probe_of` makes a probe."""
    return {
        "kept": dict(plan.kept),
        "ratio": found.ratio.ratio,
        "low": found.ratio.low,
        "high": found.ratio.high,
        "nodes": found.nodes,
        "other": found.other,
        "baseline_nodes": found.baseline_nodes,
        "shares": None if found.shares is None else found.shares.to_dict(),
    }


def probe_of(value: Mapping[str, Any], *, same_files: bool) -> Probe:
    """Return the probe that the journal has as `value`. The baseline's own layers tell of variants in its own precision and
    resolution only (`same_files`).
    """
    shares = value.get("shares")
    times: dict[str, Any] = {"nodes": value["nodes"], "other": value["other"]}
    if shares is not None:
        times = shares if same_files else {key: shares[key] for key in ("nodes", "other", "unit_ns")}
    return Probe(
        plan=Plan(kept=value["kept"]),
        ratio=value["ratio"],
        ratio_low=value["low"] or value["ratio"] / NO_INTERVAL,
        ratio_high=value["high"] or value["ratio"] * NO_INTERVAL,
        **times,
    )
