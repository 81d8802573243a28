"""`--device local`: an agent on loopback for the duration of one command."""

from __future__ import annotations

import fcntl
import os
import queue
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import device_agent
from device_agent.contract.errors import BoardfitError

#: Starting takes 0.3 s on a workstation, and seconds where the disk is cold.
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0
#: More hosts than this at once on one machine would measure each other.
SLOTS = 32

# The child ends when the pipe on its standard input is closed, which the kernel does for a host that is
# killed. PR_SET_PDEATHSIG would end it with the thread that started it, which may end before the host does.
# The folder of the package is appended, never put first: it may be site-packages, which must not hide the
# standard library.
_CHILD = """
import os, runpy, signal, sys, threading
sys.path[:1] = []
sys.path.append(sys.argv.pop(1))
def watch():
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=watch, daemon=True).start()
runpy.run_module("device_agent", run_name="__main__", alter_sys=True)
"""


class LocalAgentFailed(BoardfitError):
    """The agent on loopback could not be started."""


@contextmanager
def local_agent(root: Path | None = None) -> Iterator[str]:
    """Start an agent on loopback, yield its address, and stop it. Raises LocalAgentFailed.

    `root` holds its store and its log, by default in the user's cache folder, so that artifacts and the
    device's id persist. A store has one agent: a second host at the same time gets the next slot.
    """
    if root is None:
        from platformdirs import user_cache_path

        root = user_cache_path("boardfit") / "local-agent"
    slot, lock = _take_slot(root)
    log_path = slot / "agent.log"
    command = [sys.executable, "-c", _CHILD, str(Path(device_agent.__file__).parents[1])]
    command += ["serve", "--listen", "127.0.0.1:0", "--store", str(slot / "store")]
    try:
        with log_path.open("wb") as log:
            # A session of its own: Ctrl-C in the terminal reaches the host, which stops the agent when it is
            # done with it. The agent holds the slot's lock too, so that the slot is free only when the agent
            # is gone.
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
                pass_fds=(lock.fileno(),),
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
    finally:
        lock.close()
    try:
        yield _address_of(process, log_path)
    finally:
        _stop(process)


def _take_slot(root: Path) -> tuple[Path, IO[str]]:
    for number in range(1, SLOTS + 1):
        slot = root / str(number)
        slot.mkdir(parents=True, exist_ok=True)
        lock = (slot / "lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return slot, lock
        except BlockingIOError:
            lock.close()
    raise LocalAgentFailed(f"{SLOTS} local agents are running already (see {root}); wait until some have ended")


def _address_of(process: subprocess.Popen[str], log_path: Path) -> str:
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:  # to the end, so that the agent never blocks on a full pipe
            lines.put(line)
        lines.put("")

    threading.Thread(target=read, name="local-agent-output", daemon=True).start()
    try:
        line = lines.get(timeout=START_TIMEOUT_S)
    except queue.Empty:
        raise LocalAgentFailed(f"the local agent did not start within {START_TIMEOUT_S:g} s; see {log_path}") from None
    match = re.fullmatch(r"listening on (\S+:\d+)", line.strip())
    if match is None:
        if line:
            raise LocalAgentFailed(
                f"the local agent began with {line.strip()!r} instead of its address; see {log_path}"
            )
        process.wait(STOP_TIMEOUT_S)
        last = log_path.read_text(errors="replace").strip().splitlines()[-3:]
        raise LocalAgentFailed(
            f"the local agent ended with status {process.returncode} before it listened: {' / '.join(last)} "
            f"(log: {log_path})"
        )
    return match[1]


def _stop(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    finally:
        if process.stdin is not None:
            process.stdin.close()
