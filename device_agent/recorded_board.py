"""Boards as recordings: writing one of the board we are on, opening one, and all that must be read from it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from device_agent import __version__, doctor_board, profiles
from device_agent.board import BoardFacts, describe_board
from device_agent.contract.device import Channel
from device_agent.contract.errors import InvalidRequest
from device_agent.sensors import survey
from device_agent.sensors.kinds import KINDS
from device_agent.sensors.recording import FILE_NAME, pack, recorded_output, recorded_vcgencmd, unpack, unpack_file
from device_agent.sensors.vcgencmd import VcgencmdFailed, find_vcgencmd

GOLDEN = "golden.json"
LIVE = Path("/")
#: What describe_board reads, so that a recorded board is recognised. No serial number, no address, no name of the host.
BOARD_FILES = (
    "proc/device-tree/model", "proc/device-tree/compatible", "sys/class/dmi/id/sys_vendor", "sys/class/dmi/id/product_name",
    "proc/cpuinfo", "proc/meminfo", "proc/sys/kernel/osrelease", "etc/os-release",
    "sys/devices/system/cpu/cpu[0-9]*/cpu_capacity", "sys/devices/system/cpu/cpu[0-9]*/cpufreq/cpuinfo_max_freq",
    "sys/devices/system/cpu/cpufreq/policy*/scaling_governor",
    "sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes", "sys/fs/cgroup/cpu.max",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "sys/fs/cgroup/cpu/cpu.cfs_period_us",
)  # fmt: skip


@contextmanager
def opened(folder: Path) -> Iterator[Path]:
    """Yield the root of a board: of a recording unpacked for the time of the block, or the folder itself. InvalidRequest."""
    if not folder.is_dir():
        raise InvalidRequest(f"{folder} is not a folder; give a recording, or a folder with proc and sys in it")
    if not (folder / FILE_NAME).exists():
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="boardfit-root-") as name:
        unpack_file(folder, Path(name))
        yield Path(name)


def describe(root: Path, profile: str | None = None) -> BoardFacts:
    """Describe a board; what no file says comes from the recording where there is one. InvalidRequest for an unknown profile."""
    cpus = recorded_output(root, "nproc")
    return describe_board(
        root,
        profile=profile,
        usable_cpus=int(cpus) if cpus is not None and cpus.isdigit() else None,
        architecture=recorded_output(root, "uname -m"),
    )


def expected_kinds(board: BoardFacts) -> tuple[str, ...] | None:
    """Return the kinds of sensors that the board's profile expects, None without a profile."""
    return None if board.profile is None else profiles.get(board.profile).sensors


def golden(root: Path) -> dict[str, Any]:
    """Return all that a recorded board must be read as: facts, channels, readings, the silent channels, what is missing."""
    board = describe(root)
    found = survey(root, expected=expected_kinds(board))
    readings = {one.channel: one.value for sensor in found.sensors for one in sensor.read(0)}
    names = [channel.name for sensor in found.sensors for channel in sensor.channels]
    for sensor in found.sensors:
        sensor.close()
    return {
        "usable_cpus": int(recorded_output(root, "nproc") or board.cores),
        "board": facts_of(board),
        "readings": readings,
        "silent": [name for name in names if name not in readings],
        "sensors": [
            {
                "kind": sensor.kind,
                "interval_s": sensor.interval_s,
                "channels": [channel_of(one) for one in sensor.channels],
            }
            for sensor in found.sensors
        ],
        "missing": [asdict(one) for one in found.missing],
    }


def golden_text(document: dict[str, Any]) -> str:
    """Return a golden document as JSON with one channel a line, so that a change can be seen."""
    top = []
    for key, value in document.items():
        if isinstance(value, list) and value:
            inner = ",\n  ".join(_sensor_text(one) if key == "sensors" else _compact(one) for one in value)
            top.append(f'"{key}": [\n  {inner}\n ]')
        elif isinstance(value, dict) and value:
            inner = ",\n  ".join(f"{json.dumps(name)}: {_compact(one)}" for name, one in value.items())
            top.append(f'"{key}": {{\n  {inner}\n }}')
        else:
            top.append(f'"{key}": {_compact(value)}')
    return "{\n " + ",\n ".join(top) + "\n}\n"


def record(root: Path, folder: Path) -> Path:
    """Write a recording of the board to a new or empty folder: board.txt, and golden.json as it must be read back.

    InvalidRequest if there is something in the folder, OSError by the disk. Returns the text's path.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidRequest(
            f"{folder} is not an empty folder; give one that is new or empty, so that nothing is overwritten"
        )
    folder.mkdir(parents=True, exist_ok=True)
    patterns = {pattern for kind in KINDS for pattern in kind.files} | {*BOARD_FILES, *doctor_board.FILES}
    remarks = (
        f"Recorded by device-agent {__version__} for Boardfit's tests. Look through it before you send it: it should hold no\n"
        "serial number, no address, and no name of the host or of a person."
    )
    text = pack(root, patterns, _outputs(root), remarks=remarks)
    with tempfile.TemporaryDirectory(prefix="boardfit-root-") as name:
        unpack(text, Path(name))
        expected = golden_text(golden(Path(name)))
    (folder / FILE_NAME).write_text(text, encoding="utf-8")
    (folder / GOLDEN).write_text(expected, encoding="utf-8")
    return folder / FILE_NAME


def facts_of(board: BoardFacts) -> dict[str, Any]:
    """Return the board's facts for JSON, apart from this process's own Python."""
    facts = asdict(board)
    del facts["python"]
    groups = {group.value: list(cpus) for group, cpus in board.cpu_groups.items()}
    return {**facts, "compatible": list(board.compatible), "cpu_groups": groups}


def channel_of(channel: Channel) -> dict[str, Any]:
    """Return a channel for JSON."""
    return {**asdict(channel), "quantity": channel.quantity.value}


def _outputs(root: Path) -> dict[str, str]:
    """Return what the recorded commands print; one that fails is left out."""
    cpus = recorded_output(root, "nproc") or str(len(os.sched_getaffinity(0)))
    outputs = {"uname -m": describe(root).architecture, "nproc": cpus}
    vcgencmd = find_vcgencmd() if root == LIVE else recorded_vcgencmd(root)
    if vcgencmd is None:
        return outputs
    for argument in {argument for kind in KINDS for argument in kind.commands}:
        try:
            outputs[f"vcgencmd {argument}"] = vcgencmd(argument)
        except VcgencmdFailed:
            continue
    return outputs


def _sensor_text(sensor: dict[str, Any]) -> str:
    inner = ",\n    ".join(_compact(one) for one in sensor["channels"])
    head = f'{{"kind": {_compact(sensor["kind"])}, "interval_s": {_compact(sensor["interval_s"])}'
    return f'{head}, "channels": [\n    {inner}\n  ]}}'


def _compact(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
