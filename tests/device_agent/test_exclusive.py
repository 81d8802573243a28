"""Lease, queue and jobs in an event loop: what a lost lease ends, and who is woken when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from device_agent.contract.errors import AgentStopping, DeviceBusy, JobAborted, LeaseLost
from device_agent.contract.lease import Lease, Place
from device_agent.exclusive import ExclusiveUse

ANN, BOB, EVE = ("a" * 16, "b" * 16, "e" * 16)


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Worker:
    """Runs until it is cancelled, and takes `steps` turns of the loop to die."""

    def __init__(self, use: ExclusiveUse, steps: int = 20) -> None:
        self.use, self.steps = use, steps
        self.alive = False

    async def run(self, token: str | None = None, who: str = "ann", *, exclusive: bool = True) -> None:
        with self.use.job("measuring a.onnx", token, who, exclusive=exclusive):
            self.alive = True
            try:
                await asyncio.sleep(3600)
            finally:
                for _ in range(self.steps):
                    await asyncio.sleep(0)
                self.alive = False


def scenario(body: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def test() -> None:
        asyncio.run(asyncio.wait_for(body(), 60))

    test.__name__ = test.__qualname__ = body.__name__
    return test


def ask(use: ExclusiveUse, ticket: str, who: str, hold_s: float = 0.0, ttl_s: float = 60) -> Any:
    return use.queue(ticket, who, "bench", ttl_s, hold_s)


@scenario
async def test_one_job_at_a_time_and_the_second_is_told_what_runs() -> None:
    clock = Clock()
    use = ExclusiveUse(clock=clock)
    with use.job("measuring a.onnx", None, "ann"):
        clock.now_s += 7
        with pytest.raises(DeviceBusy, match=r"measuring a\.onnx for ann, since 7 s"), use.job("b", None, "bob"):
            pass
        with use.job("receiving b.onnx", None, "bob", exclusive=False):
            pass
    with use.job("measuring b.onnx", None, "bob"):
        pass


@scenario
async def test_a_job_of_an_expired_lease_is_over_before_the_next_lease_is_given() -> None:
    use = ExclusiveUse()
    lease = await use.acquire("ann", "compress", 1.0)
    worker = Worker(use)
    job = asyncio.create_task(worker.run(lease.token))
    await asyncio.sleep(0)
    place = await ask(use, BOB, "bob")
    assert (place.position, place.holder, place.reason) == (1, "ann", "compress")
    assert worker.alive
    answer = await ask(use, BOB, "bob", hold_s=10)  # nobody else looks at the clock: the lease ends by itself
    while not isinstance(answer, Lease):
        assert worker.alive
        answer = await ask(use, BOB, "bob", hold_s=10)
    assert not worker.alive
    with pytest.raises(LeaseLost, match=r"measuring a\.onnx was ended on the device: the lease of 'ann' expired"):
        await job


@scenario
async def test_a_release_ends_what_runs_and_an_upload_counts() -> None:
    use = ExclusiveUse()
    lease = await use.acquire("ann", "compress", 60)
    jobs = [Worker(use), Worker(use)]
    tasks = [asyncio.create_task(job.run(lease.token, exclusive=not place)) for place, job in enumerate(jobs)]
    await asyncio.sleep(0)
    use.release(lease.token)
    with pytest.raises(DeviceBusy, match=r"busy: measuring a\.onnx for ann"):
        use.check(None)
    again = await use.acquire("bob", "bench", 60)  # waits for those that are being ended
    assert not any(job.alive for job in jobs)
    for task in tasks:
        with pytest.raises(LeaseLost, match="was released"):
            await task
    use.check(again.token)


@scenario
async def test_a_job_without_a_lease_holds_the_device() -> None:
    use = ExclusiveUse()
    worker = Worker(use)
    job = asyncio.create_task(worker.run(None, "the caller at home"))
    await asyncio.sleep(0)
    with pytest.raises(DeviceBusy, match="the caller at home"):
        await use.acquire("bob", "bench", 60)
    place = await ask(use, BOB, "bob")
    assert (place.holder, place.reason, place.remaining_s) == ("the caller at home", "measuring a.onnx", None)
    waiting = asyncio.create_task(ask(use, BOB, "bob", hold_s=10))
    await asyncio.sleep(0)
    job.cancel()
    answer = await waiting
    assert isinstance(answer, Lease)
    assert not worker.alive


@scenario
async def test_calls_without_a_lease_do_not_overtake_the_queue() -> None:
    clock = Clock()
    use = ExclusiveUse(clock=clock)
    lease = await use.acquire("ann", "compress", 60)
    await ask(use, BOB, "bob")
    use.release(lease.token)
    with pytest.raises(DeviceBusy, match=r"kept for 'bob' \(bench\)"):
        use.check(None)
    with (
        pytest.raises(DeviceBusy, match="the queue has 1, and the next place is 2"),
        use.job("measuring a.onnx", None, "eve"),
    ):
        pass
    with pytest.raises(DeviceBusy, match="bob"):
        await use.acquire("ann", "compress", 60)
    clock.now_s += 30  # bob never came back
    use.check(None)


@scenario
async def test_whoever_waits_hears_of_it_at_once() -> None:
    use = ExclusiveUse()
    lease = await use.acquire("ann", "compress", 60)
    await ask(use, BOB, "bob")
    assert (await ask(use, EVE, "eve")).position == 2
    bob = asyncio.create_task(ask(use, BOB, "bob", hold_s=10))
    eve = asyncio.create_task(ask(use, EVE, "eve", hold_s=10))
    await asyncio.sleep(0)
    use.release(lease.token)
    got = await bob
    assert isinstance(got, Lease)
    place = await eve
    assert (place.position, place.waiting, place.holder) == (1, 1, "bob")
    assert (await ask(use, BOB, "bob")).token == got.token  # as if the answer had been lost
    use.leave(BOB)  # gives the lease up, too
    assert isinstance(await ask(use, EVE, "eve"), Lease)


@scenario
async def test_a_waiter_whose_connection_breaks_is_kept_for_a_moment_only() -> None:
    clock = Clock()
    use = ExclusiveUse(clock=clock)
    await use.acquire("ann", "compress", 60)
    await ask(use, BOB, "bob")
    await ask(use, EVE, "eve")
    for ticket, who in ((BOB, "bob"), (EVE, "eve")):
        call = asyncio.create_task(ask(use, ticket, who, hold_s=10))
        await asyncio.sleep(0)
        if who == "eve":  # she is back already, over another connection
            await ask(use, EVE, "eve", hold_s=0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    clock.now_s += 4
    assert [waiter.holder for waiter in use.use().waiting] == ["eve"]
    clock.now_s += 20
    assert use.use().waiting == ()


@scenario
async def test_a_place_that_is_given_up_is_not_taken_again_by_a_call_that_still_waits() -> None:
    use = ExclusiveUse()
    lease = await use.acquire("ann", "compress", 60)
    await ask(use, BOB, "bob")
    call = asyncio.create_task(ask(use, BOB, "bob", hold_s=10))
    await asyncio.sleep(0)
    use.leave(BOB)
    use.release(lease.token)
    with pytest.raises(JobAborted, match="given up"):
        await call
    use.check(None)


@scenario
async def test_an_operator_ends_whatever_runs() -> None:
    use = ExclusiveUse()
    worker = Worker(use)
    job = asyncio.create_task(worker.run(None, "the caller at home"))
    await asyncio.sleep(0)
    was = await use.end_use()
    assert [job.holder for job in was.jobs] == ["the caller at home"]
    assert not worker.alive
    with pytest.raises(LeaseLost, match="ended by an operator"):
        await job
    lease = await use.acquire("ann", "compress", 60)
    assert (await use.end_use()).holder == "ann"
    with pytest.raises(LeaseLost):
        use.renew(lease.token, 60)
    assert (await use.end_use()).holder is None


@scenario
async def test_a_stop_waits_for_every_job_and_tells_who_waits() -> None:
    use = ExclusiveUse()
    lease = await use.acquire("ann", "compress", 60)
    worker = Worker(use)
    job = asyncio.create_task(worker.run(lease.token))
    await asyncio.sleep(0)
    await ask(use, BOB, "bob")
    waiting = asyncio.create_task(ask(use, BOB, "bob", hold_s=10))
    await asyncio.sleep(0)
    await use.stop()
    assert not worker.alive
    with pytest.raises(asyncio.CancelledError):
        await job
    with pytest.raises(AgentStopping):
        await waiting
    with pytest.raises(AgentStopping), use.job("b", lease.token, "ann"):
        pass


@scenario
async def test_a_stop_gets_through_to_a_job_that_loses_a_cancellation() -> None:
    use = ExclusiveUse()
    lost: list[str] = []

    async def stubborn() -> None:
        with use.job("inference with a.onnx", None, "ann"):
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                lost.append("as asyncio.wait_for did before Python 3.12")
            await asyncio.sleep(3600)

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await use.stop()
    assert len(lost) == 1
    with pytest.raises(asyncio.CancelledError):
        await task


@scenario
async def test_a_full_queue_refuses() -> None:
    use = ExclusiveUse()
    await use.acquire("ann", "compress", 60)
    places = [await ask(use, f"{number:016}", "bob") for number in range(64)]
    assert isinstance(places[-1], Place)
    assert places[-1].position == 64
    with pytest.raises(DeviceBusy, match="64 wait"):
        await ask(use, EVE, "eve")
    assert isinstance(await ask(use, f"{63:016}", "bob"), Place)  # who is in stays in
