"""From a measurement to what a page shows of its sensors and of its layers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from device_agent.contract.device import Channel, Quantity
from device_agent.contract.energy import power_meters
from device_agent.contract.measurement import NodeTime, Reading, WindowKind
from host.report.fleet.courses import thinned
from host.report.fleet.data import Course, LayerTimes, Line, Result, Setup
from host.results.store import StoredMeasurement

_Points = list[tuple[float, float]]


def course_of(stored: StoredMeasurement, result: Result, why: str) -> Course | None:
    """Return temperature, clock and power during a measurement; None where the device has none of them."""
    measurement = stored.measurement
    starts = [each.start_ns for each in measurement.runs[:1]] + [each.time_ns for each in measurement.readings[:1]]
    if not starts:
        return None
    origin = min(starts)
    lines = [
        line
        for line in (
            _hottest(stored.device.channels, measurement.readings, origin),
            _fastest(stored.device.channels, measurement.readings, origin),
            _power(stored.device.channels, measurement.readings, origin),
        )
        if line is not None
    ]
    if not lines:
        return None
    windows = [each for each in measurement.result.windows if each.kind is WindowKind.TIMED]
    return Course(
        device=result.setup.device,
        artifact_name=result.setup.artifact_name,
        measurement_id=stored.id,
        created_at=stored.created_at,
        why=why,
        lines=tuple(lines),
        timed=tuple(((each.start_ns - origin) / 1e9, (each.end_ns - origin) / 1e9) for each in windows),
    )


def _hottest(channels: Sequence[Channel], readings: Sequence[Reading], origin: int) -> Line | None:
    """Return the channel of the processor, else any, that became hottest."""
    known = [each for each in channels if each.quantity is Quantity.TEMPERATURE]
    near = [each for each in known if each.site in ("cpu", "soc")] or known
    series = {each.name: _series(readings, {each.name}, origin) for each in near}
    series = {name: points for name, points in series.items() if points}
    if not series:
        return None
    name = max(series, key=lambda each: max(value for _, value in series[each]))
    return Line(quantity="temperature", name=name, points=thinned(series[name]))


def _fastest(channels: Sequence[Channel], readings: Sequence[Reading], origin: int) -> Line | None:
    """Return the highest clock of all processors at each moment: idle ones wander, the fastest is at work."""
    names = {each.name for each in channels if each.quantity is Quantity.FREQUENCY and each.site == "cpu"}
    points = _joined(_series(readings, names, origin), max)
    if not points:
        return None
    name = f"fastest of {len(names)} processors" if len(names) > 1 else next(iter(names))
    return Line(quantity="frequency", name=name, points=thinned(points))


def _power(channels: Sequence[Channel], readings: Sequence[Reading], origin: int) -> Line | None:
    """Return the power by the preferred meter that gave any: the sum of its channels, or the slope of its counters."""
    for meter in power_meters(channels):
        names = {each.name for each in meter}
        counted = meter[0].quantity is Quantity.ENERGY
        by_channel = [_series(readings, {name}, origin) for name in sorted(names)]
        if counted:
            by_channel = [_slopes(points) for points in by_channel]
        if not all(by_channel):
            continue
        every = sorted(point for points in by_channel for point in points)
        summed = _joined(every, sum) if len(names) > 1 else every
        # Channels that were read at different moments do not add up; then the largest stands for the meter.
        if len(names) > 1 and len(summed) > max(map(len, by_channel)):
            summed = max(by_channel, key=lambda points: sum(value for _, value in points) / len(points))
        name = meter[0].meter or meter[0].name
        return Line(quantity="power", name=name, points=thinned(summed))
    return None


def _series(readings: Sequence[Reading], names: set[str], origin: int) -> _Points:
    return [((each.time_ns - origin) / 1e9, each.value) for each in readings if each.channel in names]


def _joined(points: _Points, join: Callable[[Sequence[float]], float]) -> _Points:
    """Return one value per moment."""
    by_time: dict[float, list[float]] = defaultdict(list)
    for at, value in points:
        by_time[at].append(value)
    return [(at, join(values)) for at, values in sorted(by_time.items())]


def _slopes(points: _Points) -> _Points:
    """Return the mean power between the changes of a cumulative energy counter, in watts."""
    found: _Points = []
    last: tuple[float, float] | None = None
    for at, value in points:
        if last is None or value < last[1]:
            last = (at, value)
        elif value > last[1] and at > last[0]:
            found.append((at, (value - last[1]) / (at - last[0])))
            last = (at, value)
    return found


def layer_times(number: int, setups: Sequence[Setup], nodes: Sequence[Sequence[NodeTime]]) -> LayerTimes:
    """Return node times by layer, of one artifact or of two; a layer goes by the first of the file's nodes in it."""
    sums = [_by_layer(each) for each in nodes]
    names = list(dict.fromkeys(name for each in sums for name in each))
    return LayerTimes(
        device=setups[0].device,
        measurement_id=number,
        baseline=setups[0].artifact_name,
        compressed=setups[1].artifact_name if len(sums) > 1 else None,
        layers=tuple((name, sums[0].get(name), sums[1].get(name) if len(sums) > 1 else None) for name in names),
    )


def _by_layer(nodes: Sequence[NodeTime]) -> dict[str, float]:
    found: dict[str, float] = defaultdict(float)
    for node in nodes:
        found[node.sources[0] if node.sources else f"{node.op_type}, added by the runtime"] += node.median_ns
    return found
