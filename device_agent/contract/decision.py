"""Which of two or more artifacts is faster: decisions on paired ratios, with stated error rates. Pure functions.

One interval decides. It covers the true ratio of latencies with probability 1 - error rate, so whatever the truth is, a wrong
decision of either kind comes at most at that rate: "faster" or "slower" where the ratio is 1 or on the other side (at most half
the rate for each side), "no difference" where the ratio lies outside the bounds (two one-sided tests at half the rate each,
Schuirmann 1987). Several candidates share the rate (Bonferroni): each interval is at 1 - rate / candidates, so all decisions
of one measurement are right together with probability 1 - rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from device_agent.contract.errors import InvalidRequest
from device_agent.contract.measurement import Run
from device_agent.contract.pairs import PairedRatio, paired_ratio_of

#: A difference smaller than this share is called none, unless asked otherwise.
DIFFERENCE = 0.02
ERROR_RATE = 0.05


class DecisionCode(str, Enum):
    """What can be said of a candidate. NO_DIFFERENCE is a finding; UNDECIDED is the lack of one."""

    FASTER = "faster"
    SLOWER = "slower"
    NO_DIFFERENCE = "no-difference"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A decision on one candidate.

    `ratio` is its latency over the baseline's, with the interval that decided: it covers the true ratio with probability
    `ratio.confidence`. `difference` is the smallest share that would count as a difference, `error_rate` the probability of at
    least one wrong decision among the `comparisons` that were decided together. `hint` says what to do, None if nothing is left.
    """

    code: DecisionCode
    ratio: PairedRatio
    difference: float
    error_rate: float
    comparisons: int = 1
    hint: str | None = None


def decide(
    runs: Sequence[Run],
    baseline: int = 0,
    candidate: int = 1,
    *,
    difference: float = DIFFERENCE,
    error_rate: float = ERROR_RATE,
    comparisons: int = 1,
) -> Decision:
    """Decide whether `candidate` is faster or slower than `baseline` (indices of the artifacts in the request).

    NO_DIFFERENCE if the interval of the ratio lies within 1/(1 + difference) and 1 + difference, both excluded: whatever the true
    ratio is, it differs by less than that, and swapping the two gives the same decision. Otherwise FASTER or SLOWER if it lies on
    one side of 1, else UNDECIDED. `comparisons` is the number of decisions that share the error rate.
    InvalidRequest for a difference or rate outside 0..1; ValueError if the two have no block in common.
    """
    if not 0 < difference < 1:
        raise InvalidRequest(f"difference={difference} is not between 0 and 1")
    if not 0 < error_rate < 1 or comparisons < 1:
        raise InvalidRequest(
            f"error_rate={error_rate} of {comparisons} comparisons is not between 0 and 1, of at least 1"
        )
    ratio = paired_ratio_of(runs, baseline, candidate, confidence=1 - error_rate / comparisons)
    return Decision(
        code=code_of(ratio, difference),
        ratio=ratio,
        difference=difference,
        error_rate=error_rate,
        comparisons=comparisons,
        hint=_hint(ratio, difference),
    )


def decide_all(
    runs: Sequence[Run], artifacts: int, *, difference: float = DIFFERENCE, error_rate: float = ERROR_RATE
) -> tuple[Decision, ...]:
    """Decide on every artifact after the first against the first; the error rate is that of all decisions together."""
    return tuple(
        decide(runs, 0, candidate, difference=difference, error_rate=error_rate, comparisons=artifacts - 1)
        for candidate in range(1, artifacts)
    )


def code_of(ratio: PairedRatio, difference: float) -> DecisionCode:
    """Return what the interval of a ratio says, at the error rate that its confidence leaves."""
    if ratio.low is None or ratio.high is None:
        return DecisionCode.UNDECIDED
    if 1 / (1 + difference) < ratio.low and ratio.high < 1 + difference:
        return DecisionCode.NO_DIFFERENCE
    if ratio.high < 1:
        return DecisionCode.FASTER
    return DecisionCode.SLOWER if ratio.low > 1 else DecisionCode.UNDECIDED


def _hint(ratio: PairedRatio, difference: float) -> str | None:
    """An interval of half-width difference/2 always decides: either it leaves out 1, or it reaches less than twice as far."""
    if code_of(ratio, difference) is not DecisionCode.UNDECIDED:
        return None
    if ratio.low is None or ratio.high is None:
        return f"{ratio.blocks} blocks of turns are too few for an interval; raise --max-time"
    wanted = math.log1p(difference) / 2
    longer = (math.log(ratio.high / ratio.low) / 2 / wanted) ** 2
    return (
        f"the interval is too wide to tell; ask for --precision {wanted:.2%} and some {max(2, math.ceil(longer))} times"
        " as much --max-time"
    )
