"""The one command that is run for a sensor: `vcgencmd`, a Raspberry Pi's way to ask its firmware.

The runner is an argument everywhere, so that a recorded board answers from its recording.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable

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
    return None if path is None else lambda argument: _run(path, argument)


def _run(path: str, argument: str) -> str:
    command = f"vcgencmd {argument}"
    try:
        done = subprocess.run(
            [path, argument],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise VcgencmdFailed(f"{command} did not answer within {_TIMEOUT_S:g} s") from error
    except OSError as error:
        raise VcgencmdFailed(f"{command} cannot be run: {error.strerror}") from error
    text = done.stdout.decode(errors="replace").strip()
    if done.returncode:
        words = text.splitlines()[-1] if text else "no message"
        raise VcgencmdFailed(
            f"{command} failed with exit code {done.returncode}: {words}; its user must be in the group video"
        )
    return text
