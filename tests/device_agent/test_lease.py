"""The lease keeper, on a clock of its own."""

from __future__ import annotations

import math

import pytest

from device_agent.contract.errors import DeviceBusy, InvalidRequest, LeaseLost
from device_agent.lease import LeaseKeeper


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keeper(clock: Clock) -> LeaseKeeper:
    return LeaseKeeper(clock=clock)


def test_the_second_host_is_told_who_holds_the_device_and_for_how_long(keeper: LeaseKeeper, clock: Clock) -> None:
    keeper.acquire("ann", "compress resnet20", 60)
    clock.now_s += 18
    with pytest.raises(DeviceBusy, match=r"leased to 'ann' for 'compress resnet20', 42 s remaining"):
        keeper.acquire("bob", "bench", 60)
    with pytest.raises(DeviceBusy, match="'ann'"):
        keeper.check(None)


def test_a_lease_runs_out_and_its_token_is_worth_nothing_then(keeper: LeaseKeeper, clock: Clock) -> None:
    first = keeper.acquire("ann", "compress", 60)
    clock.now_s += 60
    with pytest.raises(LeaseLost):
        keeper.check(first.token)
    second = keeper.acquire("bob", "bench", 60)
    with pytest.raises(LeaseLost, match="now leased to 'bob'"):
        keeper.renew(first.token, 60)
    keeper.check(second.token)
    assert keeper.use().holder == "bob"


def test_renewal_counts_from_now(keeper: LeaseKeeper, clock: Clock) -> None:
    lease = keeper.acquire("ann", "compress", 60)
    clock.now_s += 50
    assert keeper.renew(lease.token, 60).remaining_s == 60
    clock.now_s += 59
    keeper.check(lease.token)


def test_release_frees_the_device_once(keeper: LeaseKeeper) -> None:
    lease = keeper.acquire("ann", "compress", 60)
    keeper.release(lease.token)
    keeper.check(None)
    with pytest.raises(LeaseLost):
        keeper.release(lease.token)


def test_a_token_of_nobody_is_refused_on_a_free_device(keeper: LeaseKeeper) -> None:
    with pytest.raises(LeaseLost):
        keeper.check("0" * 32)
    with pytest.raises(LeaseLost):
        keeper.check("töken")


@pytest.mark.parametrize("ttl_s", [0.0, 0.5, 3601.0, -1.0, math.inf, math.nan])
def test_a_ttl_out_of_bounds_is_refused(keeper: LeaseKeeper, ttl_s: float) -> None:
    with pytest.raises(InvalidRequest, match=r"1\.\.3600"):
        keeper.acquire("ann", "compress", ttl_s)


@pytest.mark.parametrize("holder", ["", "  ", "a\nb", "x" * 201])
def test_a_holder_that_cannot_be_shown_is_refused(keeper: LeaseKeeper, holder: str) -> None:
    with pytest.raises(InvalidRequest, match="holder"):
        keeper.acquire(holder, "compress", 60)
