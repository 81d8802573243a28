"""How much two sides differ: paired, or as two samples of measurements, always with an interval. Pure functions.

A measurement's median is off by its own scatter and by what changes from one measurement to the next (memory layout, temperature,
what else the board does). Its own interval knows the first only. With several measurements the second is estimated from how they
differ around their sides' means (one variance for both sides, Student's t); repeats of other artifacts on the same device tell it
too. With one measurement on each side and no repeats, the interval says that it does not contain it. benchmarks/changepoints.py
counts how often intervals cover the truth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from device_agent.contract.pairs import PairedRatio
from device_agent.contract.statistics import normal_quantile

#: No figure repeats better than this share: what looks so had too few chances to differ, or a coarse unit.
SMALLEST_DEVIATION = 0.0005
#: Logarithms farther apart than this are beyond a factor of 20,000: nothing is known.
_WIDEST = 10.0
#: From so many measured pairs on their own scatter is taken for that from measurement to measurement.
ENOUGH_PAIRS = 4


class Method(str, Enum):
    """How a change was found. EXACT figures have no error, as a file's size."""

    PAIRED = "paired"
    TWO_SAMPLE = "two-sample"
    EXACT = "exact"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A measurement's figure. `variance` is what it knows of the variance of its logarithm, None for nothing."""

    value: float
    variance: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeats:
    """What repeats of the same thing on a device tell of the variance from measurement to measurement (of logarithms)."""

    variance: float
    freedom: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How the candidate's figure differs from the baseline's.

    `change` is relative (0.03: 3 % more) with its interval at `confidence`, None where nothing tells how far it may be off.
    `low_level` and `high_level` are the interval of the candidate's figure itself. `run_to_run` says whether the interval holds
    what differs from one measurement to the next. `deviation` is that of a single measurement, or of one pair.
    """

    method: Method
    baseline: float
    candidate: float
    change: float
    low: float | None
    high: float | None
    low_level: float | None
    high_level: float | None
    measurements: tuple[int, int]
    run_to_run: bool
    deviation: float | None
    confidence: float


def repeats_of(groups: Sequence[Sequence[float]]) -> Repeats | None:
    """Return what groups of repeats tell, each of positive values of one thing; None where nothing was repeated."""
    total, freedom = 0.0, 0
    for group in groups:
        if len(group) < 2:
            continue
        logs = [math.log(value) for value in group]
        total += _squares(logs)
        freedom += len(logs) - 1
    return Repeats(variance=total / freedom, freedom=freedom) if freedom else None


def two_sample(
    baseline: Sequence[Figure], candidate: Sequence[Figure], *, confidence: float = 0.95, repeats: Repeats | None = None
) -> Change:
    """Return the change of the mean logarithm between measurements of the one and of the other. Values are positive."""
    if not baseline or not candidate:
        raise ValueError(f"{len(baseline)} and {len(candidate)} figures; each side needs one")
    logs = [[math.log(figure.value) for figure in side] for side in (baseline, candidate)]
    counts = (len(baseline), len(candidate))
    means = [sum(side) / len(side) for side in logs]
    own = [_mean_variance(side) for side in (baseline, candidate)]
    freedom = sum(counts) - 2 + (repeats.freedom if repeats else 0)
    deviation: float | None = None
    half = level_half = None
    if freedom:
        total = sum(map(_squares, logs)) + (repeats.variance * repeats.freedom if repeats else 0.0)
        # A measurement scatters at least as much as its own runs say, whatever the repeats happened to do.
        floor = max((variance for variance in own if variance is not None), default=0.0)
        deviation = max(math.sqrt(max(total / freedom, floor)), SMALLEST_DEVIATION)
        wide = student_quantile(confidence, freedom) * deviation
        half, level_half = wide * math.sqrt(1 / counts[0] + 1 / counts[1]), wide / math.sqrt(counts[1])
    elif own[0] is not None and own[1] is not None:
        deviation = math.sqrt((own[0] + own[1]) / 2)
        half = normal_quantile(confidence) * math.sqrt(own[0] + own[1])
        level_half = normal_quantile(confidence) * math.sqrt(own[1])
    found = _change(
        Method.TWO_SAMPLE, means[0], means[1], half, level_half,
        measurements=counts, run_to_run=bool(freedom), deviation=deviation, confidence=confidence,
    )  # fmt: skip
    return replace(found, baseline=_mean_value(baseline), candidate=_mean_value(candidate))


def paired(
    ratios: Sequence[PairedRatio], baseline: Sequence[Figure], candidate: Sequence[Figure], *, confidence: float = 0.95
) -> Change:
    """Return the change that measurements in turns show, one ratio each. Ratios have their intervals at `confidence`.

    One alone has its own interval. Two or three are averaged with a variance between them (DerSimonian and Laird 1986), which
    so few hardly tell; from ENOUGH_PAIRS on their own scatter gives Student's interval.
    """
    logs = [math.log(ratio.ratio) for ratio in ratios]
    own = [_own_variance(ratio, confidence) for ratio in ratios]
    level = sum(math.log(figure.value) for figure in baseline) / len(baseline)
    spread = [variance for variance in own if variance is not None]
    middle, half, deviation = sum(logs) / len(logs), None, None
    enough = len(logs) >= ENOUGH_PAIRS
    if enough:
        floor = sum(spread) / len(spread) if spread else 0.0
        deviation = max(math.sqrt(max(_squares(logs) / (len(logs) - 1), floor)), SMALLEST_DEVIATION)
        half = student_quantile(confidence, len(logs) - 1) * deviation / math.sqrt(len(logs))
    elif len(spread) == len(logs):
        middle, variance = _averaged(logs, spread)
        half, deviation = normal_quantile(confidence) * math.sqrt(variance), math.sqrt(variance * len(logs))
    found = _change(
        Method.PAIRED, level, level + middle, half, _level_half(candidate, confidence),
        measurements=(len(logs), len(logs)), run_to_run=enough, deviation=deviation, confidence=confidence,
    )  # fmt: skip
    single = ratios[0]
    if len(ratios) == 1 and single.low is not None and single.high is not None:
        return replace(found, low=single.low - 1, high=single.high - 1)
    return found


def exact(baseline: float, candidate: float) -> Change:
    """Return the change of figures that have no error."""
    change = (candidate - baseline) / baseline
    return Change(
        method=Method.EXACT, baseline=baseline, candidate=candidate, change=change, low=change, high=change,
        low_level=candidate, high_level=candidate, measurements=(1, 1), run_to_run=True, deviation=0.0, confidence=1.0,
    )  # fmt: skip


def measurements_needed(deviation: float, distance: float, *, confidence: float = 0.95, most: int = 1000) -> int | None:
    """Return how many measurements on each side would put an interval within `distance` (of logarithms); None for over `most`."""
    for count in range(2, most + 1):
        wide = student_quantile(confidence, 2 * count - 2) * deviation * math.sqrt(2 / count)
        if wide < distance:
            return count
    return None


def student_quantile(confidence: float, freedom: int) -> float:
    """Return t such that Student's t lies within -t..t with probability `confidence`."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + confidence) / 2))


def _change(
    method: Method,
    baseline: float,
    candidate: float,
    half: float | None,
    level_half: float | None,
    *,
    measurements: tuple[int, int],
    run_to_run: bool,
    deviation: float | None,
    confidence: float,
) -> Change:
    """Return a change of logarithms; an interval that reaches over all magnitudes is none."""
    change = candidate - baseline
    half = None if half is None or half > _WIDEST else half
    level_half = None if level_half is None or level_half > _WIDEST else level_half
    return Change(
        method=method,
        baseline=math.exp(baseline),
        candidate=math.exp(candidate),
        change=math.expm1(change),
        low=None if half is None else math.expm1(change - half),
        high=None if half is None else math.expm1(change + half),
        low_level=None if level_half is None else math.exp(candidate - level_half),
        high_level=None if level_half is None else math.exp(candidate + level_half),
        measurements=measurements,
        run_to_run=run_to_run,
        deviation=deviation,
        confidence=confidence,
    )


def _level_half(side: Sequence[Figure], confidence: float) -> float | None:
    """Return half the interval of one side's mean logarithm."""
    logs = [math.log(figure.value) for figure in side]
    if len(logs) > 1:
        deviation = max(math.sqrt(_squares(logs) / (len(logs) - 1)), SMALLEST_DEVIATION)
        return student_quantile(confidence, len(logs) - 1) * deviation / math.sqrt(len(logs))
    own = _mean_variance(side)
    return None if own is None else normal_quantile(confidence) * math.sqrt(own)


def _averaged(logs: Sequence[float], variances: Sequence[float]) -> tuple[float, float]:
    """Return mean and variance by random effects (DerSimonian and Laird 1986, Controlled Clinical Trials 7)."""
    weights = [1 / max(variance, SMALLEST_DEVIATION**2) for variance in variances]
    total = sum(weights)
    mean = sum(weight * value for weight, value in zip(weights, logs, strict=True)) / total
    scatter = sum(weight * (value - mean) ** 2 for weight, value in zip(weights, logs, strict=True))
    excess = total - sum(weight * weight for weight in weights) / total
    between = max(0.0, (scatter - len(logs) + 1) / excess) if excess > 0 else 0.0
    weights = [1 / (1 / weight + between) for weight in weights]
    total = sum(weights)
    return sum(weight * value for weight, value in zip(weights, logs, strict=True)) / total, 1 / total


def _own_variance(ratio: PairedRatio, confidence: float) -> float | None:
    if ratio.low is None or ratio.high is None:
        return None
    return float((math.log(ratio.high / ratio.low) / 2 / normal_quantile(confidence)) ** 2)


def _mean_variance(side: Sequence[Figure]) -> float | None:
    known = [figure.variance for figure in side if figure.variance is not None]
    return sum(known) / len(known) if known else None


def _mean_value(side: Sequence[Figure]) -> float:
    """Return the geometric mean; equal values as they are."""
    values = [figure.value for figure in side]
    if min(values) == max(values):
        return values[0]
    return math.exp(sum(map(math.log, values)) / len(values))


def _squares(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values)
