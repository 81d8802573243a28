"""The one command that is run for a sensor: `vcgencmd`, a Raspberry Pi's way to ask its firmware.

The runner is an argument everywhere, so that a recorded board answers from its recording. It is run several times a second on the
board that is being measured, so it is spawned directly: `subprocess` takes half as long again, and polls for a timeout.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import time
from collections.abc import Callable, Mapping

#: Takes the command's argument, such as `get_throttled`, and returns what it printed. Raises VcgencmdFailed.
Vcgencmd = Callable[[str], str]

NOT_ON_PATH = (
    "no vcgencmd on PATH; on Raspberry Pi OS it comes with the package raspi-utils (libraspberrypi-bin before)"
)
#: A firmware that answers at all answers within milliseconds.
_TIMEOUT_S = 2.0


class VcgencmdFailed(Exception):
    """The command could not be run, failed, or took too long; `str(error)` says which."""


def find_vcgencmd() -> Vcgencmd | None:
    """Return a runner of the command on PATH, None if there is none."""
    path = shutil.which("vcgencmd")
    if path is None:
        return None
    environment = dict(os.environb)  # as bytes, once: a look is too short to encode it each time
    return lambda argument: _run(path, argument, environment)


def _run(path: str, argument: str, environment: Mapping[bytes, bytes]) -> str:
    command = f"vcgencmd {argument}"
    try:
        printed, status = _output(path, argument, environment)
    except TimeoutError as error:
        raise VcgencmdFailed(f"{command} did not answer within {_TIMEOUT_S:g} s") from error
    except OSError as error:
        raise VcgencmdFailed(f"{command} cannot be run: {error.strerror}") from error
    text = printed.decode(errors="replace").strip()
    if status:
        words = text.splitlines()[-1] if text else "no message"
        raise VcgencmdFailed(f"{command} failed with exit code {status}: {words}; its user must be in the group video")
    return text


def _output(path: str, argument: str, environment: Mapping[bytes, bytes]) -> tuple[bytes, int]:
    """Return what the command printed on both streams, and its exit code. TimeoutError; OSError if it cannot be run."""
    reader, writer = os.pipe()
    try:
        child = os.posix_spawn(
            path,
            [path, argument],
            environment,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, writer, 1),
                (os.POSIX_SPAWN_DUP2, writer, 2),
            ],
            setsigdef=[signal.SIGPIPE],  # Python ignores it, and children inherit that
        )
    except OSError:
        os.close(reader)
        raise
    finally:
        os.close(writer)
    answered = False
    try:
        printed = _read_all(reader)
        answered = True
    finally:
        os.close(reader)
        if not answered:
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
    return printed, os.waitstatus_to_exitcode(status)


def _read_all(reader: int) -> bytes:
    until_s = time.monotonic() + _TIMEOUT_S
    ready = select.poll()
    ready.register(reader, select.POLLIN)
    printed = b""
    while ready.poll(max(0.0, (until_s - time.monotonic()) * 1000)):
        block = os.read(reader, 65536)
        if not block:
            return printed
        printed += block
    raise TimeoutError
