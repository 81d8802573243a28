"""The sampler: threads are shared by quick sensors, and one that hangs delays neither the others nor the end of a job."""

from __future__ import annotations

import threading
import time

import pytest
from running_agent import wait_until

from device_agent.contract.device import Channel, Quantity
from device_agent.contract.measurement import Reading
from device_agent.sampler import Sampler
from device_agent.sensors import Sensor


class Probe(Sensor):
    """Counts its reads and remembers its threads; while `gate` is closed a read does not return."""

    def __init__(self, name: str, interval_s: float = 0.001, *, slow: bool = False, hangs: bool = False) -> None:
        self.interval_s = interval_s
        self.slow = slow
        self.begun = 0
        self.done = 0
        self.closed = 0
        self.threads: set[int] = set()
        self.gate = threading.Event()
        if not hangs:
            self.gate.set()
        self._name = name

    @property
    def channels(self) -> tuple[Channel, ...]:
        return (Channel(name=self._name, quantity=Quantity.COUNT, site="board", source="test"),)

    def read(self, now_ns: int) -> tuple[Reading, ...]:
        self.threads.add(threading.get_ident())
        self.begun += 1
        self.gate.wait()
        self.done += 1
        return (Reading(channel=self._name, time_ns=now_ns, value=float(self.done)),)

    def close(self) -> None:
        self.closed += 1


def test_quick_sensors_share_a_thread_and_slow_ones_have_their_own() -> None:
    quick, slow = [Probe(f"quick{n}") for n in range(5)], [Probe(f"slow{n}", slow=True) for n in range(2)]
    with Sampler([*quick, *slow], patience_s=60):
        wait_until(lambda: min(one.done for one in (*quick, *slow)) >= 5, "five reads of each")
    assert len(set().union(*(one.threads for one in quick))) == 1
    assert len(set().union(*(one.threads for one in (*quick, *slow)))) == 3
    assert [one.closed for one in (*quick, *slow)] == [1] * 7


def test_a_quick_sensor_that_hangs_delays_no_other_and_goes_on_when_it_can() -> None:
    stuck, others = Probe("stuck", hangs=True), [Probe(f"other{n}") for n in range(3)]
    with Sampler([others[0], stuck, *others[1:]]) as sampler:
        wait_until(lambda: stuck.begun == 1, "the read that hangs")
        before = [one.done for one in others]
        wait_until(lambda: all(one.done >= n + 20 for one, n in zip(others, before, strict=True)), "the others' reads")
        assert (stuck.begun, stuck.done) == (1, 0)
        stuck.gate.set()
        wait_until(lambda: stuck.done >= 5, "reads of the sensor that came back")
        before = [one.done for one in others]
        wait_until(
            lambda: all(one.done > n for one, n in zip(others, before, strict=True)), "reads of the others still"
        )
    assert {reading.channel for reading in sampler.drain()} == {"stuck", "other0", "other1", "other2"}
    assert [one.closed for one in (stuck, *others)] == [1] * 4


def test_two_sensors_that_hang() -> None:
    stuck, other = [Probe(f"stuck{n}", hangs=True) for n in range(2)], Probe("other")
    with Sampler([*stuck, other]):
        wait_until(lambda: all(one.begun for one in stuck), "both reads that hang")
        before = other.done
        wait_until(lambda: other.done >= before + 20, "reads beside two sensors that hang")
        for one in stuck:
            one.gate.set()


@pytest.mark.parametrize("slow", [False, True])
def test_a_sensor_that_hangs_does_not_hold_up_the_end(slow: bool, caplog: pytest.LogCaptureFixture) -> None:
    stuck, other = Probe("stuck", slow=slow, hangs=True), Probe("other")
    with Sampler([stuck, other]):
        wait_until(lambda: stuck.begun == 1 and other.done >= 1, "both reads")
    assert (stuck.done, stuck.closed) == (0, 0), "the block has ended while the read still hangs"

    with Sampler([stuck, other]) as following:
        before = other.done
        wait_until(lambda: other.done > before, "a read in the next job")
    assert stuck.begun == 1, "nobody else reads a sensor that a thread still has in hand"
    assert "sensor stuck still hangs from an earlier job" in caplog.text
    assert {reading.channel for reading in following.drain()} == {"other"}

    stuck.gate.set()
    wait_until(lambda: stuck.closed == 1, "the thread that gives the sensor back")
    with Sampler([stuck]):
        wait_until(lambda: stuck.done >= 2, "a read once it works again")


def test_a_sensor_can_join_after_the_only_other_one_broke() -> None:
    class Broken(Probe):
        def read(self, now_ns: int) -> tuple[Reading, ...]:
            raise RuntimeError("this sensor is broken")

    broken, late = Broken("broken"), Probe("late")
    with Sampler([broken]) as sampler:
        wait_until(lambda: broken.closed == 1, "the broken sensor's end")
        sampler.add(late)
        wait_until(lambda: late.done >= 3, "reads of a sensor that came later")


def test_samples_that_were_missed_are_not_read_in_a_burst() -> None:
    ahead_ns = [0]
    sleeper, witness = Probe("sleeper", 3600.0), Probe("witness", 3600.0)
    with Sampler([sleeper], clock=lambda: time.monotonic_ns() + ahead_ns[0]) as sampler:
        wait_until(lambda: sleeper.done == 1, "the first read")
        ahead_ns[0] = 36_000 * 10**9 + 10**9  # the board was suspended for ten hours and a bit
        sampler.add(witness)
        wait_until(lambda: witness.done == 1, "the witness, which is due after the sleeper")
        assert sleeper.done == 2


def test_readings_come_in_the_order_of_their_times() -> None:
    probes = [Probe(f"probe{n}", slow=bool(n % 2)) for n in range(4)]
    with Sampler(probes) as sampler:
        wait_until(lambda: min(one.done for one in probes) >= 10, "ten reads of each")
    times = [reading.time_ns for reading in sampler.drain()]
    assert times == sorted(times)
    assert len(times) == sum(one.done for one in probes)
    assert sampler.drain() == ()


def test_no_thread_is_left() -> None:
    def ours() -> list[str]:
        return [one.name for one in threading.enumerate() if one.name.startswith("sensor")]

    probe = Probe("probe", 3600.0)
    with Sampler([probe]):
        wait_until(lambda: probe.done == 1, "the read")
        assert sorted(ours()) == ["sensor", "sensor-watch"]
    assert ours() == []
