"""`device-agent doctor`: what the board's own files tell, read under a root folder, so that recorded boards can be examined."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from device_agent.board import BoardFacts
from device_agent.finding import Finding, fail, ok, warn
from device_agent.sensors import Sensor, Survey
from device_agent.sensors.base import read_once
from device_agent.sensors.pi_throttled import CHANNEL as PI_THROTTLED

#: What doctor reads beside the files of sensors and board detection; a recording keeps them too.
FILES = (
    "proc/swaps", "sys/fs/cgroup/cgroup.controllers", "sys/devices/system/clocksource/clocksource0/current_clocksource",
    "var/lib/nvpmodel/status",
)  # fmt: skip

_GOVERNORS = "/sys/devices/system/cpu/cpufreq/policy*/scaling_governor"
#: Clocks that are read without a system call, in some tens of nanoseconds; others take microseconds.
_QUICK_CLOCKS = frozenset({"tsc", "arch_sys_counter", "kvm-clock", "hyperv_clocksource_tsc_page", "riscv_clocksource"})
#: A worker with ONNX Runtime and a small net takes about this much.
_LEAST_FREE_BYTES = 256 * 2**20
#: More work of others than this, in processors, disturbs a measurement.
_MOST_LOAD = 0.5
_MOST_PRESSURE = 0.05
#: This close below the temperature at which the clock falls, a run of a minute gets there.
_HEADROOM_C = 10.0
_UNDER_VOLTAGE = "rpi-volt.under-voltage"
_PI_BITS = ("under-voltage", "clock capped", "throttled", "soft temperature limit")


def examine(root: Path, board: BoardFacts, found: Survey) -> Iterator[Finding]:
    """Yield what the files under `root` tell; the sensors in `found` are read once."""
    readings = {one.channel: one.value for sensor in found.sensors for one in sensor.read(0)}
    yield _profile(board)
    yield _governor(board)
    yield from _power_mode(root)
    yield from _sensors(found, readings)
    yield from _throttling(board, readings)
    yield from _load(board, readings)
    yield from _memory(root, board)
    yield from _swap(root)
    yield from _cgroups(root, board)
    yield from _clock_source(root)


def _profile(board: BoardFacts) -> Finding:
    if board.profile is not None:
        return ok("board", f"{board.board}, profile {board.profile}")
    return warn(
        "board",
        f"{board.board}: no device profile matches, so nobody knows which sensors it should have",
        "name one with --profile, or add one (docs/profiles.md)",
    )


def _governor(board: BoardFacts) -> Finding:
    if board.governor is None:
        return ok("governor", "the kernel does not steer the clock here, as in most virtual machines")
    if board.governor == "performance":
        return ok("governor", "performance")
    fixed = any(name.startswith("nvidia,") for name in board.compatible)
    more = ", or sudo jetson_clocks" if fixed else ""
    return warn(
        "governor",
        f"{board.governor}: the clock follows the load, so short runs are slower and scatter more",
        f"echo performance | sudo tee {_GOVERNORS}{more} (until the next start)",
    )


def _power_mode(root: Path) -> Iterator[Finding]:
    """A Jetson's power mode. /var/lib/nvpmodel/status holds `pmode:0000` and the like."""
    mode = re.search(r"pmode:\s*0*(\d+)", read_once(root / "var/lib/nvpmodel/status") or "")
    if mode is not None:
        yield ok(
            "power mode", f"nvpmodel {mode[1]}: figures hold for this mode only; sudo nvpmodel -q --verbose names it"
        )


def _sensors(found: Survey, readings: dict[str, float]) -> Iterator[Finding]:
    channels = [channel.name for sensor in found.sensors for channel in sensor.channels]
    silent = [name for name in channels if name not in readings and not _needs_time(found.sensors, name)]
    yield ok("sensors", f"{len(channels)} channels of {len(found.sensors)} kinds")
    if silent:
        names = ", ".join(silent[:6]) + (f" and {len(silent) - 6} more" if len(silent) > 6 else "")
        mend = "device-agent sensors shows which files these are"
        if all(name.startswith("thermal.") for name in silent):
            # The kernel refuses to read the zone of a part that is switched off, as those of a Jetson's accelerators.
            yield ok("sensors", f"silent now, as zones of what is switched off are: {names}")
        else:
            yield warn("sensors", f"cannot be read now: {names}", mend)
    for one in found.missing:
        yield warn(f"sensor {one.kind}", one.reason)


def _needs_time(sensors: tuple[Sensor, ...], channel: str) -> bool:
    """Say whether the first look at a sensor tells nothing yet."""
    return any(sensor.first_after_s > 0 for sensor in sensors for one in sensor.channels if one.name == channel)


def _throttling(board: BoardFacts, readings: dict[str, float]) -> Iterator[Finding]:
    bits = int(readings.get(PI_THROTTLED, 0))
    now = [word for place, word in enumerate(_PI_BITS) if bits >> place & 1]
    before = [word for place, word in enumerate(_PI_BITS) if bits >> (place + 16) & 1 and word not in now]
    supply = "use the board's own power supply and a short, thick cable"
    cooling = "cool the board: heat sink, fan, free air"
    mend = "; ".join(
        advice
        for advice, words in ((supply, _PI_BITS[:1]), (cooling, _PI_BITS[1:]))
        if any(word in words for word in now + before)
    )
    if now:
        yield fail("throttling", f"now: {', '.join(now)} (get_throttled 0x{bits:x})", mend)
    if before:
        yield warn("throttling", f"since the start: {', '.join(before)} (get_throttled 0x{bits:x})", mend)
    if readings.get(_UNDER_VOLTAGE) and _PI_BITS[0] not in now:
        yield fail("throttling", f"now: {_PI_BITS[0]} ({_UNDER_VOLTAGE})", supply)
    if PI_THROTTLED in readings and not bits:
        yield ok("throttling", "none since the start")
    limit_c = board.throttle_temperature_c
    hottest = max(((value, name) for name, value in readings.items() if name.startswith("thermal.")), default=None)
    if hottest is None:
        return
    words = f"{hottest[0]:.0f} °C ({hottest[1].removeprefix('thermal.')})"
    if limit_c is None:
        yield ok("temperature", words)
    elif hottest[0] < limit_c - _HEADROOM_C:
        yield ok("temperature", f"{words}; the clock falls at {limit_c:g} °C")
    else:
        yield warn("temperature", f"{words}; the clock falls at {limit_c:g} °C", cooling)


def _load(board: BoardFacts, readings: dict[str, float]) -> Iterator[Finding]:
    busy = readings.get("cpu.load")
    waiting = readings.get("cpu.pressure")
    words = [] if busy is None else [f"{busy * board.cores:.1f} of {board.cores} processors busy over the last minute"]
    words += [] if waiting is None else [f"tasks waited for one during {waiting:.0%} of the last 10 s"]
    if not words:
        return
    if (busy or 0) * board.cores > _MOST_LOAD or (waiting or 0) > _MOST_PRESSURE:
        yield warn("other work", "; ".join(words), "stop what else runs here; top shows it")
    else:
        yield ok("other work", "; ".join(words))


def _memory(root: Path, board: BoardFacts) -> Iterator[Finding]:
    free, total = _kib(root, "MemAvailable"), _kib(root, "MemTotal")
    if free is None:
        return
    words = f"{free / 2**20:.0f} of {(total or board.memory_bytes) / 2**20:.0f} MiB available"
    if free < _LEAST_FREE_BYTES:
        advice = (
            f"stop other programs, or a desktop; a model and its runtime take {_LEAST_FREE_BYTES // 2**20} MiB and more"
        )
        yield warn("memory", words, advice)
    else:
        yield ok("memory", words)


def _swap(root: Path) -> Iterator[Finding]:
    total, free = _kib(root, "SwapTotal"), _kib(root, "SwapFree")
    if total is None or free is None:
        return
    lines = (read_once(root / "proc/swaps") or "").splitlines()[1:]
    places = [line.split()[0] for line in lines if line.split()]
    slow = [place for place in places if "zram" not in place]
    where = f" on {', '.join(places)}" if places else ""
    if not total:
        yield ok("swap", "none")
        return
    words = f"{(total - free) / 2**20:.0f} of {total / 2**20:.0f} MiB used{where}"
    if total - free > total / 10 and (slow or not places):
        yield warn(
            "swap", f"{words}: what is paged out takes milliseconds to come back", "free memory, then sudo swapoff -a"
        )
    else:
        yield ok("swap", words)


def _cgroups(root: Path, board: BoardFacts) -> Iterator[Finding]:
    total = _kib(root, "MemTotal")
    if total is not None and board.memory_bytes < total:
        words = f"a cgroup allows {board.memory_bytes / 2**20:.0f} of the board's {total / 2**20:.0f} MiB"
        tight = board.memory_bytes < 2 * _LEAST_FREE_BYTES
        advice = "raise MemoryMax of the service, or the container's memory limit"
        yield warn("memory limit", words, advice) if tight else ok("memory limit", words)
    quota = re.fullmatch(r"(\d+) (\d+)", read_once(root / "sys/fs/cgroup/cpu.max") or "")
    if quota is not None:
        share = int(quota[1]) / int(quota[2])
        yield warn(
            "processor limit",
            f"a cgroup's quota allows {share:g} processors: what needs more stands still until the next period",
            "lift the quota (CPUQuota of the service, --cpus of the container) and pin to processors instead",
        )
    controllers = read_once(root / "sys/fs/cgroup/cgroup.controllers")
    if controllers is not None and "memory" not in controllers.split():
        yield warn(
            "memory cgroup",
            "the kernel was started without it, so a service's MemoryMax has no effect",
            "add cgroup_enable=memory to the end of the line in /boot/firmware/cmdline.txt, and restart the board",
        )


def _clock_source(root: Path) -> Iterator[Finding]:
    name = read_once(root / "sys/devices/system/clocksource/clocksource0/current_clocksource")
    if name is None:
        return
    if name in _QUICK_CLOCKS:
        yield ok("time source", name)
    else:
        yield warn(
            "time source",
            f"{name}: to look at it takes microseconds, which counts for small nets",
            "/sys/devices/system/clocksource/clocksource0/available_clocksource names others",
        )


def _kib(root: Path, key: str) -> int | None:
    """Return a line of /proc/meminfo in bytes, None if it is not there."""
    found = re.search(rf"^{key}:\s+(\d+) kB", read_once(root / "proc/meminfo") or "", re.MULTILINE)
    return int(found[1]) * 1024 if found else None
