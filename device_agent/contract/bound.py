"""Whether a percentile of the latency keeps under a bound: a binomial test that knows how requests in a queue hang together.

MLPerf's load generator (mlcommons/inference, loadgen/early_stopping.cc) passes a run of the server scenario if so few requests
over the bound would be seen with a probability of 1 % at most, were their true share 1 - percent. That takes requests as
independent. In a queue they are late in bursts: at the very rate at which the true share is 1 %, that test passes 4 % of trials
where a stream is busy 30 % of the time, 20 % at 60 % and 70 % with four streams busy 90 % of the time. So the counts are first
divided by the length of the bursts. Then 5 % at most pass at that rate, all looks together: see benchmarks/bounds.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from device_agent.contract.statistics import exceedance_time

#: How surely a trial that is judged within its bound, or not within it, is so in the long run (simulated, see above).
CONFIDENCE = 0.95
#: Of the binomial test itself, on counts that were corrected for bursts. MLPerf's is 0.99; a trial here is looked at up to LOOKS
#: times, and each look is a chance to be wrong.
_TEST_CONFIDENCE = 0.995
#: A trial that cannot be judged yet and may still keep its bound goes on for these multiples of its first part.
LOOKS = (1, 1, 2)
#: The measured length of a burst comes out short on average, since the longest ones are rare.
_BURST_MARGIN = 1.25


def within_bound(latencies_ns: Sequence[int], bound_ns: float, percent: float) -> bool | None:
    """Say whether the percentile of the latency is at or under the bound, by requests in the order of their arrival.

    None where they are too few to tell, or the percentile is too close to the bound.
    """
    count = len(latencies_ns)
    late = sum(latency > bound_ns for latency in latencies_ns)
    allowed = 1 - percent / 100
    if not count:
        return None
    ordered = sorted(latencies_ns)
    # Without late requests their bursts cannot be seen; those of the slowest requests stand in for them.
    threshold = min(bound_ns, ordered[max(0, math.floor(count * percent / 100) - 1)])
    bursts = 1 + (exceedance_time(latencies_ns, threshold) - 1) * _BURST_MARGIN
    independent, late_independent = count / bursts, late / bursts
    error = 1 - _TEST_CONFIDENCE
    if binomial_at_most(late_independent, independent, allowed) <= error:
        return True
    if late_independent >= 1 and 1 - binomial_at_most(late_independent - 1, independent, allowed) <= error:
        return False
    return None


def may_still_keep(latencies_ns: Sequence[int], bound_ns: float, percent: float) -> bool:
    """Say whether more requests could show that the bound is kept: so far no more of them are late than may be."""
    return sum(latency > bound_ns for latency in latencies_ns) <= (1 - percent / 100) * len(latencies_ns)


def fewest_requests(percent: float) -> int:
    """Return how many requests it takes to judge a bound kept, if none of them is late and they are independent: 528 for p99."""
    return math.ceil(math.log(1 - _TEST_CONFIDENCE) / math.log(percent / 100))


def enough_requests(percent: float) -> int:
    """Return how many requests the first part of a trial should have, so that short bursts leave it judgeable."""
    return 2 * fewest_requests(percent)


def binomial_at_most(successes: float, trials: float, share: float) -> float:
    """Return the probability of at most `successes` in `trials` of probability `share`; counts need not be whole.

    It is the regularised incomplete beta function I(1 - share; trials - successes, successes + 1) (DLMF 8.17.5).
    """
    if successes < 0:
        return 0.0
    if successes >= trials:
        return 1.0
    return _regularised_beta(1 - share, trials - successes, successes + 1)


def _regularised_beta(x: float, a: float, b: float) -> float:
    """Return I_x(a, b), by the continued fraction of DLMF 8.17.22, which converges fast below the mean."""
    if x <= 0 or x >= 1:
        return min(max(x, 0.0), 1.0)
    if x > (a + 1) / (a + b + 2):
        return 1 - _regularised_beta(1 - x, b, a)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x) - math.log(a)
    )
    # Lentz's method: numerators and denominators as ratios, away from zero.
    tiny = 1e-300
    upper, lower = 1.0, 1 - (a + b) * x / (a + 1)
    lower = 1 / (lower if abs(lower) > tiny else tiny)
    value = lower
    for step in range(1, 10_000):
        even = step * (b - step) * x / ((a + 2 * step - 1) * (a + 2 * step))
        odd = -(a + step) * (a + b + step) * x / ((a + 2 * step) * (a + 2 * step + 1))
        change = 1.0
        for term in (even, odd):
            lower = 1 + term * lower
            lower = 1 / (lower if abs(lower) > tiny else tiny)
            upper = 1 + term / upper
            upper = upper if abs(upper) > tiny else tiny
            change = lower * upper
            value *= change
        if abs(change - 1) < 1e-13:
            break
    return front * value
