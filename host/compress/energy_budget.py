"""An energy budget: refused where nothing measures energy, planned for by the energy model, judged on the result.

Energy is the board's own during a run, the idle share included: what the battery gives. The baseline and the result are measured
alone, since a meter cannot tell artifacts in turns apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from device_agent.contract.device import DeviceInfo
from device_agent.contract.energy import power_meters
from device_agent.contract.errors import InvalidRequest
from host.compress.energy_learning import energy_per_run
from host.compress.nodes import ExportedModel
from host.search.energy import EnergyModel

if TYPE_CHECKING:
    from host.compress.session import Session


def check_meter(info: DeviceInfo, name: str) -> None:
    """Raise InvalidRequest unless something on the device measures power or energy."""
    if not power_meters(info.channels):
        raise InvalidRequest(
            f"device {name!r} has no sensor of power or energy, so an energy budget can be neither planned for nor judged: leave "
            "out --max-energy, or attach a meter (docs/external-meters.md); `host devices info` lists the sensors"
        )


def energy_ratio(session: Session, energy: EnergyModel | None) -> float:
    """Return the budget as a share of the baseline's energy per run; InvalidRequest where the device gave none."""
    budget = session.options.max_energy
    assert budget is not None
    baseline = _joules(session, session.baseline, f"{session.pricing.prefix}energy of the baseline")
    if energy is None or baseline["joules"] is None:
        raise InvalidRequest(
            f"{session.measuring.device.name} gave no energy per run of the baseline ({baseline['unavailable'] or 'see above'}), "
            "so an energy budget cannot be planned for: leave out --max-energy, or measure with a faster meter"
        )
    return budget.of(baseline["joules"])


def judge(session: Session, file: ExportedModel) -> tuple[dict[str, Any] | None, str | None]:
    """Measure baseline and result one after the other; return what the record says and, in words, what is not met.

    None and None without a budget.
    """
    budget = session.options.max_energy
    if budget is None:
        return None, None
    baseline = _joules(session, session.baseline, f"energy of the baseline against {file.sha256[:8]}")
    result = _joules(session, file, f"energy of {file.sha256[:8]}")
    found: dict[str, Any] = {
        "baseline_j": baseline["joules"],
        "result_j": result["joules"],
        "ratio": None,
        "budget_ratio": None,
    }
    if baseline["joules"] is None or result["joules"] is None:
        reason = baseline["unavailable"] or result["unavailable"]
        return found, f"the energy budget cannot be judged: {reason}"
    ratio, allowed = result["joules"] / baseline["joules"], budget.of(baseline["joules"])
    found |= {"ratio": ratio, "budget_ratio": allowed}
    if ratio <= allowed:
        return found, None
    return (
        found,
        f"a run takes {result['joules'] * 1e3:.3g} mJ, {allowed * baseline['joules'] * 1e3:.3g} mJ are allowed",
    )


def _joules(session: Session, file: ExportedModel, key: str) -> dict[str, Any]:
    channels = session.measuring.device.info.channels
    found: dict[str, Any] = session.once(key, lambda: energy_per_run(session.measuring.alone(file, key), channels))
    return found
