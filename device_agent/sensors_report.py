"""`device-agent sensors`: what was found and where, its value now, the cost of a look; and what is missing and why."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from device_agent.board import BoardFacts
from device_agent.contract.device import Channel, MissingSensor, Quantity
from device_agent.contract.document import SCHEMA
from device_agent.recorded_board import LIVE, channel_of, describe, expected_kinds, facts_of, opened, record
from device_agent.sensors import Sensor, survey
from device_agent.sensors.external_meter import with_meter
from device_agent.terminal import DASH, facts, width

UNITS = {
    Quantity.TEMPERATURE: "°C",
    Quantity.FREQUENCY: "Hz",
    Quantity.POWER: "W",
    Quantity.ENERGY: "J",
    Quantity.MEMORY: "B",
}
#: Looks at a sensor for its cost, and about how long they may take together.
_LOOKS, _LOOKS_S = 50, 0.3
_RECORDED = """recorded in {path}
Look through it: it is text. To offer the board to Boardfit's tests, send the folder and say which board and system it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorState:
    """A sensor, its values now (None: could not be read), and what one look takes: wall time and a core's time, in ns."""

    kind: str
    interval_s: float
    channels: tuple[tuple[Channel, float | None], ...]
    cost_ns: float
    core_ns: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorsReport:
    """What a board has and lacks."""

    board: BoardFacts
    sensors: tuple[SensorState, ...]
    missing: tuple[MissingSensor, ...]

    @property
    def core_fraction(self) -> float:
        """How much of one core it takes to look at every sensor at its own rate."""
        return sum(one.core_ns / 1e9 / one.interval_s for one in self.sensors)


def look(root: Path = LIVE, *, profile: str | None = None, meter: str | None = None) -> SensorsReport:
    """Read every sensor under `root` and an external meter, and measure what that takes: 0.3 s each at most, 3 s the meter.

    InvalidRequest: no such profile, or no such meter.
    """
    board = describe(root, profile)
    found = with_meter(survey(root, expected=expected_kinds(board)), meter)
    states = tuple(_state(sensor) for sensor in found.sensors)
    return SensorsReport(board=board, sensors=states, missing=found.missing)


def sensors(
    *, root: Path | None, profile: str | None, record_to: Path | None, as_json: bool, meter: str | None = None
) -> None:
    """Print what the board under `root` has and lacks, or write its recording. Errors are those of `record` and `opened`."""
    with opened(root or LIVE) as place:
        if record_to is not None:
            path = record(place, record_to)
            _print(json.dumps({"schema": SCHEMA, "recording": str(path)}) if as_json else _RECORDED.format(path=path))
            return
        report = look(place, profile=profile, meter=meter)
    _print(json.dumps(document_of(report), indent=2) if as_json else "\n".join(lines_of(report, width())))


def document_of(report: SensorsReport) -> dict[str, Any]:
    """Return the report for --json."""
    return {
        "schema": SCHEMA,
        "board": facts_of(report.board),
        "core_fraction": report.core_fraction,
        "sensors": [
            {
                "kind": one.kind,
                "interval_s": one.interval_s,
                "cost_us": one.cost_ns / 1000,
                "channels": [
                    {**channel_of(channel), "unit": UNITS.get(channel.quantity), "value": value}
                    for channel, value in one.channels
                ],
            }
            for one in report.sensors
        ],
        "missing": [asdict(one) for one in report.missing],
    }


def lines_of(report: SensorsReport, columns: int) -> list[str]:
    """Return the report as text. The table of channels is as wide as its sources are, the rest fits the columns."""
    rows = [("channel", "now", "quantity", "meter", "part of", "every", "source")]
    for state in report.sensors:
        for channel, value in state.channels:
            cells = (channel.meter or DASH, channel.part_of or DASH, f"{state.interval_s:g} s", channel.source)
            rows.append((channel.name, _value(channel, value), channel.quantity.value, *cells))
    lines = [f"{report.board.board} (profile: {report.board.profile or DASH})", "", *_aligned(rows), ""]
    costs = [("sensor", "one look", "every")]
    costs += [(one.kind, f"{one.cost_ns / 1000:.0f} us", f"{one.interval_s:g} s") for one in report.sensors]
    lines += [*_aligned(costs), f"together {report.core_fraction:.2%} of one core at these rates", ""]
    lines += [*facts(_notes(report), columns), ""]
    lines += facts([(f"missing: {one.kind}", one.reason) for one in report.missing], columns)
    while not lines[-1]:
        lines.pop()
    return lines


def _notes(report: SensorsReport) -> list[tuple[str, str]]:
    """Return the channels' notes, each once."""
    notes: dict[str, list[str]] = {}
    for channel in (channel for state in report.sensors for channel, _ in state.channels):
        if channel.note is not None:
            notes.setdefault(channel.note, []).append(channel.name)
    return [
        (names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more", note)
        for note, names in notes.items()
    ]


def _value(channel: Channel, value: float | None) -> str:
    if value is None:
        return "cannot be read"
    if channel.quantity is Quantity.FLAGS:
        return f"{int(value):#x}"
    if channel.quantity is Quantity.FREQUENCY:
        return f"{value / 1e6:.0f} MHz" if value >= 1e6 else f"{value:.6g} Hz"
    if channel.quantity is Quantity.MEMORY:
        return f"{value / 2**20:.0f} MiB"
    return f"{value:.6g} {UNITS.get(channel.quantity, '')}".rstrip()


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _state(sensor: Sensor) -> SensorState:
    """Read a sensor once for its values, then again and again for its cost."""
    until_ns = time.monotonic_ns() + round(sensor.first_after_s * 1e9)
    values = {one.channel: one.value for one in sensor.read(time.monotonic_ns())}
    while not values and time.monotonic_ns() < until_ns:
        time.sleep(sensor.interval_s)
        values = {one.channel: one.value for one in sensor.read(time.monotonic_ns())}
    channels = tuple((channel, values.get(channel.name)) for channel in sensor.channels)
    costs: list[int] = []
    begin_ns, core_ns = time.perf_counter_ns(), _core_ns()
    while len(costs) < _LOOKS and (not costs or time.perf_counter_ns() - begin_ns < _LOOKS_S * 1e9):
        start_ns = time.perf_counter_ns()
        sensor.read(start_ns)
        costs.append(time.perf_counter_ns() - start_ns)
    spent_ns = (_core_ns() - core_ns) / len(costs)
    sensor.close()
    return SensorState(
        kind=sensor.kind, interval_s=sensor.interval_s, channels=channels, cost_ns=median(costs), core_ns=spent_ns
    )


def _core_ns() -> int:
    """Processor time of this thread and of the processes that it started and that ended."""
    children = os.times()
    return time.thread_time_ns() + round((children.children_user + children.children_system) * 1e9)


def _print(text: str) -> None:
    print(text)  # noqa: T201 - a command's result goes to stdout
