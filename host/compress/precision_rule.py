"""Whether a lower precision is taken: plain rules on what was measured. Each returns a reason against it, or None."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from device_agent.contract.decision import DIFFERENCE, DecisionCode

#: What a lower precision may cost in validation accuracy, against the float result, unless a drop is allowed by option.
ALLOWED_DROP = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Correct:
    """How many of `count` validation images are classified right: by the float result, and by the uncompressed baseline."""

    count: int
    float32: int
    baseline: int


def accuracy_reason(correct: int, known: Correct, max_drop: float | None) -> str | None:
    """Return why an accuracy does not hold, None if it does: `max_drop` below the baseline, else ALLOWED_DROP below float32."""
    reference, name = (known.float32, "the float result") if max_drop is None else (known.baseline, "the baseline")
    allowed = ALLOWED_DROP if max_drop is None else max_drop
    # In images: 0.915 - 0.905 is a little more than 0.01.
    if reference - correct <= allowed * known.count + 1e-9:
        return None
    drop = (reference - correct) / known.count
    return f"validation accuracy is {100 * drop:.2f} points below {name}, {100 * allowed:.3g} are allowed"


def latency_reason(decision: str, difference: float = DIFFERENCE) -> str | None:
    """Return why a decision against the float result is no reason to take a candidate; None for `faster`."""
    return {
        DecisionCode.FASTER.value: None,
        DecisionCode.SLOWER.value: "slower than float32 here",
        DecisionCode.NO_DIFFERENCE.value: f"no faster than float32 here by {difference:.0%} or more",
        DecisionCode.UNDECIDED.value: "the measurement does not tell whether it is faster than float32 here",
    }[decision]


def final_reason(final: Mapping[str, Any], float32: Mapping[str, Any], budgets: Mapping[str, int | None]) -> str | None:
    """Return why the final measurement in turns with the baseline speaks against a candidate, None if it does not.

    `budgets` are upper bounds of `peak_memory_bytes` and `size_bytes`; one that the float result exceeds too is no reason.
    """
    if final["latency_ratio"] >= float32["latency_ratio"]:
        return "in the final turns with the baseline it was no faster than float32"
    for name, most in budgets.items():
        after, before = final[name], float32[name]
        if most is not None and after is not None and before is not None and before <= most < after:
            return f"its {name.replace('_', ' ')} are {after}, {most} are allowed"
    return None
