"""A real `device-agent serve` in a process of its own, for the benchmarks. Standard library only."""

from __future__ import annotations

import os
import queue
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.table import CannotMeasure

_START_S = 60.0
_STOP_S = 30.0
_FIRST_LINE = "listening on "


class ServingAgent:
    """An agent that serves from `store` on loopback. `address` is HOST:PORT, `pid` the supervisor's process id."""

    def __init__(self, store: Path, *, port: int = 0) -> None:
        """Start it and wait until it listens. CannotMeasure with its last words if it does not."""
        log = store.with_name(f"{store.name}.log")
        command = [
            sys.executable,
            "-m",
            "device_agent",
            "serve",
            "--listen",
            f"127.0.0.1:{port}",
            "--store",
            str(store),
        ]
        with log.open("a") as errors:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=store.parent,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
            )  # fmt: skip
        self.store = store
        self.pid = self._process.pid
        line = self._first_line()
        if not line.startswith(_FIRST_LINE):
            self.kill()
            words = " / ".join(log.read_text(errors="replace").strip().splitlines()[-3:])
            raise CannotMeasure(f"device-agent serve did not start: {words or 'it said nothing within a minute'}")
        self.address = line.removeprefix(_FIRST_LINE).strip()

    def stop(self) -> None:
        """End it by SIGTERM and wait; by SIGKILL if it does not go."""
        if self._process.poll() is None:
            self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._reap()

    def kill(self) -> None:
        """End it by SIGKILL and wait."""
        self._process.kill()
        self._reap()

    def _reap(self) -> None:
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _first_line(self) -> str:
        stdout = self._process.stdout
        assert stdout is not None
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=lambda: lines.put(stdout.readline()), daemon=True).start()
        try:
            return lines.get(timeout=_START_S)
        except queue.Empty:
            return ""


@contextmanager
def serving(store: Path) -> Iterator[ServingAgent]:
    """Run an agent for the duration of a block."""
    agent = ServingAgent(store)
    try:
        yield agent
    finally:
        agent.stop()


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free now, for an agent that is to be restarted at its old address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
