"""Two artifacts measured in balanced turns: the ratio of a percentile of their latencies, with its interval.

Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from device_agent.contract.measurement import Measurement, Run
from device_agent.contract.pairs import PairedRatio, blocks_of
from device_agent.contract.statistics import percentile

#: A section's own percentile needs so many runs beyond it, else it is little more than the section's largest value.
BEYOND = 2
#: Sections of consecutive blocks, at most and at least.
MOST_SECTIONS, FEWEST_SECTIONS = 10, 5
#: Sections of correlated blocks scatter less than they should: counted in simulations, 91 to 99 % were covered without this.
WIDENED = 1.1
#: Student's t at 97.5 % by degrees of freedom: the interval's confidence is 95 %.
T_95 = {4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}


def paired_percentile_ratio(
    measurement: Measurement, percent: float, baseline: int = 0, candidate: int = 1
) -> PairedRatio:
    """Return the ratio of the `percent`th percentile of the candidate's latencies to the baseline's, with its 95 % interval.

    Over all timed runs of the blocks that both finished; disturbed ones belong to a tail. ValueError without such a block, or for
    a percentage outside 50..99.
    """
    return paired_percentile_ratio_of(measurement.runs, percent, baseline, candidate)


def paired_percentile_ratio_of(
    runs: Sequence[Run], percent: float, baseline: int = 0, candidate: int = 1
) -> PairedRatio:
    """Like `paired_percentile_ratio`, on bare runs.

    The interval is by sectioning (Nakayama, ACM TOMACS 2014): consecutive blocks make up to ten sections, in each of which drift
    and neighbours hit both artifacts alike; their log-ratios scatter around that of all runs. None for fewer than five sections
    of enough runs. It covers less than it says where the percentile lies just between fast runs and much slower ones.
    """
    if not 50 <= percent <= 99:
        raise ValueError(f"percentile {percent} is not between 50 and 99")
    blocks = list(zip(blocks_of(runs, baseline), blocks_of(runs, candidate), strict=False))
    if not blocks:
        raise ValueError(f"artifacts {baseline} and {candidate} have no block in common; ask for more runs")
    whole = _log_ratio(blocks, percent)
    wanted = BEYOND / (1 - percent / 100)
    smaller = min(sum(len(block[side]) for block in blocks) for side in (0, 1))
    sections = min(MOST_SECTIONS, int(smaller / wanted + 1e-9), len(blocks))
    if sections < FEWEST_SECTIONS:
        return PairedRatio(ratio=math.exp(whole), low=None, high=None, blocks=len(blocks))
    ends = [round(len(blocks) * number / sections) for number in range(sections + 1)]
    scatter = sum(
        (_log_ratio(blocks[ends[number] : ends[number + 1]], percent) - whole) ** 2 for number in range(sections)
    )
    half = WIDENED * T_95[sections - 1] * math.sqrt(scatter / (sections - 1) / sections)
    return PairedRatio(
        ratio=math.exp(whole), low=math.exp(whole - half), high=math.exp(whole + half), blocks=len(blocks)
    )


_Block = tuple[list[Run], list[Run]]


def _log_ratio(blocks: Sequence[_Block], percent: float) -> float:
    one, other = ([run.latency_ns for block in blocks for run in block[side]] for side in (0, 1))
    return math.log(percentile(other, percent) / percentile(one, percent))
