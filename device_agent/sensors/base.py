"""What a sensor is: channels, a sampling interval, and a read that never raises.

Three answers are kept apart. A file that is not there makes no channel; a file that fails to be read makes no reading; zero is a
reading of zero.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from device_agent.contract.device import Channel
from device_agent.contract.measurement import Reading


@dataclass(frozen=True, slots=True, kw_only=True)
class NotHere:
    """Why there is no sensor of a kind. `broken`: something is there and cannot be used, which is worth saying on any board."""

    reason: str
    broken: bool = False


class Sensor(ABC):
    """One kernel interface. It keeps descriptors open; `close` gives them back."""

    #: The name under which device profiles expect it and reports show it.
    kind: str = "sensor"
    #: No sooner than this does another read tell anything new, in seconds.
    interval_s: float
    #: Whether a read takes milliseconds, such as starting a process. It is then sampled in a thread of its own from the start.
    slow: bool = False
    #: How long the first reading may be in coming, in seconds.
    first_after_s: float = 0.0

    @property
    @abstractmethod
    def channels(self) -> tuple[Channel, ...]:
        """What `read` may return readings of; fixed for the sensor's life."""

    @abstractmethod
    def read(self, now_ns: int) -> tuple[Reading, ...]:
        """Return what could be read, each reading at the monotonic time `now_ns`. Never raises for a failing file."""

    def close(self) -> None:  # noqa: B027 - a sensor without descriptors has nothing to close
        """Give back the descriptors."""


class FileSensor(Sensor):
    """A sensor of one whole number per channel, each in a file of its own; `factor` / `divisor` brings it to the base unit."""

    factor = 1
    divisor = 1

    def __init__(self, rows: Sequence[tuple[Channel, KeptFile]]) -> None:
        self._rows = tuple(rows)

    @property
    def channels(self) -> tuple[Channel, ...]:
        return tuple(channel for channel, _ in self._rows)

    def number(self, file: KeptFile) -> float | None:
        """Return the number in a file, None where there is none now; for files that hold more than a whole number."""
        return file.number()

    def read(self, now_ns: int) -> tuple[Reading, ...]:
        readings: list[Reading] = []
        for channel, file in self._rows:
            number = self.number(file)
            if number is not None:
                value = number * self.factor / self.divisor
                readings.append(Reading(channel=channel.name, time_ns=now_ns, value=value))
        return tuple(readings)

    def close(self) -> None:
        for _, file in self._rows:
            file.close()


class KeptFile:
    """A small file read again and again: a pread on a kept descriptor takes 1 us, opening it each time 34 us."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None
        self._kernels = False

    def read(self) -> str | None:
        """Return the content without surrounding space; None if it cannot be read now, or is empty.

        A disabled zone or channel fails with EAGAIN, ENODATA or EINVAL and may work later, so every read tries anew.
        """
        try:
            if self._fd is not None and not self._kernels and os.fstat(self._fd).st_nlink == 0:
                self.close()  # the file was replaced, as is done in recorded and emulated trees
            if self._fd is None:
                self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
                # sysfs gives the size of a page and procfs none, whatever is in a file. Such a file is never replaced, and
                # to ask for that takes a fifth of all that sampling takes.
                self._kernels = os.fstat(self._fd).st_size != len(os.pread(self._fd, 4096, 0))
            text = os.pread(self._fd, 4096, 0).decode(errors="replace").strip("\0 \t\r\n")
        except OSError:
            self.close()
            return None
        return text or None

    def number(self) -> float | None:
        """Return the content as a decimal number, None if it is none."""
        text = self.read()
        try:
            return None if text is None else float(int(text))
        except ValueError:
            return None

    def close(self) -> None:
        """Close the descriptor; a later read opens it again."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def read_once(path: Path) -> str | None:
    """Return the content of a file that is read only at the start; None as `KeptFile.read`."""
    file = KeptFile(path)
    try:
        return file.read()
    finally:
        file.close()


def is_denied(path: Path) -> bool:
    """Say whether this process lacks the right to read a file that is there."""
    try:
        with path.open("rb"):
            return False
    except OSError as error:
        return isinstance(error, PermissionError)


def shown(path: Path, root: Path) -> str:
    """Return a path as the board knows it, wherever its files lie now."""
    return f"/{path.relative_to(root)}"


def numbered(name: str, seen: Counter[str]) -> str:
    """Return a name that was not given out yet: the second one of a kind gets the suffix `#2`."""
    seen[name] += 1
    return name if seen[name] == 1 else f"{name}#{seen[name]}"


def natural(path: Path) -> tuple[int, str]:
    """Sort key for names that end in a number: thermal_zone10 comes after thermal_zone2."""
    digits = "".join(letter for letter in path.name if letter.isdigit())
    return (int(digits) if digits else -1, path.name)
