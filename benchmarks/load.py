"""A host that puts load on an agent and ends: `python -m benchmarks.load ADDRESS --describes N`, see --help.

A process of its own, so that what a host imports is not shared with the agent while somebody looks at the agent's memory.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from device_agent.contract.settings import MeasureRequest, Settings, Stopping
from host.fleet.client import AgentClient

#: As short as a measurement gets: what counts here is what it leaves behind in the agent.
_SHORT = Stopping(warmup_runs=1, warmup_time_s=0, min_runs=10, min_time_s=0, max_time_s=1, precision=None)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the calls, say so on stdout, and with --hold stay connected until stdin is closed."""
    parser = argparse.ArgumentParser(description="Puts load on an agent.")
    parser.add_argument("address")
    parser.add_argument("--describes", type=int, default=0, metavar="N")
    parser.add_argument("--model", type=Path, metavar="FILE")
    parser.add_argument("--measurements", type=int, default=0, metavar="N")
    parser.add_argument("--hold", action="store_true", help="stay connected, without a call, until stdin is closed")
    options = parser.parse_args(arguments)
    # The first Describe waits until the agent has looked for runtimes, which takes seconds on a small board.
    with AgentClient(options.address, timeout_s=120) as client:
        client.describe()
        for _ in range(options.describes - 1):
            client.describe()
        if options.measurements:
            sha256 = client.push(options.model).artifact.sha256
            request = MeasureRequest(artifacts=(sha256,), settings=Settings(threads=1), stopping=_SHORT)
            for _ in range(options.measurements):
                client.measure(request)
        sys.stdout.write("done\n")
        sys.stdout.flush()
        if options.hold:
            sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main())
