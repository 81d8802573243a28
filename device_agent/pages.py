"""Lets go of code that is not run in between: that of start-up, and that of a TLS handshake.

gRPC's library is 14 MB, and reading one page of it brings fifteen neighbours (fault-around), so a start maps megabytes of
code that is not run again. Pages that are mapped look used to the kernel, which then takes others first when memory is
short. What is let go here stays in the page cache while there is room, and comes back page by page as it is run.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# <sys/mman.h>
_MADV_DONTNEED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mapping:
    start: int
    size: int
    code: bool
    path: str
    resident: int
    changed: int


#: Where gRPC's library lies, as a part of its path.
GRPC = "/grpc/_cython/"


def release_code(library: str) -> int:
    """Unmap the pages of code of the loaded libraries whose path contains `library`; return their size in bytes as it was.

    Only mappings of files that nothing was written to: a page that was changed would be lost. 0 where the kernel does not tell.
    """
    advise = getattr(ctypes.CDLL(None, use_errno=True), "madvise", None)
    if advise is None:
        return 0
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    released = 0
    try:
        lines = Path("/proc/self/smaps").read_text().splitlines()
    except OSError:
        return 0
    for mapping in _mappings(lines):
        wanted = library in mapping.path and mapping.code and not mapping.changed
        if wanted and advise(mapping.start, mapping.size, _MADV_DONTNEED) == 0:
            released += mapping.resident
    return released


def _mappings(lines: list[str]) -> Iterator[_Mapping]:
    """Read the mappings of files in /proc/PID/smaps."""
    head: list[str] = []
    sizes: dict[str, int] = {}
    for line in [*lines, "end"]:
        fields = line.split(maxsplit=5)
        if fields[0].endswith(":"):
            if fields[-1] == "kB":
                sizes[fields[0]] = int(fields[1]) * 1024
            continue
        if len(head) == 6:
            start, end = (int(part, 16) for part in head[0].split("-"))
            changed = sizes.get("Anonymous:", 1) + sizes.get("Private_Dirty:", 1) + sizes.get("Shared_Dirty:", 1)
            yield _Mapping(
                start=start,
                size=end - start,
                code=head[1] == "r-xp",
                path=head[5],
                resident=sizes.get("Rss:", 0),
                changed=changed,
            )
        head, sizes = fields, {}
