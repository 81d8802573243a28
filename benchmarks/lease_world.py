"""Hosts in memory that ask, wait, work, renew, release and die at random at one lease keeper, beside a model of what must hold.

The model knows the rules and none of the keeper's code: one live token at most; a lease is given only when nothing runs; whoever
asked first among those who still ask gets it; whoever holds no token uses a free device only, and never before the queue.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from device_agent.contract.errors import DeviceBusy, JobAborted, LeaseLost
from device_agent.contract.lease import Lease
from device_agent.lease import LeaseKeeper, Use

TTL_S = 10.0
PLACE_S = 4.0
ACTIONS = (
    "ask",
    "ask",
    "claim",
    "acquire",
    "begin",
    "end",
    "renew",
    "release",
    "leave",
    "crash",
    "bare",
    "wait",
    "wait",
    "break",
)
#: Tokens of the past that are tried after every step.
OLD_TOKENS = 4


@dataclass(slots=True)
class _Holder:
    host: int
    token: str
    until_s: float


class World:
    """Some hosts, a keeper on a clock of its own, and what the model expects. AssertionError where they disagree."""

    def __init__(self, hosts: int) -> None:
        self.hosts = hosts
        self.now_s = 0.0
        self.given = 0
        self.served = [0] * hosts
        self._made = 0
        self._keeper = LeaseKeeper(clock=lambda: self.now_s, make_token=self._token)
        self._holder: _Holder | None = None
        self._tokens: list[str | None] = [None] * hosts
        self._uses: list[tuple[int, Use]] = []
        self._line: list[tuple[int, float]] = []  # host, until when its place is kept
        self._old: list[str] = []

    def step(self, action: str, host: int, amount: float) -> None:
        """Let a host do something; `amount` in 0..1 says how much where that makes a difference. Then look at everything."""
        getattr(self, f"_{action}")(host, amount)
        self._look()

    def settle(self) -> None:
        """Let everybody who waits have the device, one after the other; AssertionError if somebody is left out."""
        while self._line:
            self._end_uses()
            if self._holder is not None:
                self._break(self._holder.host, 0.0)  # it may have crashed, and would not give it back
            first = self._line[0][0]
            self._ask(first, 0.0)
            assert self._holder is not None
            assert self._holder.host == first
            self._look()

    def _token(self) -> str:
        self._made += 1
        return f"token {self._made}"

    def _ticket(self, host: int) -> str:
        return f"{host:016}"

    def _ask(self, host: int, amount: float) -> None:
        expected = self._expected(host)
        if self._holder is None or self._holder.host != host:
            if host in [one for one, _ in self._line]:
                self._line = [(one, self.now_s + PLACE_S if one == host else end) for one, end in self._line]
            else:
                self._line.append((host, self.now_s + PLACE_S))
                expected = self._expected(host)
        answer = self._keeper.queue(self._ticket(host), f"host {host}", "trial", TTL_S, PLACE_S)
        self._judge(host, answer if isinstance(answer, Lease) else None, expected)
        if not isinstance(answer, Lease):
            assert answer.position == [one for one, _ in self._line].index(host) + 1

    def _claim(self, host: int, amount: float) -> None:
        holds = self._holder is not None and self._holder.host == host
        if not holds and host not in [one for one, _ in self._line]:
            try:
                self._keeper.claim(self._ticket(host))
            except JobAborted:
                return
            raise AssertionError("a place that nobody has was answered for")
        expected = self._expected(host)
        answer = self._keeper.claim(self._ticket(host))
        self._judge(host, answer if isinstance(answer, Lease) else None, expected, renewed=False)

    def _acquire(self, host: int, amount: float) -> None:
        expected = self._expected(host) or (self._free() and not self._line)
        try:
            lease = self._keeper.acquire(f"host {host}", "trial", TTL_S, self._ticket(host))
        except DeviceBusy:
            assert not expected
            return
        self._judge(host, lease, expected)

    def _begin(self, host: int, amount: float) -> None:
        token, exclusive = self._tokens[host], amount < 0.7
        if token is None:
            return
        alive = self._holder is not None and self._holder.token == token
        taken = exclusive and any(use.exclusive for _, use in self._uses)
        try:
            self._uses.append((host, self._keeper.begin("work", token, "nobody", exclusive=exclusive)))
        except LeaseLost:
            assert not alive
            self._tokens[host] = None
        except DeviceBusy:
            assert alive
            assert taken
        else:
            assert alive
            assert not taken

    def _bare(self, host: int, amount: float) -> None:
        """Work without a lease."""
        lost = any(use.lost for _, use in self._uses)
        taken = any(use.exclusive for _, use in self._uses)
        fine = self._holder is None and not self._line and not lost and not taken
        try:
            self._uses.append((host, self._keeper.begin("bare work", None, f"host {host}")))
        except DeviceBusy:
            assert not fine
        else:
            assert fine

    def _end(self, host: int, amount: float) -> None:
        """Let a worker end; those whose lease is over are ended in turn, too."""
        if self._uses:
            place = min(int(amount * len(self._uses)), len(self._uses) - 1)
            self._keeper.end(self._uses.pop(place)[1])

    def _renew(self, host: int, amount: float) -> None:
        token = self._tokens[host]
        if token is None:
            return
        alive = self._holder is not None and self._holder.token == token
        try:
            self._keeper.renew(token, TTL_S)
        except LeaseLost:
            assert not alive
            self._tokens[host] = None
        else:
            assert alive
            assert self._holder is not None
            self._holder.until_s = self.now_s + TTL_S

    def _release(self, host: int, amount: float) -> None:
        token, self._tokens[host] = self._tokens[host], None
        if token is None:
            return
        alive = self._holder is not None and self._holder.token == token
        try:
            self._keeper.release(token)
        except LeaseLost:
            assert not alive
        else:
            assert alive
            self._retire()

    def _leave(self, host: int, amount: float) -> None:
        self._keeper.leave(self._ticket(host))
        self._line = [(one, end) for one, end in self._line if one != host]
        if self._holder is not None and self._holder.host == host:
            self._tokens[host] = None
            self._retire()

    def _crash(self, host: int, amount: float) -> None:
        """The host forgets all, and says nothing more: its lease and its place run out."""
        self._tokens[host] = None

    def _wait(self, host: int, amount: float) -> None:
        self.now_s += amount * 3.0

    def _break(self, host: int, amount: float) -> None:
        if amount < 0.2:
            self._keeper.end_use()
            self._retire()

    def _free(self) -> bool:
        return self._holder is None and not self._uses

    def _expected(self, host: int) -> bool:
        """Return whether the host is to get a lease with its ticket now: it has one, or it is its turn."""
        if self._holder is not None:
            return self._holder.host == host
        return self._free() and bool(self._line) and self._line[0][0] == host

    def _judge(self, host: int, lease: Lease | None, expected: bool, *, renewed: bool = True) -> None:
        assert (lease is not None) == expected, f"host {host}: got {lease}, expected one: {expected}"
        if lease is None:
            return
        self._tokens[host] = lease.token
        if self._holder is not None:
            assert self._holder.token == lease.token
            if renewed:
                self._holder.until_s = self.now_s + TTL_S
            return
        assert not self._uses, "a lease was given while something runs"
        self._holder = _Holder(host, lease.token, self.now_s + TTL_S)
        self._line = [(one, end) for one, end in self._line if one != host]
        self.given += 1
        self.served[host] += 1

    def _retire(self) -> None:
        if self._holder is not None:
            self._old = [self._holder.token, *self._old][:OLD_TOKENS]
            self._holder = None

    def _end_uses(self) -> None:
        for _, use in self._uses:
            self._keeper.end(use)
        self._uses.clear()

    def _look(self) -> None:
        self._line = [(host, end) for host, end in self._line if end > self.now_s]
        if self._holder is not None and self._holder.until_s <= self.now_s:
            self._retire()
        for token in self._old:
            assert not self._passes(token), "a token lives on after its lease"
        use = self._keeper.use()
        assert [one.holder for one in use.waiting] == [f"host {host}" for host, _ in self._line]
        assert use.holder == (None if self._holder is None else f"host {self._holder.host}")
        assert self._holder is None or self._passes(self._holder.token)
        live = None if self._holder is None else self._holder.token
        for _, one in self._uses:
            if one.token is not None and one.token != live:
                assert one.lost is not None, "work goes on although its lease is over"

    def _passes(self, token: str) -> bool:
        try:
            self._keeper.check(token)
        except LeaseLost:
            return False
        return True


def random_steps(seed: int, steps: int, hosts: int = 5) -> World:
    """Take so many seeded steps and let everybody who waits have a turn at the end. AssertionError where a rule is broken."""
    rng = random.Random(seed)
    world = World(hosts)
    for _ in range(steps):
        world.step(rng.choice(ACTIONS), rng.randrange(hosts), rng.random())
    world.settle()
    return world
