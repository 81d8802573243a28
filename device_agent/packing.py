"""Packs the agent of this very installation as a wheel: what a board needs, in about a third of a megabyte.

Everything is taken from the packages that run here, whether they were installed from a wheel or are a checkout. The host's code
stays out of it. The same sources give the same bytes, so an agent can be known by its wheel's hash.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zipfile
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import device_agent
import profiles
from device_agent import __version__
from device_agent.contract.errors import StableError

#: What a zip can say at the earliest; the wheel shall not depend on when it was made.
_TIME = (1980, 1, 1, 0, 0, 0)
_ENTRY_POINTS = "[console_scripts]\ndevice-agent = device_agent.cli:main\n"


class CannotPack(StableError):
    """The agent that runs here cannot be made a wheel."""


def pack_agent(folder: Path) -> Path:
    """Write the wheel of this version's agent into a folder and return its path. CannotPack, OSError by the disk."""
    files = {
        f"{package.name}/{path.relative_to(package)}": path.read_bytes()
        for package in (Path(device_agent.__file__).parent, Path(next(iter(profiles.__path__))))
        for path in sorted(package.rglob("*"))
        if path.suffix in (".py", ".pyi", ".toml", ".typed") or path.name == "py.typed"
    }
    info = f"boardfit-{__version__}.dist-info"
    files[f"{info}/METADATA"] = _metadata().encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: boardfit\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/entry_points.txt"] = _ENTRY_POINTS.encode()
    return write_wheel(folder / f"boardfit-{__version__}-py3-none-any.whl", files, info)


def write_wheel(path: Path, files: dict[str, bytes], info: str) -> Path:
    """Write a wheel with these files and their RECORD, which lies in the folder `info`."""
    record = "".join(f"{name},sha256={_digest(data)},{len(data)}\n" for name, data in files.items())
    files = {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n".encode()}
    with zipfile.ZipFile(path, "w") as wheel:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, _TIME)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o100644 << 16
            wheel.writestr(entry, data)
    return path


def _metadata() -> str:
    try:
        found = distribution("boardfit")
    except PackageNotFoundError:
        found = None
    # A checkout that was installed keeps its metadata under the older name.
    text = "" if found is None else found.read_text("METADATA") or found.read_text("PKG-INFO") or ""
    if "\nVersion:" not in text:
        raise CannotPack(
            "this agent runs from a folder that was never installed, so its requirements are not known; "
            "install it, with pip install -e . for a checkout"
        )
    # An editable installation keeps the version of the day on which it was installed. The long description is not needed.
    head = text.partition("\n\n")[0]
    return re.sub(r"^Version: .*$", f"Version: {__version__}", head, flags=re.MULTILINE) + "\n"


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
