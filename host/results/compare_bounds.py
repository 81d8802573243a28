"""`--fail-if 'p50 > +3%'`: what it means, and whether it is met with confidence. Pure functions.

    METRIC OP VALUE      p50 > +3%        the candidate's p50 is more than 3 % above the baseline's
                         p90 > +0.5ms     ... more than 0.5 ms above it
                         energy < -10%    ... more than 10 % below it
                         peak_memory > 40MB   the candidate's own figure is above 40 MB
                         accuracy < -1%   accuracy fell by more than one point (of a hundred)

A value with a sign is a change, without one the candidate's own figure; a percentage is always a change and so needs a sign.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import Enum

from device_agent.contract.errors import InvalidRequest
from host.results.compare import Change, Method, measurements_needed

#: Metric -> units that a value may have: name -> size in the metric's own unit.
_TIMES = {"s": 1e9, "ms": 1e6, "us": 1e3, "µs": 1e3, "ns": 1.0}
_BYTES = {"b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30}
_JOULES = {"j": 1.0, "mj": 1e-3, "uj": 1e-6, "µj": 1e-6}
UNITS = {
    "p50": _TIMES,
    "p90": _TIMES,
    "p99": _TIMES,
    "peak_memory": _BYTES,
    "energy": _JOULES,
    "size": _BYTES,
    "accuracy": {"": 1.0},
}
_BOUND = re.compile(r"\s*([a-z0-9_-]+)\s*([<>])\s*([+-]?)\s*([0-9]*\.?[0-9]+)\s*([A-Za-zµ%]*)\s*")


class Met(str, Enum):
    """What the interval says of a bound."""

    MET = "met"
    NOT_MET = "not-met"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A condition on a comparison. `value` is a share (relative), points or base units; `is_change` as opposed to a level."""

    text: str
    metric: str
    above: bool
    value: float
    relative: bool
    is_change: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Whether a bound is met. `hint` says what would decide it where nothing does."""

    bound: Bound
    met: Met
    hint: str | None


def parse_bound(text: str) -> Bound:
    """Return the bound of `p50 > +3%`. InvalidRequest for what is none."""
    match = _BOUND.fullmatch(text)
    if match is None:
        raise InvalidRequest(f"--fail-if {text!r} is not METRIC > VALUE or METRIC < VALUE, such as 'p50 > +3%'")
    metric, operator, sign, number, unit = match.groups()
    metric = metric.replace("-", "_")
    if metric not in UNITS:
        raise InvalidRequest(f"--fail-if {text!r}: {metric} is none of {', '.join(UNITS)}")
    value = float(number) * (-1 if sign == "-" else 1)
    if unit == "%":
        if not sign and metric != "accuracy":
            raise InvalidRequest(f"--fail-if {text!r}: a percentage is a change; write +{number}% or -{number}%")
        value, relative = value / 100, metric != "accuracy"
    elif unit.lower() in UNITS[metric]:
        value, relative = value * UNITS[metric][unit.lower()], False
    elif not unit:
        usual = next(each for each in ("ms", "MB", "mJ") if each.lower() in UNITS[metric])
        condition, change = f"{metric} {operator} ", sign or ("+" if operator == ">" else "-")
        raise InvalidRequest(
            f"--fail-if {text!r}: {metric} needs a unit or a percent sign: {condition}{sign}{number}{usual}, "
            f"{condition}{change}{number}%"
        )
    else:
        units = ", ".join(("%", *filter(None, UNITS[metric])))
        raise InvalidRequest(f"--fail-if {text!r}: {unit} is no unit of {metric}; use one of {units}")
    if relative and value <= -1:
        raise InvalidRequest(f"--fail-if {text!r}: nothing falls by 100 % or more")
    return Bound(
        text=" ".join(text.split()),
        metric=metric,
        above=operator == ">",
        value=value,
        relative=relative,
        is_change=bool(sign),
    )


def judge(bound: Bound, change: Change | None) -> Judgement:
    """Say whether the interval of the change lies beyond the bound, on its other side, or across it.

    A change in units is held against the baseline's figure, whose own error is small beside that of the change.
    """
    if change is None:
        return Judgement(bound=bound, met=Met.UNDECIDED, hint=f"{bound.metric} was not measured on both sides")
    if bound.is_change:
        relative = bound.relative or bound.metric == "accuracy"
        limit = bound.value if relative else bound.value / change.baseline
        low, high, found = change.low, change.high, change.change
    else:
        limit, low, high, found = bound.value, change.low_level, change.high_level, change.candidate
    if low is not None and high is not None and (low > limit or high < limit or low == high):
        beyond = found > limit if bound.above else found < limit
        return Judgement(bound=bound, met=Met.MET if beyond else Met.NOT_MET, hint=None)
    return Judgement(bound=bound, met=Met.UNDECIDED, hint=_hint(bound, change, found, limit))


def _hint(bound: Bound, change: Change, found: float, limit: float) -> str:
    """Return what would decide."""
    if bound.metric == "accuracy":
        return "too few test images to tell; evaluate on more"
    if change.deviation is None:
        return "one measurement on each side tells nothing of its own error; measure each two more times"
    ends = (1 + found, 1 + limit) if bound.is_change else (found, limit)
    distance = abs(math.log(ends[0] / ends[1])) if min(ends) > 0 else 0.0
    if change.method is Method.PAIRED and change.measurements[0] == 1:
        if change.low is None or change.high is None:
            return "too few turns for an interval; measure with a longer --max-time"
        half = math.log((1 + change.high) / (1 + change.low)) / 2
        longer = (half / distance) ** 2 if distance else math.inf
        if longer > 100:
            return "the change is as good as the limit itself; no number of runs decides that"
        return (
            f"some {max(2, math.ceil(longer))} times as many turns would decide: --measure with as much more --max-time"
        )
    needed = measurements_needed(change.deviation, distance, confidence=change.confidence) if distance else None
    if needed is None:
        return "the change is as good as the limit itself; no number of measurements decides that"
    more = max(1, needed - min(change.measurements))
    return f"about {more} more measurement{'s' * (more > 1)} of each side would decide, or a pair in turns: --measure"
