"""Energy per run, gross and net of the idle baseline, derived from a measurement's readings. Standard library only.

Power is looked at inside the timed window only; `integrate` has the sums and what their uncertainties are made of. Net is what is
left after the idle power with the model loaded, before and after, interpolated linearly over the window. No figure is given that
the readings don't carry: then there is a reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from device_agent.contract.alignment import Alignment, align
from device_agent.contract.device import Channel, Quantity
from device_agent.contract.integrate import Integral, NoFigure, Series, counter_integral, power_integral
from device_agent.contract.measurement import Measurement, Reading
from device_agent.contract.neighbours import is_contended
from device_agent.contract.work import Work

#: The meter of `sensors.external_meter`, whose clock isn't the device's.
EXTERNAL = "external"
#: Idle windows need fewer values: the timed one decides how long a measurement must be.
FEWEST_IDLE_UPDATES = 3
_NORMAL_95 = 1.96
_CONTENDED = "other work ran meanwhile, and its energy and the waiting for it are in these figures"


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyEstimate:
    """What one meter says of one run. Joules per run; uncertainties are half of 95 % intervals, without the sensor's gain error.

    `net_j` and its uncertainty are None if there is no idle power, and `net_unavailable` says why. `samples` were read inside the
    timed window. `alignment_error_s` is given for external meters only.
    """

    meter: str
    channels: tuple[str, ...]
    runs: int
    gross_j: float
    gross_uncertainty_j: float
    net_j: float | None
    net_uncertainty_j: float | None
    net_unavailable: str | None
    mean_power_w: float
    idle_power_w: float | None
    samples: int
    alignment_error_s: float | None
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """All estimates, the preferred one first: an external meter, then a board's total, then a sum of rails. Two are never added.

    `unavailable` says why there is none, and is None if there is one.
    """

    estimates: tuple[EnergyEstimate, ...]
    unavailable: str | None


def energy_of(measurement: Measurement, channels: Iterable[Channel]) -> Energy:
    """Return the energy per run of a measurement of one artifact, as each power meter of the device saw it."""
    meters = power_meters(channels)
    if not meters:
        why = "no power sensor that the agent can read; `device-agent sensors` on the board says why"
        return Energy(estimates=(), unavailable=why)
    try:
        work = Work.of(measurement)
    except NoFigure as error:
        return Energy(estimates=(), unavailable=str(error))
    found: list[EnergyEstimate] = []
    reasons: list[str] = []
    readings = _by_channel(measurement.readings, {channel.name for meter in meters for channel in meter})
    for meter in meters:
        try:
            estimate = _estimate(meter, work, readings)
            if is_contended(measurement.result.artifacts[0].verdicts):
                estimate = replace(estimate, note="; ".join(filter(None, (estimate.note, _CONTENDED))))
            found.append(estimate)
        except NoFigure as error:
            reasons.append(f"{_name(meter)}: {error}")
    return Energy(estimates=tuple(found), unavailable=None if found else "; ".join(reasons))


def energy_document(measurement: Measurement, channels: Iterable[Channel]) -> dict[str, Any]:
    """Return the energy keys of `bench --json`: `energy_j_per_run`, `energy_unavailable` and `energy`, the list of estimates."""
    energy = energy_of(measurement, channels)
    first = energy.estimates[0] if energy.estimates else None
    return {
        "energy_j_per_run": None if first is None else {"gross": first.gross_j, "net": first.net_j},
        "energy_unavailable": energy.unavailable,
        "energy": [
            {
                "meter": one.meter,
                "channels": list(one.channels),
                "gross_j": one.gross_j,
                "net_j": one.net_j,
                "uncertainty_j": {"gross": one.gross_uncertainty_j, "net": one.net_uncertainty_j},
                "net_unavailable": one.net_unavailable,
                "mean_power_w": one.mean_power_w,
                "idle_power_w": one.idle_power_w,
                "samples": one.samples,
                "alignment_error_s": one.alignment_error_s,
                "note": one.note,
            }
            for one in energy.estimates
        ],
    }


def power_meters(channels: Iterable[Channel]) -> list[tuple[Channel, ...]]:
    """Return per meter the channels that add up to it: no part of a total that is there, counters rather than powers.

    The preferred meter comes first: an external one, then a board's total, then a sum of rails.
    """
    by_meter: dict[str, list[Channel]] = {}
    for channel in channels:
        if channel.quantity in (Quantity.POWER, Quantity.ENERGY):
            by_meter.setdefault(channel.meter or channel.name, []).append(channel)
    found: list[tuple[Channel, ...]] = []
    for members in by_meter.values():
        names = {channel.name for channel in members}
        whole = [channel for channel in members if channel.part_of not in names]
        counters = tuple(channel for channel in whole if channel.quantity is Quantity.ENERGY)
        found.append(counters or tuple(whole))
    return sorted((meter for meter in found if meter), key=_rank)


def _name(meter: Sequence[Channel]) -> str:
    return meter[0].meter or meter[0].name


def _rank(meter: Sequence[Channel]) -> tuple[int, bool]:
    """Return what sorts meters: external, total of the board, rails; of two alike, the one with nothing to be said of it."""
    board = all(channel.site == "board" for channel in meter) and len(meter) == 1
    return 0 if _name(meter) == EXTERNAL else 1 if board else 2, any(channel.note for channel in meter)


def _by_channel(readings: Iterable[Reading], wanted: set[str]) -> dict[str, dict[int, float]]:
    found: dict[str, dict[int, float]] = {name: {} for name in wanted}
    for reading in readings:
        if reading.channel in found:
            found[reading.channel][reading.time_ns] = reading.value
    return found


def _estimate(meter: Sequence[Channel], work: Work, readings: dict[str, dict[int, float]]) -> EnergyEstimate:
    parts = _parts(meter, work.origin_ns, readings)
    alignment: Alignment | None = None
    if _name(meter) == EXTERNAL:
        alignment = align(parts[0], work.edges())
        shift = alignment.shift_s
        parts = [replace(part, times_s=[time - shift for time in part.times_s], stamped=True) for part in parts]
    counted = meter[0].quantity is Quantity.ENERGY
    try:
        gross = _total(parts, work.start_s, work.end_s, counted=counted)
    except NoFigure as error:
        raise NoFigure(f"{error}; ask for a longer measurement (--min-time)") from error
    # Not sure of the time, keep away from the edges of the rests.
    guard_s = 0.0 if alignment is None else alignment.error_s
    idle = _idle(parts, work, guard_s=guard_s, counted=counted)
    notes = [*dict.fromkeys(channel.note for channel in meter if channel.note), *([work.note] if work.note else [])]
    gross_u = gross.uncertainty_j
    if alignment is not None:
        step = gross.power_w - (idle.power_w or 0.0)
        gross_u = math.hypot(gross_u, step * alignment.error_s)
        if not alignment.steps:
            notes.append("no clear step of power between rest and load: the meter's clock is aligned by arrival only")
    notes += [idle.note] if idle.note else []
    net = None if idle.power_w is None else gross.energy_j - idle.power_w * gross.duration_s
    net_u = None if idle.power_w is None else math.hypot(gross_u, idle.uncertainty_w * gross.duration_s)
    return EnergyEstimate(
        meter=_name(meter),
        channels=tuple(channel.name for channel in meter),
        runs=work.runs,
        gross_j=gross.energy_j / work.runs,
        gross_uncertainty_j=gross_u / work.runs,
        net_j=None if net is None else net / work.runs,
        net_uncertainty_j=None if net_u is None else net_u / work.runs,
        net_unavailable=idle.unavailable,
        mean_power_w=gross.power_w,
        idle_power_w=idle.power_w,
        samples=gross.samples,
        alignment_error_s=None if alignment is None else alignment.error_s,
        note="; ".join(notes) or None,
    )


def _parts(meter: Sequence[Channel], origin_ns: int, readings: dict[str, dict[int, float]]) -> list[Series]:
    """Return the channels as one series, summed where they were read together, else each apart. NoFigure if one is silent."""
    for channel in meter:
        if not readings[channel.name]:
            others = " without which the others are no total" if len(meter) > 1 else ""
            raise NoFigure(f"every read of {channel.name} failed{',' * bool(others)}{others}")
    times = [set(readings[channel.name]) for channel in meter]
    common = set.intersection(*times)
    if 2 * len(common) >= max(map(len, times)):
        groups: list[tuple[set[int], Sequence[Channel]]] = [(common, meter)]
    else:
        groups = [(own, [channel]) for own, channel in zip(times, meter, strict=True)]
    made: list[Series] = []
    for at, members in groups:
        ordered = sorted(at)
        intervals = [channel.interval_s for channel in members if channel.interval_s is not None]
        steps = [channel.resolution for channel in members if channel.resolution is not None]
        made.append(
            Series(
                times_s=[(time - origin_ns) / 1e9 for time in ordered],
                values=[sum(readings[channel.name][time] for channel in members) for time in ordered],
                interval_s=max(intervals, default=None),
                resolution=math.hypot(*steps) if steps else None,
            )
        )
    return made


def _total(
    parts: Sequence[Series], start_s: float, end_s: float, *, counted: bool, fewest: int | None = None
) -> Integral:
    """Return the sum over parts. Their errors may share a cause (the load), so uncertainties are added as they are."""
    integral = counter_integral if counted else power_integral
    found = [
        integral(part, start_s, end_s) if fewest is None else integral(part, start_s, end_s, fewest=fewest)
        for part in parts
    ]
    return Integral(
        energy_j=sum(one.energy_j for one in found),
        uncertainty_j=sum(one.uncertainty_j for one in found),
        duration_s=end_s - start_s,
        samples=min(one.samples for one in found),
        updates=min(one.updates for one in found),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Idle:
    """Idle power as of the middle of the timed window."""

    power_w: float | None = None
    uncertainty_w: float = 0.0
    unavailable: str | None = None
    note: str | None = None


def _idle(parts: Sequence[Series], work: Work, *, guard_s: float, counted: bool) -> _Idle:
    """Return the idle power; its mean over the window is that at the middle, since the interpolation is linear.

    The uncertainty holds those of both rests, and how far a curve may lie from the line: a quarter of their difference.
    """
    found: list[tuple[float, float, float]] = []  # middle of the rest, power, its uncertainty
    reasons: list[str] = []
    for name, rest in (("before", work.before), ("after", work.after)):
        if rest is None:
            reasons.append(f"the worker did not rest {name} the timed part")
            continue
        start_s, end_s = rest[0] + guard_s, rest[1] - guard_s
        try:
            if end_s <= start_s:
                raise NoFigure("it is no longer than the error of the meter's alignment")
            one = _total(parts, start_s, end_s, counted=counted, fewest=FEWEST_IDLE_UPDATES)
        except NoFigure as error:
            reasons.append(f"in the rest {name} the timed part {error}")
            continue
        found.append(((start_s + end_s) / 2, one.power_w, one.power_uncertainty_w))
    if not found:
        return _Idle(unavailable="; ".join(reasons))
    if len(found) == 1:
        return _Idle(power_w=found[0][1], uncertainty_w=found[0][2], note=f"idle power from one rest: {reasons[0]}")
    (middle_a, power_a, error_a), (middle_b, power_b, error_b) = found
    share = ((work.start_s + work.end_s) / 2 - middle_a) / (middle_b - middle_a)
    bend = _NORMAL_95 * abs(power_b - power_a) / 4 / math.sqrt(3)
    return _Idle(
        power_w=power_a + share * (power_b - power_a),
        uncertainty_w=math.hypot((1 - share) * error_a, share * error_b, bend),
    )
