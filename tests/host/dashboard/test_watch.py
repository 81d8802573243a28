"""Watching a fleet: who is asked when, and that one silent board holds up no other."""

import threading
from dataclasses import dataclass, field

from device_agent.contract.errors import DeviceUnreachable
from host.dashboard.watch import Answer, FleetWatch
from host.fleet.inventory import InventoryCorrupt, RegisteredDevice

DEVICES = tuple(RegisteredDevice(name=name, address="127.0.0.1:1") for name in ("a", "b"))
#: A bound against a hang.
LONG_S = 60.0


@dataclass
class Scripted:
    """Answers of agents; `held` ones wait until they are let go."""

    now: float = 0.0
    asked: list[str] = field(default_factory=list)
    held: dict[str, threading.Event] = field(default_factory=dict)
    done: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def ask(self, device: RegisteredDevice, before: Answer | None) -> Answer:
        self.asked.append(device.name)
        if device.name in self.held:
            assert self.held[device.name].wait(LONG_S)
        if device.name == "b":
            raise DeviceUnreachable("no agent answers. Is it on?")
        return Answer(temperature_c=40.0 + self.now)

    def settle(self, watch: FleetWatch, count: int) -> None:
        """Wait until so many devices have an answer of now."""
        for _ in range(int(LONG_S * 100)):
            if sum(each.age_s == 0 for each in watch.seen()[0]) >= count:
                return
            threading.Event().wait(0.01)
        raise AssertionError("no answer came")


def test_devices_are_asked_again_when_answers_are_old() -> None:
    agents = Scripted()
    watch = FleetWatch(lambda: DEVICES, agents.ask, interval_s=5.0, now=lambda: agents.now)
    assert watch.seen() == ((), None)
    watch.look()
    agents.settle(watch, 2)
    good, bad = (each.answer for each in watch.seen()[0])
    assert good is not None
    assert good.temperature_c == 40.0
    assert bad is not None
    assert bad.error == "no agent answers. Is it on?"
    agents.now = 4.0
    watch.look()
    assert sorted(agents.asked) == ["a", "b"]
    assert [each.age_s for each in watch.seen()[0]] == [4.0, 4.0]
    agents.now = 5.0
    watch.look()
    agents.settle(watch, 2)
    assert sorted(agents.asked) == ["a", "a", "b", "b"]


def test_a_device_that_hangs_is_asked_once_and_holds_up_no_other() -> None:
    agents = Scripted(held={"a": threading.Event()})
    watch = FleetWatch(lambda: DEVICES, agents.ask, interval_s=5.0, now=lambda: agents.now)
    for agents.now in (0.0, 10.0, 20.0):
        watch.look()
        agents.settle(watch, 1)
    assert agents.asked.count("a") == 1
    assert agents.asked.count("b") == 3
    assert watch.seen()[0][0].answer is None
    agents.held["a"].set()
    agents.settle(watch, 2)


def test_the_list_of_devices_may_change_and_may_break() -> None:
    agents = Scripted()
    known: list[tuple[RegisteredDevice, ...] | Exception] = [DEVICES]

    def devices() -> tuple[RegisteredDevice, ...]:
        if isinstance(known[0], Exception):
            raise known[0]
        return known[0]

    watch = FleetWatch(devices, agents.ask, now=lambda: agents.now)
    watch.look()
    known[0] = InventoryCorrupt("the file of devices is damaged")
    watch.look()
    seen, problem = watch.seen()
    assert (len(seen), problem) == (2, "the file of devices is damaged")
    known[0] = DEVICES[:1]
    watch.look()
    seen, problem = watch.seen()
    assert ([each.device.name for each in seen], problem) == (["a"], None)


def test_as_a_context_it_works_by_itself() -> None:
    agents = Scripted()
    with FleetWatch(lambda: DEVICES, agents.ask, now=lambda: agents.now) as watch:
        agents.settle(watch, 2)
    assert not any(each.name == "dashboard-watch" for each in threading.enumerate())
