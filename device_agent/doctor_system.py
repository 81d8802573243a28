"""`device-agent doctor`: what this Python, this user and this disk tell; nothing of it is in a recorded board."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

from device_agent.contract.device import RuntimeInfo
from device_agent.finding import Finding, fail, ok, warn
from device_agent.sensors.base import read_once
from device_agent.wheels import FROM_DISTRIBUTION, PACKAGES, Platform, extras_for, why_no_wheel

#: No clock that is right shows an earlier year: this was written in it.
WRITTEN_IN = 2026
#: State of the kernel's clock, adjtimex(2): not synchronised.
_TIME_ERROR = 5
_LEAST_DISK_BYTES = 200 * 2**20
_LITTLE_DISK_BYTES = 2**30
_SLOW_FSYNC_S = 0.1
_FSYNCS = 5
_SOON_S = 14 * 86_400.0
_LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp


def python_findings(here: Platform) -> Iterator[Finding]:
    """Yield what there is to say of this Python."""
    narrow = here.machine != here.kernel_machine
    if narrow:
        yield warn(
            "python",
            f"{here}, although the kernel is {here.kernel_machine}: a 32-bit system, for which few wheels exist",
            "install the 64-bit system of this board, for all runtimes",
        )
    else:
        yield ok("python", str(here))
    if here.is_32_bit_arm:
        for module, package in FROM_DISTRIBUTION.items():
            try:
                yield ok(module, version(module))
            except PackageNotFoundError:
                yield fail(
                    module, f"not installed, and there is no wheel for {here.machine}", f"sudo apt install {package}"
                )


def runtime_findings(here: Platform, runtimes: Sequence[RuntimeInfo] | None) -> Iterator[Finding]:
    """Yield which runtimes work, are broken, or could be added. `runtimes` is what a probe found, None without one."""
    found = [one for one in runtimes or () if one.unavailable is None]
    for one in found:
        yield ok(
            "runtime", f"{one.name} {one.version}, for {' and '.join(f'.{each.value}' for each in one.formats)} files"
        )
    for one in runtimes or ():
        package = PACKAGES.get(one.name)
        if one.unavailable is not None and (package is None or _is_installed(package)):
            mend = None if package is None else f"{sys.executable} -m pip install --force-reinstall '{package}'"
            yield warn("runtime", f"{one.name} is installed and does not work: {one.unavailable}", mend)
    absent = [name for name in PACKAGES if name not in {one.name for one in found}]
    no_wheel = {name: why_no_wheel(name, here) for name in absent}
    more = [name for name in extras_for(here) if name in absent]
    packages = " ".join(f"'{PACKAGES[name]}'" for name in more)
    mend = f"{sys.executable} -m pip install {packages}" if more else None
    reasons = "; ".join(f"{name}: {why}" for name, why in no_wheel.items() if why is not None)
    if not found:
        words = "none works, so nothing can be measured" if runtimes is not None else "not looked for"
        # For want of a wheel there is another way to mend it than an installation.
        system = None if more else "use a 64-bit system with glibc 2.28 and Python 3.10 to 3.13"
        make = fail if runtimes is not None else warn
        yield make("runtimes", f"{words}{f' ({reasons})' if reasons else ''}", mend or system)
    elif more:
        yield ok("runtimes", f"could be added: {', '.join(more)}, with {mend}")


def _is_installed(package: str) -> bool:
    try:
        version(package.partition(">=")[0])
    except PackageNotFoundError:
        return False
    return True


def clock_finding(now_s: float, synchronised: bool | None) -> Finding:
    """Return what there is to say of the wall clock; `synchronised` is the kernel's word, None where it gives none."""
    moment = datetime.fromtimestamp(now_s, timezone.utc)
    words = f"{moment:%Y-%m-%d %H:%M} UTC"
    if moment.year < WRITTEN_IN:
        return fail(
            "clock",
            f"{words} is in the past: no certificate is valid then, and results get wrong dates",
            "sudo timedatectl set-ntp true, or without a network: sudo date -s '2027-01-31 12:00'",
        )
    if synchronised is False:
        return warn(
            "clock", f"{words}, not synchronised", "sudo timedatectl set-ntp true, and see timedatectl timesync-status"
        )
    return ok("clock", words if synchronised is None else f"{words}, synchronised")


def kernel_clock_is_synchronised() -> bool | None:
    """Ask adjtimex(2), as timedatectl does; None where it cannot be asked."""
    try:
        # struct timex has 208 bytes on 64-bit Linux and fewer on 32-bit; `modes` 0, its first field, only reads.
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(512))
    except (AttributeError, OSError):
        return None
    return None if state < 0 else state != _TIME_ERROR


def credentials_finding(store: Path, now_s: float) -> Finding:
    """Say whether this board has joined a host, and for how long its certificate is good."""
    from device_agent.credentials import FILE_NAME, CredentialsUnusable, load

    join = "host enroll on the host, then here: device-agent join HOST CODE"
    try:
        found = load(store / FILE_NAME)
    except CredentialsUnusable as error:
        return fail("certificate", str(error), join)
    if found is None:
        return ok("certificate", "none: this board has not joined a host, so its agent can listen on loopback only")
    until = f"{datetime.fromtimestamp(found.expires_s, timezone.utc):%Y-%m-%d}"
    words = f"joined as {found.known_as}, the certificate is good until {until}"
    left_s = found.expires_s - now_s
    if left_s <= 0:
        return fail("certificate", f"joined as {found.known_as}, but the certificate ended on {until}", join)
    if left_s < _SOON_S:
        return warn("certificate", words, "hosts renew it whenever they use the device: host devices list --check")
    return ok("certificate", words)


def disk_findings(store: Path, *, root: Path = Path("/")) -> Iterator[Finding]:
    """Yield room, place and speed of the disk below the store. A file of a few KiB is written five times and removed."""
    folder = next(path for path in (store, *store.absolute().parents) if path.exists())
    mount = _mount_of(folder, root)
    where = "" if mount is None else f" on {mount}"
    if not os.access(folder, os.W_OK):
        read_only = bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
        words = f"{folder}{where} is {'read-only' if read_only else f'not writable by user {os.getuid()}'}"
        mend = (
            "sudo mount -o remount,rw, or another place with --store"
            if read_only
            else f"sudo chown {os.getuid()} {folder}"
        )
        yield fail("disk", f"{words}, so no model can be stored", mend)
        return
    free = shutil.disk_usage(folder).free
    words = f"{free / 2**20:.0f} MiB free in {folder}{where}"
    mend = "remove what is not needed, or choose another place with --store"
    if free < _LEAST_DISK_BYTES:
        yield fail("disk", words, mend)
    elif free < _LITTLE_DISK_BYTES:
        yield warn("disk", words, mend)
    else:
        yield ok("disk", words)
    took_s = _fsync_s(folder)
    words = f"{took_s * 1000:.1f} ms until 4 KiB are on the disk"
    if took_s > _SLOW_FSYNC_S:
        yield warn("disk speed", words, "a worn or slow SD card delays every upload; use another card or a disk")
    else:
        yield ok("disk speed", words)


def _fsync_s(folder: Path) -> float:
    path = folder / f".doctor-{os.getpid()}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        times = []
        for _ in range(_FSYNCS):
            start = time.perf_counter()
            os.write(descriptor, os.urandom(4096))
            os.fsync(descriptor)
            times.append(time.perf_counter() - start)
    finally:
        os.close(descriptor)
        path.unlink()
    return median(times)


def _mount_of(folder: Path, root: Path) -> str | None:
    """Return the device that a folder lies on, as /proc/mounts names it."""
    mounts = [line.split() for line in (_long_text(root / "proc/mounts") or "").splitlines()]
    over = [row for row in mounts if len(row) > 2 and folder.is_relative_to(row[1].replace("\\040", " "))]
    last = max(over, key=lambda row: len(row[1]), default=None)
    if last is None:
        return None
    return f"the SD card or eMMC {last[0]}" if last[0].startswith("/dev/mmcblk") else f"{last[0]} ({last[2]})"


def port_finding(port: int, root: Path = Path("/")) -> Finding | None:
    """Say whether somebody listens on a TCP port, by /proc/net/tcp and tcp6; None where those do not tell."""
    texts = [_long_text(root / "proc/net" / name) for name in ("tcp", "tcp6")]
    if texts[0] is None:
        return None
    rows = [line.split() for text in texts if text is not None for line in text.splitlines()[1:]]
    taken = any(len(row) > 3 and row[3] == _LISTEN and int(row[1].rpartition(":")[2], 16) == port for row in rows)
    if taken:
        return ok("port", f"{port} is taken, by a running agent most likely; a second one needs another --listen")
    return ok("port", f"{port} is free")


def pinning_finding(set_affinity: Callable[[int, set[int]], None] = os.sched_setaffinity) -> Finding:
    """Say whether threads can be bound to processors, by binding this one to all that it may use."""
    usable = os.sched_getaffinity(0)
    try:
        set_affinity(0, usable)
    except OSError as error:
        return warn(
            "pinning",
            f"threads cannot be bound to processors ({error.strerror}), so they wander between them",
            "allow sched_setaffinity in the container's or the service's filter of system calls",
        )
    return ok("pinning", f"possible, to {len(usable)} processor{'s' if len(usable) > 1 else ''}")


def _long_text(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None


def boot_findings(root: Path) -> Iterator[Finding]:
    """Yield whether the system remembers the time while it is off."""
    if read_once(root / "sys/class/rtc/rtc0/name") is None and (root / "proc/device-tree/model").exists():
        yield ok("hardware clock", "none, so after a start without a network the time is that of the last shutdown")
