"""A recorded board: everything that sensors and board detection read, in one text file that a person can look through.

The text begins with remarks. Then every file begins with a line `=== PATH`, its path below the root; its lines follow. A file
that could not be read has `!` and the error's name after its path; unpacked, a folder takes its place, and fails as well.
`=== $ COMMAND` holds what a command printed. In a line, `\\0` is a NUL, `\\\\` a backslash, and `\\=` a leading equals sign.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from device_agent.contract.errors import InvalidRequest
from device_agent.sensors.vcgencmd import Vcgencmd, VcgencmdFailed

#: The recording's name in its folder.
FILE_NAME = "board.txt"
#: Where the printed texts of commands lie in an unpacked recording.
COMMANDS = "commands"
_MARK = "=== "
#: Of these files only the lines that are read are kept: the others hold serial numbers, or nothing of interest.
_KEPT_LINES = {
    "proc/cpuinfo": re.compile(r"processor|model name|CPU (implementer|architecture|variant|part|revision)"),
    "proc/meminfo": re.compile(r"MemTotal|MemAvailable|SwapTotal|SwapFree"),
    "etc/os-release": re.compile(r"PRETTY_NAME"),
}
#: Larger than any file that is read, and small enough for a person.
_MOST_BYTES = 1 << 20


def pack(root: Path, patterns: Iterable[str], commands: Mapping[str, str], *, remarks: str) -> str:
    """Return the recording of the files that match the patterns under `root`, and of what commands printed."""
    lines = remarks.splitlines()
    for path in sorted({path for pattern in patterns for path in root.glob(pattern)}):
        name = str(path.relative_to(root))
        try:
            text = path.read_bytes()[:_MOST_BYTES].decode(errors="replace")
        except OSError as error:
            lines.append(f"{_MARK}{name} !{errno.errorcode.get(error.errno or 0, 'EIO')}")
            continue
        kept = _KEPT_LINES.get(name)
        lines.append(f"{_MARK}{name}")
        lines += [_escape(line) for line in text.splitlines() if kept is None or kept.match(line)]
    for command, text in sorted(commands.items()):
        lines += [f"{_MARK}$ {command}", *(_escape(line) for line in text.splitlines())]
    return "\n".join(lines) + "\n"


def unpack(text: str, folder: Path) -> None:
    """Write the files of a recording below `folder`. InvalidRequest for a path that leads out of it."""
    name: str | None = None
    content: list[str] = []
    for line in [*text.splitlines(), _MARK]:
        if not line.startswith(_MARK):
            content.append(_unescape(line))
            continue
        if name is not None:
            _write(folder, name, content)
        name, content = line.removeprefix(_MARK), []


def unpack_file(recording: Path, folder: Path) -> None:
    """Write the files of the recording in a file, or in a folder's board.txt, below `folder`. OSError if there is none."""
    path = recording / FILE_NAME if recording.is_dir() else recording
    unpack(path.read_text(encoding="utf-8"), folder)


def recorded_output(root: Path, command: str) -> str | None:
    """Return what a command printed on the recorded board, None if the recording does not have it."""
    try:
        return (root / COMMANDS / command).read_text(encoding="utf-8").strip()
    except OSError:
        return None


def recorded_vcgencmd(root: Path) -> Vcgencmd | None:
    """Return a vcgencmd that answers from a recording, None where the board had no such command."""
    if not any((root / COMMANDS).glob("vcgencmd *")):
        return None

    def run(argument: str) -> str:
        text = recorded_output(root, f"vcgencmd {argument}")
        if text is None:
            raise VcgencmdFailed(f"vcgencmd {argument} was not recorded")
        return text

    return run


def _write(folder: Path, name: str, content: list[str]) -> None:
    name, _, error = name.partition(" !")
    place = Path(COMMANDS) / name[2:] if name.startswith("$ ") else Path(name)
    if place.is_absolute() or ".." in place.parts or not place.parts:
        raise InvalidRequest(
            f"the recording names {name!r}, which lies outside of a board's root; it was not written by us"
        )
    path = folder / place
    path.parent.mkdir(parents=True, exist_ok=True)
    if error:
        path.mkdir()
    else:
        path.write_text("".join(f"{line}\n" for line in content), encoding="utf-8")


def _escape(line: str) -> str:
    line = line.replace("\\", "\\\\").replace("\0", "\\0")
    return f"\\{line}" if line.startswith("=") else line


def _unescape(line: str) -> str:
    return re.sub(r"\\(.)", lambda found: {"0": "\0"}.get(found[1], found[1]), line)
