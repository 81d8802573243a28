"""Trained candidates with their final measurement, and which of them is the result."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from host.compress.rounds import Candidate
from host.search.budgets import WINDOW


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A trained candidate and its final measurement; `target` is a ratio to the baseline's latency in that measurement.

    `float32` says what is known of the float32 file: the same measurement, or what was expected of its latency where the
    precision that was planned in is another. `lost` says why the accuracy in that one does not hold.
    """

    candidate: Candidate
    comparison: Mapping[str, Any]
    target: float
    float32: Mapping[str, Any]
    lost: str | None = None

    @property
    def share(self) -> float:
        """The measured ratio as a share of the target; met at 1 or below."""
        return float(self.comparison["latency_ratio"]) / self.target


def nearest(attempts: Sequence[Attempt]) -> Attempt:
    """Return the slowest that meets the target; the fastest where none does, with a reason."""
    met = [each for each in attempts if each.share <= WINDOW[1]]
    if met:
        return max(met, key=lambda each: each.share)
    best = min(attempts, key=lambda each: each.share)
    if best.candidate.found.reason is not None:
        return best
    reason = f"still so after {len(attempts) - 1} corrections; a slightly lower target leaves room for noise"
    return dataclasses.replace(best, candidate=with_reason(best.candidate, reason))


def with_reason(candidate: Candidate, reason: str) -> Candidate:
    """Return the candidate with another word on why it does not lie in the window."""
    return dataclasses.replace(candidate, found=dataclasses.replace(candidate.found, reason=reason))
