"""An installation of the agent on this machine, and a loop that starts it again as the service on a board does."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import sysconfig
import threading
import zipfile
from pathlib import Path

from device_agent import environments, switching
from device_agent.packing import pack_agent, write_wheel
from device_agent.switching import Installation


def wheel_of(folder: Path, version: str, *, replaced: dict[str, str] | None = None) -> Path:
    """Write a wheel of this agent under another version, with some of its files replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    packed = zipfile.ZipFile(pack_agent(folder))
    files = {name: packed.read(name) for name in packed.namelist() if not name.endswith("/RECORD")}
    own = next(name for name in files if name.endswith(".dist-info/METADATA")).split("/")[0]
    info = f"boardfit-{version}.dist-info"
    files = {name.replace(own, info): data for name, data in files.items()}
    metadata = files[f"{info}/METADATA"].decode()
    files[f"{info}/METADATA"] = re.sub(r"^Version: .*$", f"Version: {version}", metadata, flags=re.MULTILINE).encode()
    files["device_agent/__init__.py"] = f'__version__ = "{version}"\n'.encode()
    files |= {name: text.encode() for name, text in (replaced or {}).items()}
    return write_wheel(folder / f"boardfit-{version}-py3-none-any.whl", files, info)


def install(prefix: Path, wheel: Path) -> Installation:
    """Lay out an installation of a wheel whose packages are those of the tests' environment, so that nothing is downloaded."""
    installation = Installation(prefix / "versions")
    installation.folder.mkdir(parents=True)
    (prefix / "launch.py").write_bytes(Path(switching.__file__).read_bytes())
    name = environments.name_of(wheel)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", installation.path(name)], check=True)
    (packages,) = installation.path(name).glob("lib/python3.*/site-packages")
    zipfile.ZipFile(wheel).extractall(packages)
    (packages / "tests.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (installation.path(name) / "complete").touch()
    installation.switch(name)
    return installation


class Service:
    """Starts the launcher again whenever it ends by a failure or a signal, as systemd does by Restart=on-failure."""

    def __init__(self, prefix: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        self.log = prefix / "agent.log"
        self.starts = 0
        self._command = [sys.executable, "-I", str(prefix / "launch.py"), "serve", "--listen", self.address]
        self._command += ["--store", str(prefix / "store")]
        self._stopped = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.is_set():
            with self.log.open("ab") as log:
                self._process = subprocess.Popen(self._command, stdout=log, stderr=log, cwd=self.log.parent)
            self.starts += 1
            if self._process.wait() == 0:
                return
            self._stopped.wait(0.1)

    def stop(self) -> None:
        """End the agent and the loop."""
        self._stopped.set()
        if self._process is not None:
            self._process.terminate()
        self._thread.join(30)
