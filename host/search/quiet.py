"""Keeping a library's own lines off standard output, where a command's JSON belongs."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def quiet_stdout() -> Iterator[None]:
    """Let what the process writes to its standard output come to nothing meanwhile.

    HiGHS prints a line with printf when it has to mend a solution, whatever its options say.
    """
    sys.stdout.flush()
    try:
        saved, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    except OSError:  # there is no standard output
        yield
        return
    try:
        os.dup2(nowhere, 1)
        yield
    finally:
        _flush()
        os.dup2(saved, 1)
        os.close(saved)
        os.close(nowhere)


def _flush() -> None:
    """Write out what C's own buffer holds."""
    with contextlib.suppress(OSError, TypeError, AttributeError):
        ctypes.CDLL(None).fflush(None)
