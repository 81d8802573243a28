"""Deliberate load: one process per core that does nothing but compute."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_LOOP = "import os; os.sched_setaffinity(0, {{{cpu}}}); os.write(1, b'.')\nwhile True: pass"


@contextmanager
def busy_cores() -> Iterator[int]:
    """Keep every core that we may use busy during the block, each with a loop pinned to it; yields how many.

    The loops run with the niceness of everybody else. They end with the block, however it is left.
    """
    loops: list[subprocess.Popen[bytes]] = []
    try:
        for cpu in sorted(os.sched_getaffinity(0)):
            command = [sys.executable, "-S", "-c", _LOOP.format(cpu=cpu)]
            # In sessions of their own, since Linux shares the processors out by sessions first (autogroup).
            loops.append(
                subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True)
            )
        for loop in loops:
            assert loop.stdout is not None
            if loop.stdout.read(1) != b".":
                raise OSError("a busy loop did not start")
        yield len(loops)
    finally:
        for loop in loops:
            loop.kill()
        for loop in loops:
            loop.wait()
            if loop.stdout is not None:
                loop.stdout.close()
