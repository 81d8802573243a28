"""Processors of different kinds: the big and the little ones of a board, by what the kernel says of each.

Kernel documentation: Documentation/ABI/testing/sysfs-devices-system-cpu (`cpu_capacity`, 1024 for the fastest) and
Documentation/admin-guide/pm/cpufreq.rst (`cpuinfo_max_freq`, in kHz).
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from pathlib import Path

from device_agent.contract.errors import InvalidRequest
from device_agent.contract.settings import CpuGroup

#: Processors within this share of each other are of one kind: chips are binned, and some x86 ones have favoured cores, a few
#: percent apart. The kinds of one chip differ by a sixth at least.
ALIKE = 0.1


def groups(root: Path, usable: Container[int] | None = None) -> dict[CpuGroup, tuple[int, ...]]:
    """Return the processors of the highest and of the lowest capacity, else of the highest and lowest clock; {} if all are alike.

    Of three kinds the middle one is in neither group. `usable` restricts them to the processors that this process may use.
    """
    sizes = _numbers(root, "cpu_capacity") or _numbers(root, "cpufreq/cpuinfo_max_freq")
    if not sizes:
        return {}
    highest, lowest = max(sizes.values()), min(sizes.values())
    if lowest >= highest * (1 - ALIKE):
        return {}
    big = [number for number, size in sizes.items() if size >= highest * (1 - ALIKE)]
    little = [number for number, size in sizes.items() if size <= lowest / (1 - ALIKE)]
    return {
        group: tuple(sorted(number for number in members if usable is None or number in usable))
        for group, members in ((CpuGroup.BIG, big), (CpuGroup.LITTLE, little))
    }


def of_group(known: Mapping[CpuGroup, tuple[int, ...]], wanted: CpuGroup) -> tuple[int, ...]:
    """Return the processors of a group out of those that `groups` found. InvalidRequest where there are none."""
    if not known:
        raise InvalidRequest(
            f"cpu_group={wanted.value}: the processors of this device are all alike (or the kernel tells neither cpu_capacity nor"
            " cpuinfo_max_freq); name processors with cpus instead"
        )
    if not known[wanted]:
        raise InvalidRequest(
            f"cpu_group={wanted.value}: the agent may use none of these processors; it was started on others"
        )
    return known[wanted]


def _numbers(root: Path, name: str) -> dict[int, int]:
    """Return a file's number by processor; {} unless every online processor with a folder here has one."""
    found: dict[int, int] = {}
    for folder in root.glob("sys/devices/system/cpu/cpu[0-9]*"):
        if _read(folder / "online") == "0":
            continue
        text = _read(folder / name)
        if text is None or not text.isdigit():
            return {}
        found[int(folder.name[len("cpu") :])] = int(text)
    return found


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
