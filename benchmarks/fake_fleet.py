"""Fake agents in a process of their own, so that a benchmark's host has its own interpreter and its own memory.

`python -m benchmarks.fake_fleet` prints the addresses as a JSON list on its first line and serves until its standard input ends.
Lines on the input are JSON lists: ["kill", 3], ["restart", 3], ["stall", 3], ["resume", 3] or ["behave", {"failing": 0.05}]; each
is answered by a line when it is done. Finished measurements are appended to the file `--log`, one JSON list a line: device,
sha256, start and end (ns), and whether the host was told.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.table import CannotMeasure


class FakeFleet:
    """Such a process, started and stopped as a context. `addresses` are the agents' in their order, `pid` the process's id.

    Methods may be called from any thread.
    """

    def __init__(self, count: int, *, log: Path | None = None, seed: int = 0, **behaviour: Any) -> None:
        """`behaviour` is that of benchmarks.fake_agent.Behaviour. CannotMeasure if it does not start."""
        command = [sys.executable, "-m", "benchmarks.fake_fleet", "--count", str(count), "--seed", str(seed)]
        command += ["--behaviour", json.dumps(behaviour), *([] if log is None else ["--log", str(log)])]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)), "GRPC_VERBOSITY": "ERROR"},
        )  # fmt: skip
        self._turn = threading.Lock()
        self.pid = self._process.pid
        line = self._read()
        if not line:
            self.stop()
            raise CannotMeasure("the fake agents did not start; their last words are above")
        self.addresses: list[str] = json.loads(line)

    def __enter__(self) -> FakeFleet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def order(self, *words: Any) -> None:
        """Give a command and return when it is done."""
        stdin = self._process.stdin
        assert stdin is not None
        with self._turn:
            stdin.write(json.dumps(words) + "\n")
            stdin.flush()
            if not self._read():
                raise CannotMeasure(f"the fake agents ended at the command {words}")

    def stop(self) -> None:
        """End all agents and the process."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read(self) -> str:
        stdout = self._process.stdout
        assert stdout is not None
        return stdout.readline()


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until the standard input ends."""
    from benchmarks.fake_agent import Behaviour, FakeJob
    from benchmarks.fake_agents import FakeAgents

    parser = argparse.ArgumentParser(prog="python -m benchmarks.fake_fleet", description=__doc__)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--behaviour", type=json.loads, default={})
    parser.add_argument("--log", type=Path, default=Path(os.devnull))
    options = parser.parse_args(arguments)
    behaviour = dict(options.behaviour)
    with options.log.open("a") as log:

        def record(job: FakeJob) -> None:
            log.write(json.dumps([job.device_id, *job.artifacts, job.start_ns, job.end_ns, job.told]) + "\n")
            log.flush()

        with FakeAgents(options.count, Behaviour(**behaviour), seed=options.seed, on_job=record) as agents:
            _say(agents.addresses)
            for line in sys.stdin:
                word, *rest = json.loads(line)
                if word == "behave":
                    behaviour.update(rest[0])
                    agents.behave(Behaviour(**behaviour))
                else:
                    {"kill": agents.kill, "restart": agents.restart, "stall": agents.stall, "resume": agents.resume}[
                        word
                    ](*rest)
                _say(True)
    return 0


def _say(what: Any) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
