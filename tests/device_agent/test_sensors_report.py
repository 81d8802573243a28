"""`device-agent sensors`: what it shows, and recordings that can be read back and give nothing away."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from boards import BOARDS, FOLDER, golden_of, unpacked

from device_agent import cli
from device_agent.contract.errors import InvalidRequest
from device_agent.recorded_board import golden, opened, record
from device_agent.sensors.recording import unpack

RECORDED = ["--root", str(FOLDER / "pi5")]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = cli.main(["sensors", *arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    code, out, _ = run(capsys, *arguments, "--json")
    assert code == 0
    return json.loads(out)


@pytest.mark.parametrize("board", BOARDS)
def test_a_recording_is_read_back_as_the_board_was(board: str, tmp_path: Path) -> None:
    record(unpacked(board, tmp_path / "board"), tmp_path / "recording")
    with opened(tmp_path / "recording") as root:
        again = golden(root)
    assert again == golden_of(board)
    assert json.loads((tmp_path / "recording/golden.json").read_text()) == again


def test_this_machine_can_be_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--record", str(tmp_path / "here"))
    assert code == 0
    assert str(tmp_path / "here/board.txt") in out
    here, there = document(capsys), document(capsys, "--root", str(tmp_path / "here"))
    names = [[one["name"] for sensor in each["sensors"] for one in sensor["channels"]] for each in (here, there)]
    assert names[0] == names[1] != []
    assert here["board"] == there["board"]


def test_a_recording_holds_no_serial_number_no_address_and_no_name(tmp_path: Path) -> None:
    root = unpacked("pi4", tmp_path / "board")
    secrets = {
        "proc/cpuinfo": "processor\t: 0\nCPU part\t: 0xd08\nSerial\t\t: 10000000cafe0123\n",
        "proc/device-tree/serial-number": "10000000cafe0123\0",
        "etc/os-release": 'PRETTY_NAME="Debian"\nHOSTNAME=annes-desk\n',
        "etc/hostname": "annes-desk\n",
        "proc/sys/kernel/hostname": "annes-desk\n",
        "etc/machine-id": "10000000cafe0123\n",
        "sys/class/net/eth0/address": "dc:a6:32:ca:fe:01\n",
        "sys/class/dmi/id/product_serial": "10000000cafe0123\n",
    }
    for name, text in secrets.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    text = record(root, tmp_path / "recording").read_text()
    assert "Debian" in text
    assert "0xd08" in text
    for secret in ("cafe0123", "ca:fe", "annes-desk"):
        assert secret not in text


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    code, out, err = run(capsys, *RECORDED, "--record", str(tmp_path))
    assert (code, out) == (cli.USAGE, "")
    assert "is not an empty folder" in err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    (tmp_path / "empty").mkdir()
    assert run(capsys, *RECORDED, "--record", str(tmp_path / "empty"))[0] == 0


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "sys/../../outside", "$ ../../outside", ""])
def test_a_recording_that_leads_out_of_its_folder_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="not written by us"):
        unpack(f"remarks\n=== {name}\nharm\n", tmp_path / "root")
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize(
    "content", ["", "plain\n", "=== not a mark\n=\n", "back\\slash\\0\n", "a\0b\0\n", "\n\nblank lines\n", "=\\= \\\n"]
)
def test_any_content_survives(content: str, tmp_path: Path) -> None:
    (tmp_path / "board/sys/class/thermal/thermal_zone0").mkdir(parents=True)
    path = Path("sys/class/thermal/thermal_zone0/type")
    (tmp_path / "board" / path).write_text(content)
    text = record(tmp_path / "board", tmp_path / "recording").read_text()
    unpack(text, tmp_path / "again")
    assert (tmp_path / "again" / path).read_text() == content


def test_a_file_that_fails_is_recorded_as_failing(tmp_path: Path) -> None:
    text = record(unpacked("jetson-orin-nano", tmp_path / "board"), tmp_path / "recording").read_text()
    assert "=== sys/class/thermal/thermal_zone1/temp !EISDIR\n" in text


def test_the_text_shows_values_and_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--root", str(FOLDER / "pi4"))
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines() if line}
    assert "48.686 °C" in lines["thermal.cpu-thermal"]
    assert "0x50005" in lines["pi.throttled"]
    assert "/proc/meminfo, MemAvailable" in lines["memory.available"]
    assert "missing: power" in out
    assert "INA219" in out


def test_the_text_tells_failed_from_zero(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "--root", str(FOLDER / "jetson-agx-orin"))
    lines = {line.split()[0]: line for line in out.splitlines() if line}
    assert "cannot be read" in lines["ina3221.VDD_AUX"]
    assert " 0 " in lines["jetson-gpu.load"]


def test_the_json_has_cost_value_and_unit(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, *RECORDED)
    assert (found["schema"], found["board"]["profile"], found["missing"]) == (1, "pi5", [])
    assert found["core_fraction"] > 0
    sensors = {sensor["kind"]: sensor for sensor in found["sensors"]}
    assert all(sensor["cost_us"] > 0 for sensor in sensors.values())
    rail = next(one for one in sensors["pmic"]["channels"] if one["name"] == "pmic.VDD_CORE")
    assert (rail["quantity"], rail["unit"], rail["meter"]) == ("power", "W", "pmic")
    assert rail["value"] == golden_of("pi5")["readings"]["pmic.VDD_CORE"]


def test_a_failed_channel_is_null(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "--root", str(FOLDER / "broken"))
    values = {one["name"]: one["value"] for sensor in found["sensors"] for one in sensor["channels"]}
    assert values["thermal.iwlwifi"] is None
    assert values["thermal.acpitz"] == -5.0


def test_a_profile_can_be_named(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "--root", str(FOLDER / "vm"), "--profile", "pi5")
    assert {"pmic", "pi-throttled", "rpi-volt"} <= {one["kind"] for one in found["missing"]}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--root", "/nowhere/at/all"], "is not a folder"),
        (["--profile", "pi99"], "no device profile is named 'pi99'; known: .*pi4"),
    ],
)
def test_errors_say_what_to_do(capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (cli.USAGE, "")
    assert re.search(words, err)
