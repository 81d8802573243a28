"""What the kernel says of another process: memory and processor time. Linux; standard library only."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

#: Others that take more than this part of all processor time make a missed goal an open one.
MOST_OTHERS = 0.1


def memory_bytes(pid: int) -> dict[str, int]:
    """Return the fields of /proc/PID/smaps_rollup (Rss, Pss, Private_Dirty, ...) in bytes. OSError if the process is gone."""
    found: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, value = line.partition(":")
        found[name] = int(value.split()[0]) * 1024
    return found


def open_files(pid: int) -> int:
    """Return how many file descriptors a process holds."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def processor_ns(pid: int) -> int:
    """Return the processor time that the living threads of a process have taken, in nanoseconds.

    From schedstat where the kernel has it, else from stat in clock ticks of 10 ms.
    """
    try:
        return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    except FileNotFoundError:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def ended_children_s(pid: int) -> float:
    """Return the processor time of a process's children that have ended, and of theirs, in seconds: an agent's workers."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def pss_bytes(pid: int, *, own: str) -> int:
    """Return the proportional set size, with mapped files whose path holds `own` counted in full, in bytes.

    Pss divides every shared page by its users, so that neighbours with the same libraries make a process look smaller than it is.
    """
    total, counted = 0, "Pss"
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        fields = line.split()
        if not fields[0].endswith(":"):
            counted = "Rss" if len(fields) > 5 and own in fields[5] else "Pss"
        elif fields[0] == f"{counted}:":
            total += int(fields[1]) * 1024
    return total


class Others:
    """How busy the machine was with other work since this was made: processes that are not ours, and the hypervisor's steal time.

    Ours are this process, its children that have ended, and the living children named at the end with those of theirs that have.
    """

    def __init__(self, *own: int) -> None:
        self._start = time.monotonic()
        self._own = own
        self._busy, self._ours = _busy_s(), self._ours_s()

    def share(self) -> float:
        """Return the part of all cores' time that others took, 0 to 1."""
        elapsed = (time.monotonic() - self._start) * (os.cpu_count() or 1)
        others = (_busy_s() - self._busy) - (self._ours_s() - self._ours)
        return min(1.0, max(0.0, others / elapsed))

    def doubt(self) -> str | None:
        """Return why a missed goal proves nothing, None if the machine was quiet enough."""
        share = self.share()
        if share <= MOST_OTHERS:
            return None
        cores = os.cpu_count() or 1
        return (
            f"too noisy to tell: others took {share * cores:.1f} of {cores} cores meanwhile; run it on a quiet machine"
        )

    def _ours_s(self) -> float:
        usage = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
        own = sum(one.ru_utime + one.ru_stime for one in usage)
        return own + sum(processor_ns(pid) / 1e9 + ended_children_s(pid) for pid in self._own)


def _busy_s() -> float:
    """Return the seconds that all processors together have not been idle, steal time included (/proc/stat)."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().partition("\n")[0].split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = ticks
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
