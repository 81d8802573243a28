"""What the worker does to itself before it touches a runtime: die with its parent, stay within limits, stay on its cores."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import threading
from collections.abc import Sequence
from pathlib import Path

from device_agent.contract.errors import InvalidRequest

_PR_SET_PDEATHSIG = 1
#: Above the memory limit, which the supervisor enforces on resident memory: what a runtime maps without touching it.
_HEADROOM_BYTES = 512 << 20


def die_with(parent_pid: int) -> None:
    """Ask the kernel for SIGKILL when the parent ends, and end now if it already has (Linux)."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)


def die_when_closed(fd: int) -> None:
    """End the process when the supervisor's end of the job pipe closes. A sleeping thread: it costs the timed loop nothing."""

    def wait() -> None:
        try:
            while os.read(fd, 4096):
                pass
        except OSError:
            pass
        os._exit(1)

    threading.Thread(target=wait, name="job-pipe", daemon=True).start()


def limit(memory_bytes: int | None) -> None:
    """Volunteer for the kernel's out-of-memory killer, write no core dumps, and bound private writable memory.

    RLIMIT_DATA counts private writable mappings (Linux 4.7 and newer). RLIMIT_AS would also count address space that is
    reserved and never used, of which runtimes reserve a lot.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_bytes is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = min(memory_bytes + _HEADROOM_BYTES, (1 << 63) - 1)
        if hard != resource.RLIM_INFINITY:
            wanted = min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, wanted))


def pin(cpus: Sequence[int] | None) -> None:
    """Stay on these processors. InvalidRequest if one of them does not exist or is not ours to use."""
    if cpus is None:
        return
    usable = os.sched_getaffinity(0)
    if not set(cpus) <= usable:
        raise InvalidRequest(f"cpus={tuple(cpus)}: this device lets the agent use {sorted(usable)}")
    for thread in _threads():
        os.sched_setaffinity(thread, cpus)


def pinned_cpus() -> tuple[int, ...]:
    """Return the processors that any thread of this process may run on now; a runtime may have moved its own."""
    found: set[int] = set()
    for thread in _threads():
        with contextlib.suppress(ProcessLookupError):
            found |= os.sched_getaffinity(thread)
    return tuple(sorted(found))


def _threads() -> list[int]:
    """Return the threads of this process. Affinity and niceness belong to each; those that come later inherit their parent's."""
    return [int(path.name) for path in Path("/proc/self/task").iterdir()]


def set_nice(nice: int | None) -> None:
    """Take this niceness. InvalidRequest if the agent may not give it: without privilege it can only be raised."""
    if nice is not None:
        try:
            for thread in _threads():
                os.setpriority(os.PRIO_PROCESS, thread, nice)
        except PermissionError as error:
            raise InvalidRequest(
                f"nice={nice}: this agent has niceness {os.getpriority(os.PRIO_PROCESS, 0)} and may not lower it; give a larger"
                " number, or start the agent with CAP_SYS_NICE (in its systemd unit: AmbientCapabilities=CAP_SYS_NICE)"
            ) from error
    _weigh_session()


def _weigh_session() -> None:
    """Give this session the niceness of its leader, if that is us.

    Linux's autogroups share the processors out by sessions first, and niceness counts within one only (sched(7)). A worker has a
    session of its own, so whatever niceness it has, set or inherited, would have no effect.
    """
    nice = os.getpriority(os.PRIO_PROCESS, 0)
    if nice and os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):  # no autogroups in this kernel, or not allowed
            Path("/proc/self/autogroup").write_text(f"{nice}\n")


def steal_ticks() -> int | None:
    """Return the steal time of all processors in clock ticks, from /proc/stat; None where there is none."""
    try:
        first = Path("/proc/stat").read_text().partition("\n")[0].split()
        return int(first[8])
    except (OSError, IndexError, ValueError):
        return None
