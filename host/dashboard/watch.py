"""The state of all registered devices, asked in the background: page views never reach a board."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from device_agent.contract.device import DeviceInfo, Quantity
from device_agent.contract.errors import BoardfitError
from device_agent.contract.lease import DeviceUse
from host.fleet.inventory import RegisteredDevice

INTERVAL_S = 5.0
#: Long enough for a board on a slow link.
TIMEOUT_S = 3.0
_THREADS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an agent said: `error` instead of all else where it said nothing. Temperatures are not read while a job runs."""

    info: DeviceInfo | None = None
    use: DeviceUse | None = None
    temperature_c: float | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A registered device with the newest answer, None before the first, and its age."""

    device: RegisteredDevice
    answer: Answer | None = None
    age_s: float | None = None


class FleetWatch:
    """Asks every device anew when its last answer is `interval_s` old; one that doesn't answer holds up no other.

    `devices` lists what is registered, and is read every round: a device that was added appears by itself. `ask` may take its
    time; it raises nothing but BoardfitError. Use it as a context.
    """

    def __init__(
        self,
        devices: Callable[[], Sequence[RegisteredDevice]],
        ask: Callable[[RegisteredDevice, Answer | None], Answer],
        *,
        interval_s: float = INTERVAL_S,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._devices, self._ask, self._interval_s, self._now = devices, ask, interval_s, now
        self._lock = threading.Lock()
        self._answers: dict[RegisteredDevice, tuple[float, Answer]] = {}
        self._asked: set[RegisteredDevice] = set()
        self._known: tuple[RegisteredDevice, ...] = ()
        self._problem: str | None = None
        self._done = threading.Event()
        self._pool = ThreadPoolExecutor(max_workers=_THREADS, thread_name_prefix="dashboard-ask")
        self._thread = threading.Thread(target=self._work, name="dashboard-watch", daemon=True)

    def __enter__(self) -> FleetWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def look(self) -> None:
        """Read the list of devices and ask those whose answers are old; answers come in by themselves."""
        try:
            known, problem = tuple(self._devices()), None
        except BoardfitError as error:
            known, problem = self._known, str(error)
        now = self._now()
        with self._lock:
            self._known, self._problem = known, problem
            self._answers = {device: found for device, found in self._answers.items() if device in known}
            due = [
                device
                for device in known
                if device not in self._asked
                and (device not in self._answers or now - self._answers[device][0] >= self._interval_s)
            ]
            self._asked.update(due)
        for device in due:
            self._pool.submit(self._take, device)

    def seen(self) -> tuple[tuple[Seen, ...], str | None]:
        """Return all devices by name, and what is wrong with the list of devices, None if nothing is."""
        now = self._now()
        with self._lock:
            found = [
                Seen(device=device, answer=self._answers[device][1], age_s=now - self._answers[device][0])
                if device in self._answers
                else Seen(device=device)
                for device in self._known
            ]
            return tuple(found), self._problem

    def _take(self, device: RegisteredDevice) -> None:
        with self._lock:
            before = self._answers[device][1] if device in self._answers else None
        try:
            answer = self._ask(device, before)
        except BoardfitError as error:
            answer = Answer(error=str(error))
        except BaseException:
            with self._lock:
                self._asked.discard(device)
            raise
        with self._lock:
            self._answers[device] = (self._now(), answer)
            self._asked.discard(device)

    def _work(self) -> None:
        while not self._done.is_set():
            self.look()
            self._done.wait(min(1.0, self._interval_s))


def ask_agent(device: RegisteredDevice, before: Answer | None) -> Answer:
    """Ask an agent for its use, and unless it works what it is and how warm: a board that is measured is left alone.

    Raises what AgentClient does.
    """
    from host.fleet.devices import connect

    with connect(device, timeout_s=TIMEOUT_S) as client:
        use = client.use()
        if use.jobs and before is not None and before.info is not None:
            return replace(before, use=use, temperature_c=None, error=None)
        info = client.describe()
        if use.jobs:
            return Answer(info=info, use=use)
        try:
            readings = client.read_sensors()
        except BoardfitError:  # a job began meanwhile, or the agent is older than this question
            return Answer(info=info, use=use)
    warm = {each.name for each in info.channels if each.quantity is Quantity.TEMPERATURE}
    near = {each.name for each in info.channels if each.name in warm and each.site in ("cpu", "soc")} or warm
    return Answer(
        info=info, use=use, temperature_c=max((each.value for each in readings if each.channel in near), default=None)
    )
