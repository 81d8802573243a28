"""The command line: one module per command, loaded when it is called."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType


def main() -> None:
    """Run the command of this process and exit with its code."""
    # gRPC's core writes to stderr by itself, and does so for every connection that ends.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    # Read by OpenMP when torch is loaded. Spinning threads wait for one that the kernel has put aside: with one other busy
    # process on two cores, a training step took 2.6 s instead of 0.9 s. The user's own setting stays.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from host.cli.entry import run

    signal.signal(signal.SIGTERM, _terminated)
    sys.exit(run(sys.argv[1:]))


def _terminated(_number: int, _frame: FrameType | None) -> None:
    """End as at Ctrl-C, so that what is finished is kept and said: by default Python ends without a word."""
    raise KeyboardInterrupt
