"""`device-agent doctor`: recorded boards, made-up systems, and this machine."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest
from boards import BOARDS, FOLDER, unpacked

from device_agent import doctor_system as system
from device_agent.cli import main
from device_agent.contract.artifact import ArtifactFormat
from device_agent.contract.device import RuntimeInfo
from device_agent.contract.joining import Revocations, SignedRevocations
from device_agent.credentials import FILE_NAME, Credentials, save
from device_agent.doctor import examine_files, lines_of, worst
from device_agent.finding import Finding, Outcome
from device_agent.wheels import Platform, extras_for, why_no_wheel


@pytest.mark.parametrize("board", BOARDS)
def test_a_recorded_board(board: str, tmp_path: Path) -> None:
    """To write the files anew: python tests/fixtures/sysroots/regenerate.py, and read the difference."""
    lines = lines_of(examine_files(unpacked(board, tmp_path)), 100)
    assert lines == (FOLDER / board / "doctor.txt").read_text(encoding="utf-8").splitlines()


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_board_under_strain(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/meminfo": "MemTotal: 1000000 kB\nMemAvailable: 90000 kB\nSwapTotal: 100000 kB\nSwapFree: 20000 kB\n",
            "proc/swaps": "Filename Type Size Used Priority\n/var/swap file 100000 80000 -2\n",
            "sys/fs/cgroup/memory.max": "268435456\n",
            "proc/device-tree/compatible": "raspberrypi,4-model-b\0brcm,bcm2711\0",
            "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
            "sys/class/thermal/thermal_zone0/temp": "78500\n",
        },
    )
    found = {one.check: one for one in examine_files(root) if one.outcome is not Outcome.OK}
    assert "88 of 977 MiB" in found["memory"].words
    assert "78 of 98 MiB used on /var/swap" in found["swap"].words
    assert "256 of the board's 977 MiB" in found["memory limit"].words
    assert "78 °C (cpu-thermal); the clock falls at 80" in found["temperature"].words
    assert all(found[check].mend for check in ("memory", "swap", "memory limit", "temperature"))


PI_OS_12 = Platform(python=(3, 11), machine="aarch64", glibc=36, kernel_machine="aarch64")


def on(**facts: object) -> Platform:
    given = {"python": (3, 11), "machine": "aarch64", "glibc": 36, "kernel_machine": "aarch64"}
    return Platform(**{**given, **facts})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("board", "extras"),
    [
        (PI_OS_12, ("onnxruntime", "litert")),
        (on(python=(3, 10), glibc=35), ("onnxruntime", "litert")),  # JetPack 6
        (on(python=(3, 13), glibc=41), ("onnxruntime", "litert")),  # Pi OS 13
        (on(python=(3, 10), glibc=31), ("onnxruntime", "litert")),  # JetPack 5 with a newer Python
        (on(machine="armv7l"), ("tflite-runtime",)),
        (on(machine="armv7l", python=(3, 13), glibc=41), ()),
        (on(machine="armv6l"), ()),
        (on(glibc=None), ()),
        (on(glibc=24), ()),
        (on(python=(3, 15)), ()),
    ],
)
def test_extras_of_a_board(board: Platform, extras: tuple[str, ...]) -> None:
    assert extras_for(board) == extras
    if not extras:
        assert all(why_no_wheel(name, board) for name in ("onnxruntime", "litert", "tflite-runtime"))


def runtime(name: str, unavailable: str | None = None) -> RuntimeInfo:
    version = None if unavailable else "1.2.3"
    return RuntimeInfo(
        name=name, version=version, formats=(ArtifactFormat.ONNX,), providers=(), unavailable=unavailable
    )


def of(findings: Iterable[Finding], check: str) -> Finding:
    (found,) = [one for one in findings if one.check == check]
    return found


def test_no_runtime_fails_with_the_command_that_mends_it() -> None:
    none = [runtime(name, "cannot be imported") for name in ("litert", "somebody-elses")]
    found = of(system.runtime_findings(PI_OS_12, none[:1]), "runtimes")
    assert found.outcome is Outcome.FAIL
    assert found.mend is not None
    assert found.mend.endswith("-m pip install 'onnxruntime>=1.17' 'ai-edge-litert>=1.2'")
    narrow = of(system.runtime_findings(on(machine="armv7l", python=(3, 13)), []), "runtimes")
    assert narrow.outcome is Outcome.FAIL
    assert "tflite-runtime: no wheel for Python 3.13, only for 3.10 to 3.11" in narrow.words
    assert narrow.mend is not None
    assert "64-bit" in narrow.mend
    assert "does not work: cannot be imported" in of(system.runtime_findings(PI_OS_12, none[1:]), "runtime").words


def test_one_runtime_is_enough() -> None:
    findings = list(system.runtime_findings(PI_OS_12, [runtime("onnxruntime")]))
    assert worst(findings) is Outcome.OK
    assert "could be added: litert" in of(findings, "runtimes").words


def test_a_32_bit_python_on_a_64_bit_kernel() -> None:
    findings = list(system.python_findings(on(machine="armv7l")))
    assert of(findings, "python").outcome is Outcome.WARN
    assert "the kernel is aarch64" in of(findings, "python").words
    assert of(findings, "numpy").outcome is Outcome.OK  # it is installed here


@pytest.mark.parametrize(
    ("now_s", "synchronised", "outcome"),
    [
        (0.0, True, Outcome.FAIL),
        (1_700_000_000.0, None, Outcome.FAIL),  # 2023
        (1_800_000_000.0, False, Outcome.WARN),
        (1_800_000_000.0, None, Outcome.OK),
        (1_800_000_000.0, True, Outcome.OK),
    ],
)
def test_the_clock(now_s: float, synchronised: bool | None, outcome: Outcome) -> None:
    assert system.clock_finding(now_s, synchronised).outcome is outcome


@pytest.mark.parametrize(
    ("left_s", "outcome", "said"),
    [
        (90 * 86_400, Outcome.OK, "joined as pi4-3, the certificate is good until 2027-"),
        (86_400, Outcome.WARN, "good until"),
        (-1, Outcome.FAIL, "ended on"),
    ],
)
def test_the_certificate(tmp_path: Path, left_s: float, outcome: Outcome, said: str) -> None:
    now_s = 1_798_000_000.0
    assert system.credentials_finding(tmp_path, now_s).outcome is Outcome.OK
    list_ = SignedRevocations(document=Revocations(number=0, names=frozenset()).to_document(), signature=b"s")
    credentials = Credentials(
        name="n",
        known_as="pi4-3",
        key_pem="k",
        certificate_pem="c",
        authority_pem="a",
        expires_s=now_s + left_s,
        revocations=list_,
    )
    save(tmp_path / FILE_NAME, credentials)
    found = system.credentials_finding(tmp_path, now_s)
    assert (found.outcome, said in found.words) == (outcome, True)
    (tmp_path / FILE_NAME).chmod(0o644)
    assert system.credentials_finding(tmp_path, now_s).outcome is Outcome.FAIL


def test_the_disk(tmp_path: Path) -> None:
    root = write(
        tmp_path / "root", {"proc/mounts": f"/dev/sda1 / ext4 rw 0 0\n/dev/mmcblk0p2 {tmp_path} ext4 rw 0 0\n"}
    )
    findings = list(system.disk_findings(tmp_path / "not" / "yet", root=root))
    assert "on the SD card or eMMC /dev/mmcblk0p2" in of(findings, "disk").words
    assert "until 4 KiB are on the disk" in of(findings, "disk speed").words
    assert sorted(path.name for path in tmp_path.iterdir()) == ["root"], "the trial's file is gone"


def test_a_read_only_disk_fails() -> None:
    (found,) = system.disk_findings(Path("/proc/sys/store"))
    assert found.outcome is Outcome.FAIL
    assert "no model can be stored" in found.words
    assert found.mend is not None


def test_ports(tmp_path: Path) -> None:
    head = "  sl  local_address rem_address   st tx_queue\n"
    root = write(
        tmp_path, {"proc/net/tcp": f"{head}   0: 0100007F:C383 00000000:0000 0A 0:0\n   1: 0:C384 0:0 01 0:0\n"}
    )
    taken, free = system.port_finding(50051, root), system.port_finding(50052, root)
    assert taken is not None
    assert free is not None
    assert "50051 is taken" in taken.words
    assert free.words == "50052 is free"
    assert system.port_finding(50051, tmp_path / "nothing") is None


def test_pinning_that_is_forbidden() -> None:
    def refuse(pid: int, cpus: set[int]) -> None:
        raise PermissionError(1, "Operation not permitted")

    assert system.pinning_finding().outcome is Outcome.OK
    assert system.pinning_finding(refuse).outcome is Outcome.WARN


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--root", str(FOLDER / "vm"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["outcome"] == "warn"
    assert main(["doctor", "--root", str(FOLDER / "pi4")]) == 1
    assert "fail  throttling" in capsys.readouterr().out
    code = main(["doctor", "--store", str(tmp_path / "store"), "--json"])
    document = json.loads(capsys.readouterr().out)
    assert code == (1 if document["outcome"] == "fail" else 0)
    checks = {one["check"] for one in document["findings"]}
    assert {"python", "clock", "disk", "disk speed", "pinning", "memory", "governor", "board"} <= checks
    assert not list(tmp_path.iterdir()), "doctor leaves nothing behind"
