"""Sensors on synthetic boards: what is there, what fails, and what is zero are three different answers."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from boards import BOARDS, golden_of, unpacked

from device_agent import profiles
from device_agent.contract.device import Channel, Quantity
from device_agent.recorded_board import golden
from device_agent.sensors import Survey, discover, survey, worker_rss
from device_agent.sensors.base import KeptFile, NotHere, Sensor
from device_agent.sensors.kinds import KINDS, POWER_KINDS
from device_agent.sensors.loadavg import count_processors
from device_agent.sensors.rapl import Rapl


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def values(sensor: Sensor) -> dict[str, float]:
    return {reading.channel: reading.value for reading in sensor.read(7)}


def channels(found: Survey) -> dict[str, Channel]:
    return {channel.name: channel for sensor in found.sensors for channel in sensor.channels}


def reasons(found: Survey) -> dict[str, str]:
    return {one.kind: one.reason for one in found.missing}


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
    return root


@pytest.mark.parametrize("board", BOARDS)
def test_a_board_is_read_as_its_golden_file_says(board: str, tmp_path: Path) -> None:
    """To write the golden files anew: python tests/fixtures/sysroots/regenerate.py, and read the difference."""
    assert golden(unpacked(board, tmp_path)) == golden_of(board)


@pytest.mark.parametrize("board", BOARDS)
def test_what_every_sensor_promises(board: str, tmp_path: Path) -> None:
    found = survey(unpacked(board, tmp_path))
    named = channels(found)
    assert len(named) == sum(len(sensor.channels) for sensor in found.sensors), "two channels of one name"
    for sensor in found.sensors:
        assert sensor.interval_s >= 0.05
        readings = sensor.read(7)
        assert all(reading.time_ns == 7 for reading in readings)
        assert {reading.channel for reading in readings} <= {channel.name for channel in sensor.channels}
        sensor.close()
    for channel in named.values():
        assert (channel.meter is not None) == (channel.quantity in (Quantity.POWER, Quantity.ENERGY))
        assert str(tmp_path) not in channel.source
        if channel.part_of is not None:
            total = named[channel.part_of]
            assert (total.meter, total.quantity) == (channel.meter, channel.quantity)


def test_an_empty_root_has_no_sensors_and_says_what_every_machine_may_have(tmp_path: Path) -> None:
    assert discover(tmp_path) == ()
    found = survey(tmp_path)
    assert set(reasons(found)) == {kind.name for kind in KINDS if kind.everywhere} | {"power"}


def test_profiles_may_expect_every_kind_and_no_other() -> None:
    assert {kind.name for kind in KINDS} == profiles.SENSOR_KINDS
    assert POWER_KINDS < profiles.SENSOR_KINDS


def test_what_is_missing_is_judged_by_what_the_profile_expects(tmp_path: Path) -> None:
    vm = unpacked("vm", tmp_path)
    assert "pi-throttled" not in reasons(survey(vm, expected=profiles.get("x86").sensors))
    assert (
        "rapl: no /sys/class/powercap/intel-rapl:*; a virtual machine has none"
        in (reasons(survey(vm, expected=profiles.get("x86").sensors))["power"])
    )
    as_pi5 = reasons(survey(vm, expected=profiles.get("pi5").sensors))
    assert {"pi-throttled", "rpi-volt", "pmic"} <= set(as_pi5)
    assert "no vcgencmd on PATH" in as_pi5["pmic"]
    assert "no vcgencmd on PATH" in as_pi5["pi-throttled"]


@pytest.mark.parametrize(
    ("board", "total", "parts"),
    [
        ("jetson-nano", "ina3221.POM_5V_IN", {"ina3221.POM_5V_GPU", "ina3221.POM_5V_CPU"}),
        ("jetson-orin-nano", "ina3221.VDD_IN", {"ina3221.VDD_CPU_GPU_CV", "ina3221.VDD_SOC"}),
        ("x86-rapl", "rapl.psys", {"rapl.package-0", "rapl.package-0.dram"}),
        ("x86-rapl", "rapl.package-0", {"rapl.package-0.core", "rapl.package-0.uncore"}),
    ],
)
def test_parts_name_the_total_that_includes_them(board: str, total: str, parts: set[str], tmp_path: Path) -> None:
    named = channels(survey(unpacked(board, tmp_path)))
    assert {channel.name for channel in named.values() if channel.part_of == total} == parts


@pytest.mark.parametrize("board", ["jetson-agx-orin", "pi5"])
def test_a_board_without_a_total_has_rails_that_add_up(board: str, tmp_path: Path) -> None:
    power = [one for one in channels(survey(unpacked(board, tmp_path))).values() if one.quantity is Quantity.POWER]
    assert len(power) >= 5
    assert {one.part_of for one in power} == {None}
    assert len({one.meter for one in power}) == 1


def test_two_hats_are_two_meters(tmp_path: Path) -> None:
    named = channels(survey(unpacked("pi4-ina219", tmp_path)))
    power = [one for one in named.values() if one.quantity is Quantity.POWER]
    assert len({one.meter for one in power}) == 2
    assert [one.resolution for one in power] == [pytest.approx(0.002), pytest.approx(0.00625)]


def test_without_a_package_its_parts_belong_to_nothing(tmp_path: Path) -> None:
    zone = "sys/class/powercap/intel-rapl:0:0/"
    root = write(tmp_path, {f"{zone}name": "core", f"{zone}energy_uj": "5", f"{zone}max_energy_range_uj": "100"})
    found = Rapl.find(root)
    assert isinstance(found, Rapl)
    assert [channel.part_of for channel in found.channels] == [None]


def test_a_counter_that_wraps_goes_on(tmp_path: Path) -> None:
    zone = tmp_path / "sys/class/powercap/intel-rapl:0"
    write(zone, {"name": "package-0", "energy_uj": "900000", "max_energy_range_uj": "1000000"})
    sensor = Rapl.find(tmp_path)
    assert isinstance(sensor, Rapl)
    seen = []
    for raw in ("900000", "999999", "100000", "100000", "50000"):
        write(zone, {"energy_uj": raw})
        seen.append(values(sensor)["rapl.package-0"])
    assert seen == pytest.approx([0.9, 0.999999, 1.1, 1.1, 2.05], rel=1e-12)
    sensor.close()
    assert values(sensor) == {"rapl.package-0": 0.05}, "after a close nobody counted the turns"
    sensor.close()


@contextmanager
def as_nobody() -> Iterator[None]:
    """Give up root's right to read everything for the time of a block."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_counter_for_root_only_says_so() -> None:
    # pytest's own folders may be entered by nobody else.
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        zone = root / "sys/class/powercap/intel-rapl:0"
        write(zone, {"name": "package-0", "energy_uj": "1", "max_energy_range_uj": "1000000"})
        (zone / "energy_uj").chmod(0)
        with as_nobody():
            found = Rapl.find(root)
            told = reasons(survey(root))
    assert isinstance(found, NotHere)
    assert found.broken
    assert "intel-rapl:0/energy_uj may be read by root only" in found.reason
    assert found.reason in told["rapl"], "told on every board, expected or not"
    assert found.reason in told["power"]


def test_a_folder_that_may_not_be_entered_is_told_and_hides_nothing_else() -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        write(
            root, {"sys/class/thermal/thermal_zone0/temp": "41000", "proc/pressure/cpu": "", "proc/loadavg": "0.1 0 0"}
        )
        (root / "proc/pressure").chmod(0)
        with as_nobody():
            found = survey(root)
        (root / "proc/pressure").chmod(0o755)
    assert "Permission denied" in reasons(found)["pressure"]
    assert set(channels(found)) == {"thermal.thermal_zone0", "cpu.load"}


def test_the_name_of_a_monitor_counts_and_not_its_number(tmp_path: Path) -> None:
    root = unpacked("pi4", tmp_path)
    before = {name: one.quantity for name, one in channels(survey(root)).items()}
    folder = root / "sys/class/hwmon"
    (folder / "hwmon1").rename(folder / "hwmon12")
    assert {name: one.quantity for name, one in channels(survey(root)).items()} == before


def test_the_documented_example_is_a_sensor(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs/adding-a-sensor.md").read_text()
    names: dict[str, Any] = {}
    exec(text.partition("```python\n")[2].partition("```")[0], names)
    assert isinstance(names["Fan"].find(tmp_path), NotHere)
    write(tmp_path, {"sys/class/hwmon/hwmon3/name": "pwmfan", "sys/class/hwmon/hwmon3/fan1_input": "3054"})
    sensor = names["Fan"].find(tmp_path)
    assert values(sensor) == {"fan.speed": 50.9}
    read = {path for pattern in names["FILES"] for path in tmp_path.glob(pattern)}
    assert read == {path for path in tmp_path.rglob("*") if path.is_file()}
    sensor.close()


def test_a_slow_chip_is_not_asked_more_often_than_it_converts(tmp_path: Path) -> None:
    intervals = {sensor.kind: sensor.interval_s for sensor in discover(unpacked("xavier-nx", tmp_path))}
    assert intervals["ina3221"] == 0.28


def test_links_are_followed_as_the_kernel_has_them(tmp_path: Path) -> None:
    write(tmp_path, {"sys/devices/virtual/thermal/thermal_zone0/type": "cpu-thermal"})
    write(tmp_path, {"sys/devices/virtual/thermal/thermal_zone0/temp": "41000"})
    folder = tmp_path / "sys/class/thermal"
    folder.mkdir(parents=True)
    (folder / "thermal_zone0").symlink_to("../../devices/virtual/thermal/thermal_zone0")
    (sensor,) = discover(tmp_path)
    assert values(sensor) == {"thermal.cpu-thermal": 41.0}
    sensor.close()


@pytest.mark.parametrize(
    ("text", "count"), [("0-3", 4), ("0", 1), ("0-1,4-5", 4), ("", 0), ("all of them", 0), ("0-", 1), ("0-x", 0)]
)
def test_processors_are_counted(text: str, count: int) -> None:
    assert count_processors(text) == count


def test_files_of_the_kernel_are_read_as_they_are_now() -> None:
    file = KeptFile(Path("/proc/uptime"))
    before, after = file.read(), file.read()
    assert before is not None
    assert after is not None
    assert float(after.split()[0]) >= float(before.split()[0]) > 0
    file.close()
    assert KeptFile(Path("/proc/sys/kernel/no-such-file")).read() is None


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


@pytest.mark.parametrize("board", BOARDS)
def test_descriptors_are_kept_between_reads_and_given_back(board: str, tmp_path: Path) -> None:
    before = open_descriptors()
    sensors = discover(unpacked(board, tmp_path))
    assert open_descriptors() == before, "looking for sensors leaves nothing open"
    for sensor in sensors:
        sensor.read(1)
    held = open_descriptors()
    for sensor in sensors:
        sensor.read(2)
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
