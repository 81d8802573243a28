"""An agent on an emulated Raspberry Pi 4: aarch64 code, a recorded board's files, this machine's loopback.

BOARDFIT_AARCH64_ROOT is an arm64 root file system, BOARDFIT_AARCH64_SITES folders of aarch64 packages, Boardfit's among them; the
script .ci/aarch64 makes both. Emulation is 50 to 200 times slower than a processor: nothing in here asserts on a time.
"""

from __future__ import annotations

import os
import queue
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from boards import unpacked
from running_agent import FIRST_LINE, RunningAgent

REPOSITORY = Path(__file__).parents[2]
ROOT = os.environ.get("BOARDFIT_AARCH64_ROOT")
SITES = os.environ.get("BOARDFIT_AARCH64_SITES")
WHY_NOT = "needs an emulated aarch64 root (BOARDFIT_AARCH64_ROOT, BOARDFIT_AARCH64_SITES); run: .ci/aarch64 python3"
#: A bound against a hang: a start takes 4 s here when nothing else runs.
START_S = 300.0

#: The board of tests/fixtures/sysroots.
BOARD = "pi4"
#: What the libraries read and our own readers don't, as a Pi 4 says it: ONNX Runtime's cpuinfo wants the lists of processors.
_ALSO = {
    "sys/devices/system/cpu/possible": "0-3\n",
    "sys/devices/system/cpu/present": "0-3\n",
}


def board_files(folder: Path) -> Path:
    """Unpack the recorded board into `folder`, with what else a whole system asks for, and return it."""
    unpacked(BOARD, folder)
    for name, text in _ALSO.items():
        path = folder / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return folder


def emulated(board: Path, *command: str) -> list[str]:
    """Return the command that runs `command` on the emulated board."""
    assert ROOT is not None
    assert SITES is not None
    return [str(REPOSITORY / ".ci/emulate"), ROOT, SITES, str(board), *command]


@contextmanager
def emulated_agent(folder: Path) -> Iterator[RunningAgent]:
    """Serve on the emulated board for the duration of a block; `folder` gets the board's files and the log."""
    log = folder / "agent.log"
    serve = ("python3", "-m", "device_agent", "serve", "--listen", "127.0.0.1:0", "--store", "/tmp/store")
    with log.open("w") as errors:
        process = subprocess.Popen(
            emulated(board_files(folder / "board"), *serve),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True,
        )  # fmt: skip
    agent = RunningAgent("", Path("/tmp/store"), process, log)
    try:
        line = _first_line(process)
        assert line.startswith(FIRST_LINE), f"the agent did not start; first line {line!r}, log:\n{log.read_text()}"
        agent.address = line.removeprefix(FIRST_LINE).strip()
        yield agent
    finally:
        if process.poll() is None:
            agent.kill()


def _first_line(process: subprocess.Popen[str]) -> str:
    stdout = process.stdout
    assert stdout is not None
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=lambda: lines.put(stdout.readline()), daemon=True).start()
    try:
        return lines.get(timeout=START_S)
    except queue.Empty:
        return ""
