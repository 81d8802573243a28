"""Runs a sweep: a thread for each device at work, one that keeps claims alive, and the caller's, which hands out devices."""

from __future__ import annotations

import logging
import os
import queue as queues
import random
import secrets
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from host.fleet.devices import Device, open_device
from host.fleet.lease import default_holder
from host.sweep import events
from host.sweep.device_work import DeviceWork, end_calls
from host.sweep.job import Claim, DeviceProgress, Sweep
from host.sweep.limits import Limits
from host.sweep.measuring import KnownFiles
from host.sweep.pace import Pace
from host.sweep.queue import JobQueue
from host.sweep.surroundings import DeviceMemory, OpenDevice, StoreFailed, Timing

#: While nothing can be taken, the store is asked again no sooner and no later than this.
_SOONEST_S, _LATEST_S = 0.2, 5.0
_log = logging.getLogger(__name__)


class _Wish(Enum):
    STOP = "stop"
    ABORT = "abort"


@dataclass(frozen=True, slots=True)
class _Ended:
    """The thread of a device has nothing more to do."""

    device: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepResult:
    """What one run of a sweep came to; figures are of all its jobs, those of earlier runs and other controllers included.

    `reached` are the devices that this run could work with; `retried` and `dropped` count its retries, and results that came too
    late. `stopped`: it was asked to stop.
    """

    sweep: Sweep
    progress: tuple[DeviceProgress, ...]
    reached: frozenset[str]
    retried: int
    dropped: int
    stopped: bool

    def count(self, what: str) -> int:
        """Return the jobs that are `waiting`, `running`, `done`, `failed` or `skipped`."""
        return sum(int(getattr(each, what)) for each in self.progress)


def controller_name() -> str:
    """Return a name that no other process has."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"


class SweepRunner:
    """One controller at work on one sweep. `stop` and `abort` may be called from a signal handler; all else by `run`'s caller."""

    def __init__(
        self,
        queue: JobQueue,
        sweep: Sweep,
        limits: Limits,
        *,
        on_event: Callable[[events.SweepEvent], None] = lambda _event: None,
        open_device: OpenDevice = open_device,
        controller: str | None = None,
        timing: Timing | None = None,
        pace: Pace | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.queue = queue
        self.sweep_id = sweep.id
        self.limits = limits
        self.open_device = open_device
        self.controller = controller or controller_name()
        self.holder = default_holder()
        self.reason = f"sweep {sweep.name}"
        self.timing = timing or Timing()
        self.pace = pace or Pace()
        self.rng = rng or random.Random()
        self.files = KnownFiles()
        self.stopping = threading.Event()
        self.aborted = threading.Event()
        self._sweep = sweep
        self._on_event = on_event
        self._messages: queues.SimpleQueue[_Wish | _Ended] = queues.SimpleQueue()
        self._lock = threading.Lock()
        self._telling = threading.RLock()
        self._memories: dict[str, DeviceMemory] = {}
        self._claims: dict[int, Claim] = {}
        self._open: dict[str, Device] = {}
        self._reached: set[str] = set()
        self._retried = self._dropped = 0
        self._ask_again = 0.0
        self._error: BaseException | None = None
        self._finished = threading.Event()

    def stop(self) -> None:
        """Let running jobs end and begin no others."""
        self._messages.put(_Wish.STOP)

    def abort(self) -> None:
        """End running jobs at once; they wait again."""
        self._messages.put(_Wish.ABORT)

    def run(self) -> SweepResult:
        """Work until nothing can be done any more, or `stop`. Raises SweepBusy, and what the store raised, or `on_event`."""
        self.queue.attach(self.sweep_id, self.controller, ttl_s=self.timing.ttl_s)
        keeper = threading.Thread(target=self._keep_alive, name="sweep-keeper", daemon=True)
        keeper.start()
        workers: dict[str, threading.Thread] = {}
        asked = False
        try:
            while True:
                self._begin_devices(workers)
                idle = not workers
                if idle and (self.stopping.is_set() or self._nothing_left()):
                    break
                asked = self._wait(workers) or asked
        except BaseException:
            self._end_at_once()
            raise
        finally:
            for thread in workers.values():
                thread.join()
            self._finished.set()
            keeper.join()
            self._leave()
        if self._error is not None:
            raise self._error
        return SweepResult(
            sweep=self._sweep,
            progress=self.queue.progress(self.sweep_id),
            reached=frozenset(self._reached),
            retried=self._retried,
            dropped=self._dropped,
            stopped=asked,
        )

    # What follows is for DeviceWork, from many threads.

    def emit(self, event: events.SweepEvent) -> None:
        """Tell the listener, one event at a time; its error ends the sweep."""
        with self._telling:
            if isinstance(event, events.DeviceStarted):
                self._reached.add(event.device)
            self._retried += isinstance(event, events.JobRetried)
            self._dropped += isinstance(event, events.ClaimDropped)
            try:
                self._on_event(event)
            except Exception as error:
                self._fail(error)

    def hold_claim(self, claim: Claim) -> None:
        """Renew a claim until it is let go."""
        with self._lock:
            self._claims[claim.job.id] = claim

    def let_go(self, claim: Claim) -> None:
        """Renew it no more."""
        with self._lock:
            self._claims.pop(claim.job.id, None)

    def opened(self, name: str, device: Device | None) -> None:
        """Say which device is open now, so that an abort can close it; None: none any more."""
        with self._lock:
            if device is None:
                self._open.pop(name, None)
                return
            self._open[name] = device
        if self.aborted.is_set():
            end_calls(device)

    def move_jobs(self, device: str) -> None:
        """Move the jobs of a device to an equal one that answers, if that is wanted and there is one."""
        if not self.limits.move:
            return
        try:
            targets = self._targets(device)
            for name in targets:
                count = self.queue.move(self.sweep_id, device, name)
                if count:
                    self.emit(events.JobsMoved(device=device, to=name, count=count))
        except Exception as error:
            raise StoreFailed from error

    def _targets(self, device: str) -> list[str]:
        """Return the devices that answer, the one with the fewest waiting jobs first."""
        with self._lock:
            away = {name for name, memory in self._memories.items() if memory.away_since is not None}
        standing = [each for each in self.queue.progress(self.sweep_id) if each.device not in away | {device}]
        return [each.device for each in sorted(standing, key=lambda each: each.waiting) if each.set_aside is None]

    # And this for the thread of `run`.

    def _begin_devices(self, workers: dict[str, threading.Thread]) -> None:
        limit = self.limits.devices_at_once
        if workers and self.pace.now() < self._ask_again:
            return  # devices often end together, and the store need not be asked after each
        while len(workers) < limit and not self.stopping.is_set():
            name = self.queue.take_device(self.sweep_id, self.controller, limit=limit, ttl_s=self.timing.ttl_s)
            if name is None:
                self._ask_again = self.pace.now() + _SOONEST_S
                return
            with self._lock:
                memory = self._memories.setdefault(name, DeviceMemory())
            thread = threading.Thread(target=self._work, args=(name, memory), name=f"sweep-{name}", daemon=True)
            workers[name] = thread
            thread.start()

    def _work(self, name: str, memory: DeviceMemory) -> None:
        try:
            DeviceWork(self, name, memory).run()
        except StoreFailed as error:
            self._fail(error.__cause__ or error)
        except BaseException as error:
            self._fail(error)
        finally:
            try:
                self.queue.give_device(self.sweep_id, self.controller, name)
            except Exception as error:
                self._fail(error)
            self._messages.put(_Ended(name))

    def _wait(self, workers: dict[str, threading.Thread]) -> bool:
        """Wait for something to happen, or for something to be due; return whether the sweep was asked to stop."""
        seconds = _LATEST_S
        soon_s = self._ask_again - self.pace.now()
        if workers and soon_s > 0:
            seconds = soon_s
        elif not self.stopping.is_set() and len(workers) < self.limits.devices_at_once:
            due_s = self.queue.due_in_s(self.sweep_id)
            seconds = _LATEST_S if due_s is None else min(max(due_s, _SOONEST_S), _LATEST_S)
        message = self.pace.next_message(self._messages, seconds, idle=not workers)
        if isinstance(message, _Ended):
            workers.pop(message.device).join()
            return False
        if message is _Wish.STOP:
            self.stopping.set()
        if message is _Wish.ABORT:
            self._end_at_once()
        return message is not None

    def _nothing_left(self) -> bool:
        """Say whether no job waits, or only those of devices that have been away for too long."""
        if self.queue.due_in_s(self.sweep_id) is None:
            return True
        waiting = [each for each in self.queue.progress(self.sweep_id) if each.waiting]
        if any(each.set_aside is None for each in waiting):
            return False
        now = self.pace.now()
        for each in waiting:
            with self._lock:
                memory = self._memories.setdefault(each.device, DeviceMemory())
            memory.away_since = now if memory.away_since is None else memory.away_since
            if now - memory.away_since < self.limits.wait_s:
                return False
        return True

    def _end_at_once(self) -> None:
        self.aborted.set()
        self.stopping.set()
        with self._lock:
            devices = list(self._open.values())
        for device in devices:
            end_calls(device)

    def _fail(self, error: BaseException) -> None:
        if self._error is None:
            self._error = error
        self.stopping.set()

    def _keep_alive(self) -> None:
        while not self._finished.wait(self.timing.ttl_s / 3):
            try:
                self.queue.attach(self.sweep_id, self.controller, ttl_s=self.timing.ttl_s)
                with self._lock:
                    claims = tuple(self._claims.values())
                for lost in self.queue.renew(claims, ttl_s=self.timing.ttl_s) if claims else ():
                    self.let_go(lost)
            except Exception as error:
                self._fail(error)

    def _leave(self) -> None:
        try:
            self.queue.detach(self.sweep_id, self.controller)
        except Exception as error:
            # What it had is free when its time has run out.
            _log.warning("could not sign off from the sweep: %s", error)
