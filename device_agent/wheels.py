"""Which runtimes have wheels for a board's Python, processor and C library, so that nothing has to be compiled there.

The facts are those of README's table, which `.ci/wheels.py` asks of the package index.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass

#: Runtime -> its package and the oldest version that Boardfit takes, as in pyproject.toml.
PACKAGES: Mapping[str, str] = {
    "onnxruntime": "onnxruntime>=1.17",
    "litert": "ai-edge-litert>=1.2",
    "tflite-runtime": "tflite-runtime>=2.14",
}
#: Runtime -> machine -> (oldest glibc 2.x, first and last minor version of Python 3).
_BUILT: Mapping[str, Mapping[str, tuple[int, int, int]]] = {
    "onnxruntime": {"aarch64": (27, 10, 14), "x86_64": (27, 10, 14)},
    "litert": {"aarch64": (27, 10, 14), "x86_64": (27, 10, 14)},
    "tflite-runtime": {"aarch64": (34, 10, 11), "armv7l": (34, 10, 11), "x86_64": (17, 10, 11)},
}
#: What has no wheel for 32-bit Arm and comes from the distribution there: package -> its name in Debian.
FROM_DISTRIBUTION: Mapping[str, str] = {"numpy": "python3-numpy", "psutil": "python3-psutil"}
_NARROW = {"aarch64": "armv7l", "x86_64": "i686"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """What wheels are chosen by. `machine` is that of the Python, which may be a 32-bit one on a 64-bit kernel.

    `glibc` is the minor version of glibc 2, None with another C library.
    """

    python: tuple[int, int]
    machine: str
    glibc: int | None
    kernel_machine: str

    @property
    def is_32_bit_arm(self) -> bool:
        """Whether numpy and psutil have to come from the distribution."""
        return self.machine.startswith("armv")

    def __str__(self) -> str:
        library = "another C library than glibc" if self.glibc is None else f"glibc 2.{self.glibc}"
        return f"Python {self.python[0]}.{self.python[1]}, {self.machine}, {library}"


def this_platform() -> Platform:
    """Return the platform of this Python."""
    kernel = os.uname().machine
    name, version = platform.libc_ver()
    glibc = version.split(".")[1] if name == "glibc" and version.count(".") else ""
    return Platform(
        python=sys.version_info[:2],
        machine=kernel if sys.maxsize > 2**32 else _NARROW.get(kernel, kernel),
        glibc=int(glibc) if glibc.isdigit() else None,
        kernel_machine=kernel,
    )


def why_no_wheel(runtime: str, board: Platform) -> str | None:
    """Return why a built-in runtime has no wheel for a board; None if it has one."""
    built = _BUILT[runtime]
    if board.machine not in built:
        return f"no wheel for {board.machine}, only for {', '.join(built)}"
    glibc, first, last = built[board.machine]
    if not (3, first) <= board.python <= (3, last):
        return f"no wheel for Python {board.python[0]}.{board.python[1]}, only for 3.{first} to 3.{last}"
    if board.glibc is None or board.glibc < glibc:
        has = "another C library" if board.glibc is None else f"2.{board.glibc}"
        return f"its wheel needs glibc 2.{glibc}, and this system has {has}"
    return None


def extras_for(board: Platform) -> tuple[str, ...]:
    """Return the extras of Boardfit to install on a board; an empty tuple where no runtime has a wheel.

    ONNX Runtime and LiteRT together cover both formats. tflite-runtime is the older LiteRT, and holds numpy below 2, so it is
    taken only where LiteRT has no wheel.
    """
    fitting = tuple(name for name in ("onnxruntime", "litert") if why_no_wheel(name, board) is None)
    if "litert" not in fitting and why_no_wheel("tflite-runtime", board) is None:
        return (*fitting, "tflite-runtime")
    return fitting
