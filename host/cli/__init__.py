"""The command line: one module per command, loaded when it is called."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command of this process and exit with its code."""
    from host.cli.entry import run

    sys.exit(run(sys.argv[1:]))
