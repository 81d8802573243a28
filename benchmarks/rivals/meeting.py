"""Bisection on the measured latency, the same for every method that has one dial."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from benchmarks.rivals.trial import OutOfReach, Shot, Trial, signature

#: Shares of the target between which a measured plan needs no further search. The upper one leaves room for noise.
WINDOW = (0.97, 0.993)
#: A short measurement this much over the target is not believed before the long one.
NOISE = 1.02
#: Measurements and proposals of one bisection at most.
MEASUREMENTS, PROPOSALS = 8, 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Met:
    """The slowest plan found at or under the target, as measured."""

    module: nn.Module
    dial: float
    shot: Shot
    measured: int


def bisect(
    trial: Trial,
    propose: Callable[[float], nn.Module],
    target: float,
    *,
    low: float = 0.0,
    high: float = 1.0,
    measurements: int = MEASUREMENTS,
) -> Met:
    """Turn a dial between `low` (fastest) and `high` (the baseline) until the measured ratio lies in WINDOW of the target.

    `propose` builds a pruned module for a dial; equal shapes are measured once. Returns the slowest plan at or under the
    target, confirmed by a long measurement; raises OutOfReach where the method's fastest plan is over it.
    """
    fastest = propose(low)
    first = trial.measure(fastest)
    seen = {signature(fastest)}
    candidates = [(first.ratio, low, fastest)]
    if first.ratio < WINDOW[0] * target:
        for _ in range(PROPOSALS):
            if len(seen) >= measurements or high - low < 1e-4:
                break
            dial = (low + high) / 2
            module = propose(dial)
            shot = trial.measure(module)
            if signature(module) not in seen:
                candidates.append((shot.ratio, dial, module))
            seen.add(signature(module))
            if shot.ratio > WINDOW[1] * target:
                high = dial
            else:
                low = dial
            if WINDOW[0] * target <= shot.ratio <= WINDOW[1] * target:
                break
    reached = [each[0] for each in candidates]
    for _, dial, module in sorted(candidates, key=lambda each: -each[0]):
        if trial.measure(module).ratio > NOISE * target:
            continue
        shot = trial.measure(module, final=True)
        reached.append(shot.ratio)
        if shot.ratio <= target:
            return Met(module=module, dial=dial, shot=shot, measured=len(seen))
    _, _, nearest = min(candidates, key=lambda each: each[0])
    raise OutOfReach(f"the fastest plan measured {min(reached):.3f}x, the target is {target:.2f}x", nearest)
