"""What the sensors said while a model ran: temperature, clock and power over the run, the timed part shaded."""

from __future__ import annotations

from collections.abc import Sequence

from host.cli import render
from host.report.axes import Axis
from host.report.charts import Band, Point, Series, chart
from host.report.fleet.data import Course, FleetData, Line
from host.report.markup import Markup, el, join
from host.report.tables import figure, folded, section, table

MOST = 8
_HEIGHT = 210.0
#: Quantity of a line: label, scale, and the words for a device that has no such sensor.
QUANTITIES = {
    "temperature": ("temperature, °C", 1.0),
    "frequency": ("clock, GHz", 1e9),
    "power": ("power, W", 1.0),
}


def courses(data: FleetData) -> Markup | None:
    """Return the sensors over one measurement per device; None where no readings are there."""
    if not data.courses:
        return None
    shown = data.courses[:MOST]
    left = len(data.courses) - len(shown)
    rows = [row for each in shown for row in _rows(each)]
    columns = ("device", "measurement", "sensor", "before", "lowest", "highest", "at the end")
    return section(
        "sensors",
        "Temperature, clock and power",
        el(
            "p",
            "One measurement per device: the one with the gravest verdict, else the longest. Shaded is the timed part."
            + (f" Devices left out: {left}." if left else ""),
        ),
        *(_course(each) for each in shown),
        folded("The readings as a table", table(columns, rows, right=columns[3:])),
    )


def _course(course: Course) -> Markup:
    missing = [name for name in QUANTITIES if name not in {each.quantity for each in course.lines}]
    words = f"{course.artifact_name}, measurement {course.measurement_id}, {course.created_at:%Y-%m-%d %H:%M} UTC: {course.why}."
    if missing:
        words += f" No sensor that the agent can read gives {' or '.join(missing)} here."
    return join(
        [
            el("h3", course.device, class_="apart"),
            el("p", words, class_="muted"),
            el("div", *(_figure(course, each) for each in course.lines), class_="courses"),
        ]
    )


def _figure(course: Course, line: Line) -> Markup:
    label, scale = QUANTITIES[line.quantity]
    values = [value / scale for _, value in line.points]
    low, high = min(values), max(values)
    # A clock that wanders by a permille is no story: the axis spans at least a tenth of the value.
    room = max((high - low) * 0.12, abs(high) * 0.05, 0.05)
    seconds = [at for at, _ in line.points] + [at for window in course.timed for at in window]
    drawn = chart(
        [
            Series(
                name=line.name,
                style="accent",
                points=tuple(Point(x=at, y=value / scale) for at, value in line.points),
                line=True,
                dots=len(line.points) < 12,
            )
        ],
        title=f"{line.quantity.capitalize()} of {course.device} in measurement {course.measurement_id}",
        description=f"{label} over {max(seconds):.0f} seconds, between {low:.4g} and {high:.4g}; the timed part is shaded.",
        x=Axis(label="seconds since the job began", low=min(*seconds, 0.0), high=max(seconds) or 1.0, exact=True),
        y=Axis(label=label, low=max(low - room, 0.0) if low >= 0 else low - room, high=high + room),
        bands=[Band(low=begin, high=end) for begin, end in course.timed],
        height=_HEIGHT,
    )
    return figure(f"{line.quantity.capitalize()} ({line.name})", drawn)


def _rows(course: Course) -> list[tuple[str, ...]]:
    rows = []
    for line in course.lines:
        during = [value for at, value in line.points if any(begin <= at <= end for begin, end in course.timed)]
        used = during or [value for _, value in line.points]
        figures = (line.points[0][1], min(used), max(used), used[-1])
        rows.append(
            (
                course.device,
                str(course.measurement_id),
                f"{line.quantity} ({line.name})",
                *(_text(line.quantity, each) for each in figures),
            )
        )
    return rows


def _text(quantity: str, value: float) -> str:
    texts = {"temperature": render.temperature_text, "frequency": render.frequency_text, "power": render.power_text}
    return texts[quantity](value)


def thinned(points: Sequence[tuple[float, float]], most: int = 240) -> tuple[tuple[float, float], ...]:
    """Return at most so many points: of each stretch the lowest and the highest value, in their order. No peak is lost."""
    if len(points) <= most:
        return tuple(points)
    parts = most // 2
    kept: list[tuple[float, float]] = []
    for part in range(parts):
        stretch = points[part * len(points) // parts : (part + 1) * len(points) // parts]
        kept += sorted({min(stretch, key=lambda each: each[1]), max(stretch, key=lambda each: each[1])})
    return tuple(kept)
