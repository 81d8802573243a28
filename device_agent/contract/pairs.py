"""Two artifacts measured in balanced turns: the ratio of their latencies, with its interval. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from device_agent.contract.disturbance import UNDISTURBED_SHARE
from device_agent.contract.measurement import Measurement, Run, RunKind
from device_agent.contract.statistics import median, median_interval

#: Blocks with undisturbed runs on both sides that are enough to leave the others out.
FEWEST_BLOCKS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class PairedRatio:
    """Latency of the candidate over that of the baseline, with its interval at `confidence` (None: too few blocks)."""

    ratio: float
    low: float | None
    high: float | None
    blocks: int
    confidence: float = 0.95


def paired_ratio(
    measurement: Measurement, baseline: int = 0, candidate: int = 1, *, confidence: float = 0.95
) -> PairedRatio:
    """Return the median over blocks of log(median candidate / median baseline), exponentiated, with its interval.

    Drift, heat and neighbours hit both artifacts of a block alike and cancel. ValueError if an artifact has no timed runs.
    """
    return paired_ratio_of(measurement.runs, baseline, candidate, confidence=confidence)


def paired_ratio_of(
    runs: Sequence[Run], baseline: int = 0, candidate: int = 1, *, confidence: float = 0.95
) -> PairedRatio:
    """Like `paired_ratio`, on bare runs. A block holds two turns of each artifact, the second in mirrored order.

    Undisturbed runs alone are used where 20 % of the blocks, and at least ten or all, have one on each side; else the fastest
    of each side stands for its block, since after a neighbour's time slice no other is near the truth. Medians over all runs are
    worse: a neighbour hits long runs more often than short ones, and the shorter artifact looks faster than it is, by up to half.
    """
    ratios = block_log_ratios(runs, baseline, candidate)
    if not ratios:
        raise ValueError(f"artifacts {baseline} and {candidate} have no block in common; ask for more runs")
    return ratio_of_blocks(ratios, confidence=confidence)


def ratio_of_blocks(log_ratios: Sequence[float], *, confidence: float = 0.95) -> PairedRatio:
    """Return the paired ratio of blocks, given the logarithm of each one's. ValueError for none."""
    found = median_interval(log_ratios, confidence=confidence, assume_independent=True)
    return PairedRatio(
        ratio=math.exp(found.median),
        low=None if found.low is None else math.exp(found.low),
        high=None if found.high is None else math.exp(found.high),
        blocks=len(log_ratios),
        confidence=confidence,
    )


def block_log_ratios(runs: Sequence[Run], baseline: int, candidate: int) -> list[float]:
    """Return the log-ratio of every block that both artifacts finished, in order."""
    one, other = blocks_of(runs, baseline), blocks_of(runs, candidate)
    fastest: list[float] = []
    clean: list[float] = []
    for base_runs, candidate_runs in zip(one, other, strict=False):
        fastest.append(
            math.log(min(run.latency_ns for run in candidate_runs) / min(run.latency_ns for run in base_runs))
        )
        base_clean = [run for run in base_runs if not run.disturbed]
        candidate_clean = [run for run in candidate_runs if not run.disturbed]
        if base_clean and candidate_clean:
            clean.append(_log_ratio(base_clean, candidate_clean))
    enough = min(len(fastest), max(FEWEST_BLOCKS, UNDISTURBED_SHARE * len(fastest)))
    return clean if len(clean) >= enough else fastest


def blocks_of(runs: Sequence[Run], artifact: int) -> list[list[Run]]:
    """Return an artifact's timed runs by pairs of its turns; a last single turn is left out."""
    turns: dict[int, list[Run]] = {}
    for run in runs:
        if run.artifact == artifact and run.kind is RunKind.TIMED:
            turns.setdefault(run.turn, []).append(run)
    ordered = [turns[turn] for turn in sorted(turns)]
    return [first + second for first, second in zip(ordered[::2], ordered[1::2], strict=False)]


def _log_ratio(baseline: Sequence[Run], candidate: Sequence[Run]) -> float:
    return math.log(median(run.latency_ns for run in candidate) / median(run.latency_ns for run in baseline))
