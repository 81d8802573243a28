"""Waiting for a device: the queue as hosts see it, over a link that breaks, and leases that come and go."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from running_agent import wait_until

from benchmarks.fake_agents import FakeAgents
from device_agent.contract.errors import DeviceBusy, DeviceUnreachable, LeaseLost
from device_agent.contract.lease import Lease, Place
from host.fleet.client import AgentClient
from host.fleet.lease import SILENT_S, default_holder, place_text, wait_for_lease
from host.fleet.tenancy import REPEATS, Tenancy

LEASE = Lease(token="t", holder="ann", reason="bench", remaining_s=30.0)
SECOND = Place(position=2, waiting=2, holder="bob", reason="compress", remaining_s=42.4)


@pytest.fixture(scope="module")
def agents() -> Iterator[FakeAgents]:
    with FakeAgents(1) as made:
        yield made


@pytest.fixture
def client(agents: FakeAgents) -> Iterator[AgentClient]:
    with AgentClient(agents.addresses[0]) as made:
        yield made


class Waiter:
    """A host that waits for the device, in a thread with a client of its own."""

    def __init__(self, address: str, name: str, served: list[str]) -> None:
        self.places: list[Place] = []
        self.error: BaseException | None = None
        self._address, self._name, self._served = address, name, served
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()
        wait_until(lambda: bool(self.places) or self.error is not None, f"{name} has a place")

    def _work(self) -> None:
        try:
            with (
                AgentClient(self._address) as client,
                client.lease(self._name, "bench", wait_s=60, on_wait=self.places.append),
            ):
                self._served.append(self._name)
        except BaseException as error:
            self.error = error

    def done(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()
        assert self.error is None


def test_hosts_are_served_in_the_order_in_which_they_came(agents: FakeAgents, client: AgentClient) -> None:
    served: list[str] = []
    with client.lease("ann", "compress"):
        waiters = [Waiter(agents.addresses[0], name, served) for name in ("bob", "eve", "joe")]
        assert [waiter.places[0].position for waiter in waiters] == [1, 2, 3]
        assert waiters[0].places[0].holder == "ann"
        assert waiters[0].places[0].reason == "compress"
        use = client.use()
        assert (use.holder, use.reason) == ("ann", "compress")
        assert [waiter.holder for waiter in use.waiting] == ["bob", "eve", "joe"]
    for waiter in waiters:
        waiter.done()
    assert served == ["bob", "eve", "joe"]


def test_whoever_does_not_wait_hears_of_the_queue(agents: FakeAgents, client: AgentClient) -> None:
    served: list[str] = []
    with client.lease("ann", "compress"):
        waiter = Waiter(agents.addresses[0], "bob", served)
        with (
            AgentClient(agents.addresses[0]) as other,
            pytest.raises(
                DeviceBusy, match=r"leased to 'ann' for 'compress'.*the queue has 1, and the next place is 2"
            ),
            other.lease(None, "bench"),
        ):
            pass
    waiter.done()


def test_the_time_to_wait_is_kept_and_the_place_given_up(agents: FakeAgents, client: AgentClient) -> None:
    with client.lease("ann", "compress"), AgentClient(agents.addresses[0]) as other:
        with (
            pytest.raises(DeviceBusy, match=r"within 0 s: place 1 of 1 in the queue; the device is ann's for compress"),
            other.lease("bob", "bench", wait_s=0.2),
        ):
            pass
        assert client.use().waiting == ()


def test_an_interrupt_gives_the_place_up(agents: FakeAgents, client: AgentClient) -> None:
    def interrupt(_place: Place) -> None:
        raise KeyboardInterrupt

    with client.lease("ann", "compress"), AgentClient(agents.addresses[0]) as other:
        with pytest.raises(KeyboardInterrupt), other.lease("bob", "bench", wait_s=math.inf, on_wait=interrupt):
            pass
        assert client.use().waiting == ()


def test_waiting_outlives_a_restart_of_the_agent(agents: FakeAgents, client: AgentClient) -> None:
    served: list[str] = []
    with client.lease("ann", "compress"):
        waiter = Waiter(agents.addresses[0], "bob", served)
        agents.kill(0)
        agents.restart(0)
        waiter.done()
    assert served == ["bob"]


def test_an_operator_takes_the_device_back(agents: FakeAgents, client: AgentClient) -> None:
    with client.lease("ann", "compress"), AgentClient(agents.addresses[0]) as operator:
        ended = operator.end_use()
        assert (ended.holder, ended.reason) == ("ann", "compress")
        with pytest.raises(LeaseLost):
            client.delete_artifact("0" * 64)
        with operator.lease("bob", "bench"):
            pass


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def pause(self, seconds: float) -> None:
        self.now_s += seconds


def waited(answers: list[Any], wait_s: float = 600.0) -> tuple[Any, list[str]]:
    """Return what came of the answers, one of a kind after the other and the last for ever, and what else was called."""
    clock, calls = Clock(), []

    def ask(hold_s: float) -> Lease | Place:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        clock.now_s += hold_s
        if isinstance(answer, BaseException):
            raise answer
        assert isinstance(answer, Lease | Place)
        return answer

    try:
        got: Any = wait_for_lease(
            ask,
            lambda: calls.append("leave"),
            wait_s=wait_s,
            on_wait=lambda place: calls.append(f"place {place.position}"),
            clock=clock,
            pause=clock.pause,
        )
    except BaseException as error:
        got = error
    return got, calls


CUT = DeviceUnreachable("the cable is out")


def test_a_cut_link_is_waited_out_once_the_agent_has_answered() -> None:
    assert waited([SECOND, CUT, CUT, SECOND, LEASE]) == (LEASE, ["place 2", "place 2"])
    assert waited([CUT]) == (CUT, ["leave"])
    got, calls = waited([SECOND, CUT], wait_s=10 * SILENT_S)
    assert got is CUT
    assert calls == ["place 2", "leave"]


def test_a_full_queue_and_lost_patience_are_told_at_once() -> None:
    full = DeviceBusy("64 wait")
    assert waited([full]) == (full, ["leave"])
    got, calls = waited([SECOND], wait_s=7.0)
    assert isinstance(got, DeviceBusy)
    assert "did not become free within 7 s: place 2 of 2 in the queue" in str(got)
    assert calls[-1] == "leave"


def test_a_place_in_words() -> None:
    assert place_text(SECOND) == (
        "place 2 of 2 in the queue; the device is bob's for compress, 42 s remaining unless renewed"
    )
    assert place_text(Place(position=1, waiting=1)) == "place 1 of 1 in the queue"
    assert "@" in default_holder()


class Board:
    """A client whose leases are counted; what it is asked under a lease may be lost."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.held = False
        self.lose = 0

    @contextmanager
    def lease(
        self,
        holder: str | None,
        reason: str,
        *,
        wait_s: float | None = None,
        on_wait: Callable[[Place], None] | None = None,
    ) -> Iterator[Lease]:
        self.log.append(f"take, wait {wait_s}")
        self.held = True
        try:
            yield LEASE
        finally:
            self.held = False
            self.log.append("give up")

    def work(self) -> int:
        assert self.held
        self.log.append("work")
        if self.lose:
            self.lose -= 1
            raise LeaseLost("expired")
        return 7


def test_a_tenancy_keeps_its_lease_from_call_to_call_and_frees_the_device_in_a_pause() -> None:
    board = Board()
    with Tenancy(board, "compress", pause_s=0.02) as tenancy:
        wait_until(lambda: not board.held, "the device is free in a pause")
        assert tenancy.run(board.work) == 7
        wait_until(lambda: not board.held, "the device is free in a pause")
    assert board.log == ["take, wait None", "give up", "take, wait inf", "work", "give up"]
    board = Board()
    with Tenancy(board, "compress", wait_s=5.0, pause_s=3600) as tenancy:
        assert [tenancy.run(board.work) for _ in range(3)] == [7, 7, 7]
    assert board.log == ["take, wait 5.0", "work", "work", "work", "give up"]


def test_a_call_whose_lease_was_lost_is_repeated_under_a_new_one() -> None:
    board = Board()
    lost: list[str] = []
    with Tenancy(board, "compress", pause_s=3600, on_lost=lost.append) as tenancy:
        board.lose = 2
        assert tenancy.run(board.work) == 7
        assert lost == ["expired", "expired"]
        board.lose = REPEATS + 1
        with pytest.raises(LeaseLost):
            tenancy.run(board.work)
    assert not board.held
