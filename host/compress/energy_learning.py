"""Learning what a plan takes of the battery: variants measured alone, since a meter cannot tell artifacts in turns apart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from device_agent.contract.device import Channel
from device_agent.contract.energy import energy_of
from device_agent.contract.measurement import Measurement
from host.compress.nodes import ExportedModel
from host.compress.surgery import prune_to
from host.search.energy import EnergyModel, EnergyProbe
from host.search.latency import LatencyModel
from host.search.network import Plan
from host.search.probe import probe_plans

if TYPE_CHECKING:
    from host.compress.session import Session

#: Kinds of layers are few, and the times are known: more variants tell little.
ENERGY_PROBES = 3
_NORMAL_95 = 1.96


def learn_energy(session: Session, model: LatencyModel, widths: Mapping[str, tuple[int, ...]]) -> EnergyModel | None:
    """Measure the energy per run of the baseline, before and after, and of variants; fit what kinds of layers draw.

    None, with a note that says why, where the device cannot tell energies. What counts is the board's whole energy during a run.
    """
    session.observer.stage(f"learning what every layer width takes of the battery{session.pricing.label}")

    def measure(name: str, file: ExportedModel) -> dict[str, Any]:
        info = session.measuring.device.info
        return energy_per_run(session.measuring.alone(file, name), info.channels)

    def step(name: str, plan: Plan | None) -> dict[str, Any]:
        def run() -> dict[str, Any]:
            if plan is None:
                return measure(name, session.baseline)
            return measure(name, session.variant(prune_to(session.analysed, session.original, plan), plan))

        found: dict[str, Any] = session.once(f"{session.pricing.prefix}{name}", run)
        return found

    before = step("energy of the baseline", None)
    if before["unavailable"] is not None:
        session.observer.note(f"no energies from this device: {before['unavailable']}")
        return None
    plans = probe_plans(session.network, widths, ENERGY_PROBES, session.options.seed)
    found = [(plan, step(f"energy of variant {number}", plan)) for number, plan in enumerate(plans)]
    full = session.network.full_plan()
    other_precision = session.pricing.whole is not session.baseline
    if other_precision:
        found.append((full, step("energy of the whole network", full)))
    probes = energy_probes([before, step("energy of the baseline again", None)], found)
    whole = [probe.ratio for probe in probes if probe.plan == full] if other_precision else [1.0]
    if not whole:
        session.observer.note(
            "no energy of the whole network in this precision; measure again when the device is quiet"
        )
        return None
    energy = EnergyModel.fit(model, [probe for probe in probes if probe.plan != full], full_ratio=whole[0])
    error = energy.held_out_error()
    if error is not None:
        session.observer.note(
            f"energy model from {len(probes)} variants; each predicted from the others: {error.median:.1%} off in the median, "
            f"{error.maximum:.1%} at most"
        )
    return energy


def energy_per_run(measurement: Measurement, channels: Iterable[Channel]) -> dict[str, Any]:
    """Return joules per run with their relative standard deviation as plain JSON values, or why there are none."""
    energy = energy_of(measurement, channels)
    if not energy.estimates:
        return {"joules": None, "deviation": None, "unavailable": energy.unavailable}
    first = energy.estimates[0]
    if not first.gross_j > 0:
        return {"joules": None, "deviation": None, "unavailable": f"{first.meter} says {first.gross_j:g} J per run"}
    deviation = first.gross_uncertainty_j / _NORMAL_95 / first.gross_j
    return {"joules": first.gross_j, "deviation": deviation, "unavailable": None}


def energy_probes(
    baselines: Iterable[Mapping[str, Any]], variants: Iterable[tuple[Plan, Mapping[str, Any]]]
) -> list[EnergyProbe]:
    """Return the variants' energies over the mean of the baselines'; those without a figure are left out."""
    known = [each for each in baselines if each["joules"] is not None]
    unit_j = sum(each["joules"] for each in known) / len(known)
    unsure = math.sqrt(sum(each["deviation"] ** 2 for each in known)) / len(known)
    # How far the baselines lie apart is the drift between them.
    apart = (max(each["joules"] for each in known) - min(each["joules"] for each in known)) / 2 / unit_j
    return [
        EnergyProbe(plan=plan, ratio=each["joules"] / unit_j, deviation=math.hypot(each["deviation"], unsure, apart))
        for plan, each in variants
        if each["joules"] is not None
    ]
