"""Sensors that ask a Raspberry Pi's firmware by its command: parsing apart from running, and every way in which it fails."""

from __future__ import annotations

from pathlib import Path

import pytest
from boards import FOLDER

from device_agent.sensors import survey
from device_agent.sensors.base import NotHere, Sensor
from device_agent.sensors.pi_throttled import PiThrottled
from device_agent.sensors.pi_throttled import parse as parse_flags
from device_agent.sensors.pmic import Pmic
from device_agent.sensors.pmic import parse as parse_rails
from device_agent.sensors.vcgencmd import VcgencmdFailed, find_vcgencmd

ADC = """
   3V7_WL_SW_A current(0)=0.07612992A
      VDD_CORE_A current(7)=1.54489000A
        LONELY_A current(8)=0.50000000A
   3V7_WL_SW_V volt(8)=3.70742100V
      VDD_CORE_V volt(15)=0.88725180V
        EXT5V_V volt(24)=5.14752000V
         BATT_V volt(25)=0.00683760V
"""


def silent(argument: str) -> str:
    raise VcgencmdFailed(f"vcgencmd {argument} did not answer within 2 s")


def test_rails_are_paired_by_name_and_halves_are_left_out() -> None:
    assert parse_rails(ADC) == {"3V7_WL_SW": 0.07612992 * 3.70742100, "VDD_CORE": 1.54489 * 0.8872518}
    assert parse_rails("") == {}
    assert parse_rails('error=1 error_msg="Command not registered"') == {}


def test_a_rail_is_silent_in_an_answer_that_lacks_it() -> None:
    answers = iter(
        [ADC, ADC, "VDD_CORE_A current(7)=0.0A\nVDD_CORE_V volt(15)=0.9V\nNEW_A current(1)=1A\nNEW_V volt(1)=1V"]
    )
    sensor = Pmic.find(lambda _: next(answers))
    assert isinstance(sensor, Pmic)
    assert len(sensor.read(1)) == 2
    assert [(one.channel, one.value) for one in sensor.read(2)] == [("pmic.VDD_CORE", 0.0)]


def test_a_firmware_that_stops_to_answer_gives_nothing() -> None:
    working = [True]
    sensor = Pmic.find(lambda argument: ADC if working[0] else silent(argument))
    assert isinstance(sensor, Pmic)
    working[0] = False
    assert sensor.read(1) == ()


def test_power_of_a_pi_5_is_labelled_a_lower_bound() -> None:
    sensor = Pmic.find(lambda _: ADC)
    assert isinstance(sensor, Pmic)
    assert all("lower bound" in (channel.note or "") for channel in sensor.channels)
    assert sensor.interval_s >= 0.1
    assert sensor.slow


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        ("throttled=0x50005", 0x50005),
        ("0x0\n", 0),
        ("50005", 0x50005),
        ("", None),
        ("VCHI initialization failed", None),
    ],
)
def test_flags_come_with_and_without_a_name(text: str, bits: int | None) -> None:
    assert parse_flags(text) == bits


def test_the_file_is_preferred_to_the_command(tmp_path: Path) -> None:
    path = tmp_path / "sys/devices/platform/soc/soc:firmware/get_throttled"
    path.parent.mkdir(parents=True)
    path.write_text("4\n")
    sensor = PiThrottled.find(tmp_path, silent)
    assert isinstance(sensor, Sensor)
    assert not sensor.slow
    assert [one.value for one in sensor.read(1)] == [4.0]
    sensor.close()


def test_the_command_takes_the_place_of_a_file_that_is_not_there(tmp_path: Path) -> None:
    sensor = PiThrottled.find(tmp_path, lambda argument: f"throttled=0x{len(argument)}")
    assert isinstance(sensor, Sensor)
    assert sensor.slow
    assert [one.value for one in sensor.read(1)] == [float(0x13)]
    assert sensor.channels[0].source == "vcgencmd get_throttled"


def test_a_command_that_fails_is_told_on_every_board(tmp_path: Path) -> None:
    told = {one.kind: one.reason for one in survey(tmp_path, vcgencmd=silent).missing}
    assert "did not answer within 2 s" in told["pmic"]
    assert "did not answer within 2 s" in told["pi-throttled"]
    assert "pmic: vcgencmd" in told["power"]


def test_a_pi_that_has_no_such_chip_is_told_only_where_it_was_expected(tmp_path: Path) -> None:
    def answer(argument: str) -> str:
        return "throttled=0x0" if argument == "get_throttled" else 'error=1 error_msg="Command not registered"'

    assert "pmic" not in {one.kind for one in survey(tmp_path, vcgencmd=answer).missing}
    told = {one.kind: one.reason for one in survey(tmp_path, vcgencmd=answer, expected=["pmic"]).missing}
    assert "Command not registered" in told["pmic"]


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    command = folder / "vcgencmd"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_the_command_on_path_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = FOLDER / "pi5/board.txt"
    install(tmp_path, monkeypatch, f'[ "$1" = pmic_read_adc ] && cat {text}')
    sensor = Pmic.find(find_vcgencmd())
    assert isinstance(sensor, Pmic)
    assert len(sensor.read(1)) == 12


def test_no_command_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_vcgencmd() is None
    found = Pmic.find(None)
    assert isinstance(found, NotHere)
    assert "PATH" in found.reason


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo VCHI initialization failed >&2; exit 255", r"exit code 255: VCHI initialization failed; .*group video"),
        ("sleep 60", "did not answer within 2 s"),
        ("exit 1", "no message"),
    ],
)
def test_a_command_that_fails_says_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    install(tmp_path, monkeypatch, f"exec {script}" if script.startswith("sleep") else script)
    run = find_vcgencmd()
    assert run is not None
    with pytest.raises(VcgencmdFailed, match=words):
        run("get_throttled")
