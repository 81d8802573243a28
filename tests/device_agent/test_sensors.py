"""Sensors on synthetic boards: what is there, what fails, and what is zero are three different answers."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from device_agent.contract.device import Quantity
from device_agent.sensors import discover, worker_rss
from device_agent.sensors.base import KeptFile, Sensor

ROOTS = Path(__file__).parents[1] / "fixtures" / "sysroots"
BOARDS = ["pi4", "pi5", "jetson-orin-nano", "vm", "broken"]


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def read_all(sensors: tuple[Sensor, ...], now_ns: int = 7) -> dict[str, float]:
    readings = [reading for sensor in sensors for reading in sensor.read(now_ns)]
    assert all(reading.time_ns == now_ns for reading in readings)
    assert len({reading.channel for reading in readings}) == len(readings)
    return {reading.channel: reading.value for reading in readings}


@pytest.mark.parametrize("board", BOARDS)
def test_readings_and_channels_are_the_golden_ones(board: str) -> None:
    golden = json.loads((ROOTS / board / "golden.json").read_text())
    sensors = discover(ROOTS / board)
    assert read_all(sensors) == pytest.approx(golden["readings"], rel=1e-12)
    names = [channel.name for sensor in sensors for channel in sensor.channels]
    assert sorted(names) == sorted([*golden["readings"], *golden["silent"]])
    for sensor in sensors:
        assert sensor.interval_s > 0
        sensor.close()


def test_an_empty_root_has_no_sensors(tmp_path: Path) -> None:
    assert discover(tmp_path) == ()


def test_sites_and_quantities_follow_the_kind_of_channel() -> None:
    channels = {c.name: c for sensor in discover(ROOTS / "jetson-orin-nano") for c in sensor.channels}
    assert channels["thermal.cpu-thermal"].site == "cpu"
    assert channels["thermal.gpu-thermal"].site == "gpu"
    assert channels["thermal.tj-thermal"].site == "soc"
    assert channels["thermal.cv0-thermal"].site == "board"
    assert channels["cpufreq.policy4"].quantity is Quantity.FREQUENCY
    assert channels["cpufreq.policy4"].source == "/sys/devices/system/cpu/cpufreq/policy4/scaling_cur_freq"


def test_a_replaced_file_is_read_anew_and_a_vanished_one_gives_nothing(tmp_path: Path) -> None:
    path = tmp_path / "temp"
    path.write_text("1000\n")
    kept = KeptFile(path)
    assert kept.number() == 1000
    path.write_text("2000\n")
    assert kept.number() == 2000, "the kernel rewrites in place"
    other = tmp_path / "other"
    other.write_text("3000\n")
    other.replace(path)
    assert kept.number() == 3000
    path.unlink()
    assert kept.number() is None
    path.write_text("4000\n")
    assert kept.number() == 4000, "a channel that failed may work later"
    kept.close()


def test_descriptors_are_kept_between_reads_and_given_back() -> None:
    before = open_descriptors()
    sensors = discover(ROOTS / "pi4")
    read_all(sensors)
    held = open_descriptors()
    read_all(sensors)
    assert open_descriptors() == held > before
    for sensor in sensors:
        sensor.close()
    assert open_descriptors() == before


def test_worker_rss_of_this_process_grows_with_what_it_holds() -> None:
    sensor = worker_rss(os.getpid())
    (channel,) = sensor.channels
    assert (channel.name, channel.site) == ("worker.rss", "worker")
    (before,) = sensor.read(1)
    block = bytearray(b"x") * (64 << 20)
    (after,) = sensor.read(2)
    assert after.value - before.value > 60 << 20
    del block
    sensor.close()


def test_worker_rss_of_a_process_that_is_gone_is_silent() -> None:
    child = subprocess.Popen(["sleep", "60"])
    sensor = worker_rss(child.pid)
    assert len(sensor.read(1)) == 1
    child.kill()
    child.wait()
    assert sensor.read(2) == ()
    assert worker_rss(child.pid).read(3) == ()
    sensor.close()
