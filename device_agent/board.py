"""What the machine says of itself: device tree or DMI, processor, memory, operating system.

The files are read under a root folder, so that a recorded board can be described anywhere.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from device_agent import processors, profiles
from device_agent.contract.settings import CpuGroup

#: MIDR part numbers of Arm's own cores (implementer 0x41), as in the Linux kernel's arch/arm64/include/asm/cputype.h.
_ARM_PARTS = {
    0xD03: "Cortex-A53",
    0xD04: "Cortex-A35",
    0xD05: "Cortex-A55",
    0xD07: "Cortex-A57",
    0xD08: "Cortex-A72",
    0xD09: "Cortex-A73",
    0xD0A: "Cortex-A75",
    0xD0B: "Cortex-A76",
    0xD0C: "Neoverse-N1",
    0xD0D: "Cortex-A77",
    0xD0E: "Cortex-A76AE",
    0xD40: "Neoverse-V1",
    0xD41: "Cortex-A78",
    0xD42: "Cortex-A78AE",
    0xD49: "Neoverse-N2",
    0xD4B: "Cortex-A78C",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BoardFacts:
    """A machine's own description. `compatible` is the device tree's list, from the board to the chip; empty without one.

    `cores` counts the processors that this process may use: affinity and a cgroup's CPU quota included. `memory_bytes` is what
    the kernel has, or the cgroup's limit if that is less. `governor` is None where there is no cpufreq. `profile` is the
    recognised device profile; `default_threads` is the profile's, and never more than `cores`. `cpu_groups` are the usable
    processors of each kind, empty where all are alike.
    """

    board: str
    compatible: tuple[str, ...]
    architecture: str
    cpu: str
    cores: int
    memory_bytes: int
    operating_system: str
    kernel: str
    python: str
    governor: str | None
    profile: str | None
    default_threads: int
    throttle_temperature_c: float | None
    cpu_groups: Mapping[CpuGroup, tuple[int, ...]] = field(default_factory=dict)


def describe_board(
    root: Path = Path("/"),
    *,
    profile: str | None = None,
    usable_cpus: int | None = None,
    architecture: str | None = None,
) -> BoardFacts:
    """Return the facts of the machine whose files lie under `root`.

    `profile` names a device profile where the board is not to be recognised; InvalidRequest if there is none of this name.
    For a recorded board the caller also gives what no file says: the processors in this process's affinity and `uname -m`.
    """
    cpus = len(os.sched_getaffinity(0)) if usable_cpus is None else usable_cpus
    quota = _cpu_quota(root)
    cores = cpus if quota is None else max(1, min(cpus, math.ceil(quota)))
    total = _meminfo(root)
    limit = _memory_limit(root)
    machine = architecture or os.uname().machine
    compatible = tuple(filter(None, (_text(root / "proc/device-tree/compatible") or "").split("\0")))
    known = profiles.recognise(compatible, machine) if profile is None else profiles.get(profile)
    return BoardFacts(
        board=_board(root),
        compatible=compatible,
        architecture=machine,
        cpu=_cpu(root),
        cores=cores,
        memory_bytes=total if limit is None else min(total, limit) if total else limit,
        operating_system=_operating_system(root),
        kernel=_text(root / "proc/sys/kernel/osrelease") or os.uname().release,
        python=sys.version.split()[0],
        governor=_governor(root),
        profile=None if known is None else known.name,
        default_threads=min(cores, known.threads) if known is not None and known.threads else cores,
        throttle_temperature_c=None if known is None else known.throttle_temperature_c,
        cpu_groups=processors.groups(root, os.sched_getaffinity(0) if usable_cpus is None else None),
    )


def _text(path: Path) -> str | None:
    """Return a file's content without surrounding space and NULs; None if it is missing, unreadable or empty."""
    try:
        return path.read_bytes().decode(errors="replace").strip("\0 \t\r\n") or None
    except OSError:
        return None


def _board(root: Path) -> str:
    model = _text(root / "proc/device-tree/model")
    if model is not None:
        return model
    words = [_text(root / "sys/class/dmi/id" / name) for name in ("sys_vendor", "product_name")]
    return " ".join(word for word in words if word) or "unknown board"


def _cpu(root: Path) -> str:
    """Return `model name`, or the names of Arm's cores by part number, the big ones after the little ones."""
    text = _text(root / "proc/cpuinfo") or ""
    fields = [line.partition(":") for line in text.splitlines()]
    names = {value.strip() for key, _, value in fields if key.strip() == "model name"}
    parts = sorted({value.strip() for key, _, value in fields if key.strip() == "CPU part"})
    implementers = {value.strip() for key, _, value in fields if key.strip() == "CPU implementer"}
    if parts and implementers == {"0x41"}:
        return " + ".join(_ARM_PARTS.get(int(part, 16), f"Arm part {part}") for part in parts)
    if names:
        return " + ".join(sorted(names))
    if parts:
        return f"implementer {', '.join(sorted(implementers))} part {', '.join(parts)}"
    return "unknown processor"


def _meminfo(root: Path) -> int:
    """Return MemTotal, which /proc/meminfo gives in KiB; 0 if there is no such line."""
    found = re.search(r"^MemTotal:\s+(\d+) kB", _text(root / "proc/meminfo") or "", re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0


def _memory_limit(root: Path) -> int | None:
    """Return the cgroup's memory limit (v2, then v1), None if there is none. v1 says "none" by a number near 2^63."""
    for name in ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = _text(root / name)
        if text is not None and text.isdigit():
            return int(text) if int(text) < 1 << 60 else None
    return None


def _cpu_quota(root: Path) -> float | None:
    """Return how many processors' time the cgroup may use (v2 `quota period`, v1 in two files), None for no limit."""
    words = (_text(root / "sys/fs/cgroup/cpu.max") or "").split()
    if not words:
        folder = root / "sys/fs/cgroup/cpu"
        words = [_text(folder / "cpu.cfs_quota_us") or "", _text(folder / "cpu.cfs_period_us") or ""]
    if len(words) == 2 and words[0].isdigit() and words[1].isdigit() and int(words[1]):
        return int(words[0]) / int(words[1])
    return None


def _operating_system(root: Path) -> str:
    for line in (_text(root / "etc/os-release") or "").splitlines():
        key, _, value = line.partition("=")
        if key == "PRETTY_NAME":
            return value.strip("\"'")
    return os.uname().sysname


def _governor(root: Path) -> str | None:
    """Return the cpufreq governor; several where policies differ."""
    policies = sorted(root.glob("sys/devices/system/cpu/cpufreq/policy*/scaling_governor"))
    found = {text for path in policies if (text := _text(path)) is not None}
    return ", ".join(sorted(found)) or None
