"""Budgets over rounds, and their correction on synthetic devices."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host.search.budgets import Try, correct, round_budgets, within


@given(target=st.floats(0.05, 1.0), rounds=st.integers(1, 8))
def test_rounds_shrink_by_equal_factors_and_end_at_the_target(target: float, rounds: int) -> None:
    budgets = round_budgets(target, rounds)
    assert len(budgets) == rounds
    assert budgets[-1] == target
    factors = np.array(budgets) / np.array([1.0, *budgets[:-1]])
    assert factors == pytest.approx(np.full(rounds, target ** (1 / rounds)))


def test_rounds_refuse_nonsense() -> None:
    with pytest.raises(ValueError, match="target"):
        round_budgets(1.2, 2)
    with pytest.raises(ValueError, match="rounds"):
        round_budgets(0.5, 0)


def test_window() -> None:
    assert within(0.5, 0.5)
    assert within(0.4851, 0.5)
    assert not within(0.5001, 0.5)
    assert not within(0.48, 0.5)


@settings(max_examples=200)
@given(
    target=st.floats(0.2, 0.95),
    bias=st.floats(0.85, 1.18),
    power=st.floats(0.85, 1.2),
    seed=st.integers(0, 1000),
)
def test_converges_within_three_tries(target: float, bias: float, power: float, seed: int) -> None:
    """A device that answers bias x budget^power (bias at the target), with noise of 0.2 % and plans 0.2 %
    apart.
    """
    rng = np.random.default_rng(seed)
    tries: list[Try] = []
    while (budget := correct(tries, target)) is not None:
        assert len(tries) < 3, tries
        reached = math.floor(budget / (0.002 * target)) * 0.002 * target
        measured = bias * target * (reached / target) ** power
        tries.append(Try(budget=budget, measured=measured * float(np.exp(0.002 * np.clip(rng.normal(), -2, 2)))))
    assert within(tries[-1].measured, target)


def test_a_bracket_is_never_left() -> None:
    tries = [Try(budget=0.5, measured=0.55), Try(budget=0.44, measured=0.40)]
    for _ in range(6):
        budget = correct(tries, 0.5)
        assert budget is not None
        low = max(each.budget for each in tries if each.measured < 0.5)
        high = min(each.budget for each in tries if each.measured > 0.5)
        assert low < budget < high
        tries.append(Try(budget=budget, measured=0.40 if budget < 0.47 else 0.55))  # nothing fits in between
    assert high - low < 0.06 / 4


def test_a_step_is_bounded_and_noise_cannot_turn_it_round() -> None:
    assert correct([Try(budget=0.5, measured=2.0)], 0.5) == pytest.approx(0.5 / 1.3)
    # Noise said that a lower budget was slower: still go down.
    again = correct([Try(budget=0.5, measured=0.51), Try(budget=0.49, measured=0.52)], 0.5)
    assert again is not None
    assert again < 0.49
    with pytest.raises(ValueError, match="positive"):
        Try(budget=0.0, measured=1.0)
