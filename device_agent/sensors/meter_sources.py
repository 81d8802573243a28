"""Where an external meter's lines come from: a serial port, a TCP socket, or a growing file. See docs/external-meters.md.

Nothing here waits: what is there is returned, and what isn't may be there at the next read. Standard library only.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import stat
import termios
from abc import ABC, abstractmethod

from device_agent.contract.errors import InvalidRequest

SPECS = "serial:/dev/ttyUSB0@115200, tcp:ADDRESS:PORT or file:PATH"
DEFAULT_BAUD = 115200
_CHUNK = 1 << 16


class Source(ABC):
    """A stream of bytes that may end and be opened again. `spec` is what the user called it."""

    spec: str
    #: Whether the first bytes may be the rest of a line whose beginning is gone.
    joins_midway: bool

    @abstractmethod
    def open(self) -> None:
        """Begin. OSError where that fails at once; a connection may also be refused at a later `read`."""

    @abstractmethod
    def read(self) -> bytes:
        """Return what came since the last read, at most 64 KiB; empty if nothing did. OSError or EOFError if it is gone."""

    @abstractmethod
    def close(self) -> None:
        """Give back the descriptor. May be called twice."""


class _Descriptor(Source):
    """A source behind one file descriptor that doesn't block."""

    def __init__(self, spec: str, path: str) -> None:
        self.spec = spec
        self._path = path
        self._fd: int | None = None

    def _open(self) -> int:
        self.close()
        self._fd = os.open(self._path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        return self._fd

    def _read(self) -> bytes | None:
        """Return bytes, empty at an end, None where there is nothing yet."""
        if self._fd is None:
            raise EOFError("it is not open")
        try:
            return os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return None

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


class SerialSource(_Descriptor):
    """A serial port, 8N1, raw. What was received before `open` is thrown away."""

    joins_midway = True

    def __init__(self, spec: str, path: str, baud: int) -> None:
        speed = getattr(termios, f"B{baud}", None)
        if not baud or not isinstance(speed, int):
            raise InvalidRequest(f"{spec!r}: a serial port has no speed {baud} here; 9600 and 115200 are usual")
        super().__init__(spec, path)
        self._speed = speed

    def open(self) -> None:
        fd = self._open()
        try:
            _, _, _, _, _, _, characters = termios.tcgetattr(fd)
            # With VMIN 1 a read without data fails with EAGAIN, and only a port that is gone reads as empty.
            characters[termios.VMIN], characters[termios.VTIME] = 1, 0
            # Without HUPCL the port's DTR stays up between jobs; it would reset many an Arduino.
            control = termios.CS8 | termios.CREAD | termios.CLOCAL
            termios.tcsetattr(fd, termios.TCSANOW, [0, 0, control, 0, self._speed, self._speed, characters])
            termios.tcflush(fd, termios.TCIFLUSH)
        except termios.error as error:
            self.close()
            raise OSError(f"{self._path} is no serial port: {error}") from error

    def read(self) -> bytes:
        data = self._read()
        if data == b"":
            raise EOFError("the serial port is gone")
        return data or b""


class FileSource(_Descriptor):
    """A regular file that another process appends to, read from its end on, or a FIFO.

    A file that came into being, was replaced or was cut while it was watched is read from its start.
    """

    joins_midway = False

    def __init__(self, spec: str, path: str) -> None:
        super().__init__(spec, path)
        self._new = False

    def open(self) -> None:
        try:
            fd = self._open()
        except FileNotFoundError:
            self._new = True
            raise
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) and not stat.S_ISFIFO(found.st_mode):
            self.close()
            raise OSError(
                f"{self._path} is neither a file nor a FIFO; a serial port is serial:{self._path}@{DEFAULT_BAUD}"
            )
        # The last byte tells whether the last line is complete: what comes up to the next newline is thrown away.
        self.joins_midway = stat.S_ISREG(found.st_mode) and not self._new and found.st_size > 0
        if self.joins_midway:
            os.lseek(fd, found.st_size - 1, os.SEEK_SET)
        self._new = False

    def read(self) -> bytes:
        data = self._read()
        if data or self._fd is None:
            return data or b""
        found = os.fstat(self._fd)
        if stat.S_ISREG(found.st_mode):
            if found.st_nlink == 0:
                self._new = True
                raise EOFError("the file was replaced or removed")
            if found.st_size < os.lseek(self._fd, 0, os.SEEK_CUR):
                os.lseek(self._fd, 0, os.SEEK_SET)
                return self._read() or b""
        return b""


class TcpSource(Source):
    """A TCP server that sends lines. The agent connects and sends nothing."""

    joins_midway = False

    def __init__(self, spec: str, host: str, port: int) -> None:
        self.spec = spec
        self._family, self._address = _resolve(spec, host, port)
        self._socket: socket.socket | None = None

    def open(self) -> None:
        self.close()
        self._socket = made = socket.socket(
            self._family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        )
        # A meter behind a pulled cable is noticed within some 15 s.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, seconds in ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 3), (socket.TCP_KEEPCNT, 3)):
            made.setsockopt(socket.IPPROTO_TCP, option, seconds)
        # In progress is the usual answer; reads say EAGAIN until it is made, then what came of it.
        failed = made.connect_ex(self._address)
        if failed not in (0, errno.EINPROGRESS):
            raise OSError(failed, os.strerror(failed))

    def read(self) -> bytes:
        if self._socket is None:
            raise EOFError("it is not connected")
        try:
            data = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return b""
        if not data:
            raise EOFError("the meter's side closed the connection")
        return data

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def parse_source(spec: str) -> Source:
    """Return the source that `serial:PATH[@BAUD]`, `tcp:HOST:PORT` or `file:PATH` names, not opened. InvalidRequest otherwise.

    A host's name is looked up here and once, since a look-up may wait for seconds.
    """
    kind, _, rest = spec.partition(":")
    if kind == "file" and rest:
        return FileSource(spec, rest)
    if kind == "serial" and rest:
        path, at, baud = rest.rpartition("@")
        if not at:
            return SerialSource(spec, rest, DEFAULT_BAUD)
        if path and baud.isdecimal():
            return SerialSource(spec, path, int(baud))
    if kind == "tcp":
        host, _, port = rest.rpartition(":")
        if host and port.isdecimal() and 0 < int(port) <= 65535:
            return TcpSource(spec, host.removeprefix("[").removesuffix("]"), int(port))
    raise InvalidRequest(f"{spec!r} is not a meter; give {SPECS}")


def _resolve(spec: str, host: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int]]:
    try:
        numeric = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
        return (socket.AF_INET if numeric.version == 4 else socket.AF_INET6), (str(numeric), port)
    except ValueError:
        pass
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise InvalidRequest(f"{spec!r}: no address is known for {host!r} ({error}); give a numeric one") from None
    return family, (str(address[0]), port)
