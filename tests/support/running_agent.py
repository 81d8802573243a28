"""A real agent in a process of its own, for tests."""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from device_agent.contract.errors import DeviceBusy

_Result = TypeVar("_Result")

#: A bound against a hang, far above what a start takes on a busy machine.
START_S = 60.0
STOP_S = 30.0
FIRST_LINE = "listening on "


@dataclass
class RunningAgent:
    """`address` is HOST:PORT, `store` the store's folder, `log` the file with the agent's stderr."""

    address: str
    store: Path
    process: subprocess.Popen[str]
    log: Path

    def stop(self) -> int:
        """End the agent by SIGTERM, if it still runs, and return its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return self._wait()

    def kill(self) -> None:
        """End the agent by SIGKILL."""
        self.process.kill()
        self._wait()

    def _wait(self) -> int:
        code = self.process.wait(STOP_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


StartAgent = Callable[..., RunningAgent]


def start_agent(
    store: Path,
    *,
    arguments: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
    python: tuple[str, ...] = (sys.executable,),
) -> RunningAgent:
    """Start `device-agent serve` on a free port of 127.0.0.1 and return when it listens; AssertionError if it doesn't.

    `python` is the command that takes an interpreter's arguments.
    """
    store.parent.mkdir(parents=True, exist_ok=True)
    log = store.parent / f"{store.name}.log"
    command = [*python, "-m", "device_agent", "serve", "--listen", "127.0.0.1:0", "--store", str(store)]
    with log.open("a") as stderr:
        process = subprocess.Popen(
            [*command, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env={**os.environ, **(environment or {})},
        )
    line = _first_line(process)
    if not line.startswith(FIRST_LINE):
        process.kill()
        process.wait()
        raise AssertionError(f"the agent did not start; first line {line!r}, log:\n{log.read_text()}")
    return RunningAgent(line.removeprefix(FIRST_LINE).strip(), store, process, log)


def _first_line(process: subprocess.Popen[str]) -> str:
    """Return the first line of stdout; empty if the process ends or stays silent."""
    assert process.stdout is not None
    lines: queue.Queue[str] = queue.Queue()
    threading.Thread(target=lambda: lines.put(process.stdout.readline()), daemon=True).start()
    try:
        return lines.get(timeout=START_S)
    except queue.Empty:
        return ""


def workers_of(agent_pid: int) -> list[int]:
    """Return the processes that run as workers of an agent, dead or alive; they carry its number as their last argument."""
    found: list[int] = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                words = (folder / "cmdline").read_bytes().split(b"\0")
                if b"device_agent.worker" in words and str(agent_pid).encode() in words:
                    found.append(int(folder.name))
    return found


def when_free(call: Callable[[], _Result]) -> _Result:
    """Return what the call gives once the device is not busy any more; AssertionError if that takes absurdly long."""
    for _ in range(100):
        try:
            return call()
        except DeviceBusy:
            time.sleep(0.1)
    raise AssertionError("the device was not freed")


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Return when the condition holds; AssertionError if that takes absurdly long."""
    end_s = time.monotonic() + STOP_S
    while not condition():
        assert time.monotonic() < end_s, f"still not so after {STOP_S:.0f} s: {what}"
        time.sleep(0.01)
