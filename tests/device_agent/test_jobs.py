"""The sampler beside a job, and the default limits."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from running_agent import wait_until

from device_agent.contract.device import Channel, Quantity
from device_agent.contract.measurement import Reading
from device_agent.contract.settings import MeasureRequest, Stopping
from device_agent.jobs import default_memory_limit, measure_limits
from device_agent.sampler import Sampler
from device_agent.sensors import Sensor


class Counter(Sensor):
    """Counts its reads; blocks in one of them if asked to, fails if asked to."""

    def __init__(self, name: str, interval_s: float, *, blocks: bool = False, fails: bool = False) -> None:
        self.interval_s = interval_s
        self.reads = 0
        self.closed = False
        self.release = threading.Event()
        self._name = name
        self._blocks = blocks
        self._fails = fails

    @property
    def channels(self) -> tuple[Channel, ...]:
        return (Channel(name=self._name, quantity=Quantity.COUNT, site="board", source="test"),)

    def read(self, now_ns: int) -> tuple[Reading, ...]:
        self.reads += 1
        if self._blocks:
            self.release.wait()
        if self._fails:
            raise RuntimeError("this sensor is broken")
        return (Reading(channel=self._name, time_ns=now_ns, value=float(self.reads)),)

    def close(self) -> None:
        self.closed = True


def test_each_sensor_has_its_own_rate() -> None:
    fast, slow = Counter("fast", 0.001), Counter("slow", 3600.0)
    with Sampler([fast, slow]) as sampler:
        wait_until(lambda: fast.reads >= 20, "twenty reads of the fast sensor")
    readings = sampler.drain()
    assert [reading.value for reading in readings if reading.channel == "slow"] == [1.0]
    assert len([reading for reading in readings if reading.channel == "fast"]) == fast.reads
    assert [reading.time_ns for reading in readings] == sorted(reading.time_ns for reading in readings)
    assert fast.closed
    assert slow.closed


def test_a_reading_is_handed_over_once() -> None:
    sensor = Counter("one", 3600.0)
    with Sampler() as sampler:
        sampler.add(sensor)
        wait_until(lambda: sensor.reads == 1, "the read")
    assert len(sampler.drain()) == 1
    assert sampler.drain() == ()


def test_a_sensor_that_hangs_delays_no_other() -> None:
    stuck, quick = Counter("stuck", 0.001, blocks=True), Counter("quick", 0.001)
    with Sampler([stuck, quick]) as sampler:
        wait_until(lambda: quick.reads >= 5, "five reads beside a sensor that hangs")
        assert stuck.reads == 1
        stuck.release.set()
    assert {reading.channel for reading in sampler.drain()} >= {"quick"}


def test_a_sensor_that_breaks_is_logged_and_left_out(caplog: pytest.LogCaptureFixture) -> None:
    broken, whole = Counter("broken", 0.001, fails=True), Counter("whole", 0.001)
    with Sampler([broken, whole]) as sampler:
        wait_until(lambda: whole.reads >= 5, "five reads beside a broken sensor")
    assert broken.reads == 1
    assert "sensor broken failed" in caplog.text
    assert {reading.channel for reading in sampler.drain()} == {"whole"}


def board(root: Path, **files: str) -> Path:
    paths = {
        "available": "proc/meminfo",
        "limit": "sys/fs/cgroup/memory.max",
        "used": "sys/fs/cgroup/memory.current",
        "stat": "sys/fs/cgroup/memory.stat",
        "limit1": "sys/fs/cgroup/memory/memory.limit_in_bytes",
        "used1": "sys/fs/cgroup/memory/memory.usage_in_bytes",
        "stat1": "sys/fs/cgroup/memory/memory.stat",
    }
    for name, text in files.items():
        path = root / paths[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MEMINFO = "MemTotal:  4000 kB\nMemAvailable:  1000 kB\n"


@pytest.mark.parametrize(
    ("files", "limit_bytes"),
    [
        ({}, 819_200),
        ({"limit": "max\n", "used": "5\n"}, 819_200),
        ({"limit": "600000\n", "used": "100000\n"}, 400_000),
        ({"limit": "100\n", "used": "200\n"}, 0),
        ({"limit": "9000000\n", "used": "0\n"}, 819_200),
        # The page cache, full after large uploads, is given up when memory is asked for.
        (
            {"limit": "600000\n", "used": "590000\n", "stat": "anon 1\ninactive_file 400000\nactive_file 90000\n"},
            400_000,
        ),
        ({"limit1": "600000\n", "used1": "500000\n", "stat1": "cache 1\ntotal_inactive_file 400000\n"}, 400_000),
        ({"limit1": "9223372036854771712\n", "used1": "500000\n"}, 819_200),
    ],
)
def test_a_worker_may_take_most_of_what_is_available(tmp_path: Path, files: dict[str, str], limit_bytes: int) -> None:
    assert default_memory_limit(board(tmp_path, available=MEMINFO, **files)) == limit_bytes


def test_a_board_without_the_figure_says_so(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="MemAvailable"):
        default_memory_limit(board(tmp_path, available="MemTotal: 4000 kB\n"))


def test_the_default_deadline_is_longer_than_all_that_is_asked_for() -> None:
    stopping = Stopping(warmup_time_s=7.0, min_time_s=100.0, max_time_s=100.0)
    one = MeasureRequest(artifacts=("0" * 64,), stopping=stopping)
    two = MeasureRequest(artifacts=("0" * 64, "1" * 64), stopping=stopping, profile_nodes=True)
    assert (measure_limits(one).deadline_s or 0) > 107
    assert (measure_limits(two).deadline_s or 0) > 2 * 207
    own = MeasureRequest(artifacts=("0" * 64,), deadline_s=3.0, memory_limit_bytes=5)
    assert measure_limits(own).deadline_s == 3.0
    assert measure_limits(own).memory_bytes == 5
