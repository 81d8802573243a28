"""The lease keeper against a model of its rules, with hosts that do anything at any time."""

from __future__ import annotations

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from benchmarks.lease_world import ACTIONS, World, random_steps
from device_agent.lease import LeaseKeeper
from device_agent.lease_queue import LeaseQueue

HOSTS = 4
steps = st.tuples(st.sampled_from(ACTIONS), st.integers(0, HOSTS - 1), st.floats(0, 1))


@seed(5)
@settings(max_examples=150, deadline=None, database=None)
@given(st.lists(steps, max_size=40))
def test_whatever_hosts_do_one_has_the_device_and_the_first_is_next(taken: list[tuple[str, int, float]]) -> None:
    world = World(HOSTS)
    for step in taken:
        world.step(*step)
    world.settle()


def test_long_histories() -> None:
    world = random_steps(seed=1, steps=20_000)
    assert min(world.served) > 50  # the steps do get at leases, for everybody


def test_the_model_notices_a_keeper_that_forgets_running_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LeaseKeeper, "_free", lambda self: self._current() is None)
    with pytest.raises(AssertionError):
        random_steps(seed=1, steps=2_000)


def test_the_model_notices_a_keeper_that_serves_the_last_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LeaseQueue, "first", lambda self: self._living()[-1] if self._living() else None)
    with pytest.raises(AssertionError):
        random_steps(seed=1, steps=2_000)
