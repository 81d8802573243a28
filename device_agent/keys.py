"""Private keys, certificate requests and signatures on the board: ECDSA on P-256, by `cryptography` where it is installed,
else by the command `openssl`.

Neither is a dependency of the agent. `cryptography` has wheels for aarch64 and armv7, but it needs cffi, whose wheels for
armv7 are only on piwheels; `openssl` is on every Debian that can speak https (ca-certificates needs it). The supervisor has
neither in its memory: a process of its own does one request and ends (`python -m device_agent.keys`, JSON on stdin and
stdout).
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from abc import ABC, abstractmethod
from contextlib import suppress
from typing import Any

from device_agent.contract.errors import BoardfitError, NotTrusted, RuntimeUnavailable

#: A key takes milliseconds; a Pi with a cold SD card takes seconds to start Python.
_CHILD_S = 60.0


class KeyMaker(ABC):
    """What is needed of a library for keys. All texts are PEM."""

    @abstractmethod
    def new_request(self, name: str) -> tuple[str, str]:
        """Return (a new private key, a request for a certificate of it). `name` is for people who look into the request."""

    @abstractmethod
    def check_certificate(self, key: str, certificate: str, authority: str, name: str) -> None:
        """Raise NotTrusted unless the certificate is the authority's, for this key and for exactly this name.

        Dates are not looked at: the board's clock may be wrong.
        """

    @abstractmethod
    def check_signature(self, authority: str, document: bytes, signature: bytes) -> None:
        """Raise NotTrusted unless the authority signed the document (ECDSA with SHA-256, DER)."""


def key_maker() -> KeyMaker:
    """Return what this machine has. RuntimeUnavailable if it has neither."""
    with suppress(ImportError):
        # A distribution's own may be too old, or lack the cffi of this Python.
        from cryptography import x509

        if hasattr(x509.Certificate, "verify_directly_issued_by"):  # 40 and newer
            from device_agent.keys_cryptography import CryptographyKeys

            return CryptographyKeys()
    command = shutil.which("openssl")
    if command is not None:
        from device_agent.keys_openssl import OpensslKeys

        return OpensslKeys(command)
    raise RuntimeUnavailable(
        "making a private key needs the command openssl (`sudo apt install openssl`) or the Python package cryptography "
        "(`pip install 'boardfit[join]'`); this machine has neither"
    )


async def in_child(action: str, **values: str) -> dict[str, str]:
    """Let a process of its own do `action` (see `main`). Raises its errors, and RuntimeUnavailable if it does not end well."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "device_agent.keys",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
        cwd="/",
        # It finds the same modules as the agent, wherever that was started from.
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
    )
    try:
        request = json.dumps({"action": action, **values}).encode()
        answer, _ = await asyncio.wait_for(process.communicate(request), _CHILD_S)
    except asyncio.TimeoutError:
        raise RuntimeUnavailable(f"the process that makes keys did not answer within {_CHILD_S:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        values = json.loads(answer)
    except ValueError:
        raise RuntimeUnavailable(
            f"the process that makes keys ended with status {process.returncode}; see the log"
        ) from None
    if "refused" in values:
        raise NotTrusted(values["refused"])
    if "unavailable" in values:
        raise RuntimeUnavailable(values["unavailable"])
    return values


def _answer(request: dict[str, str]) -> dict[str, Any]:
    maker = key_maker()
    if request["action"] == "new-request":
        key, made = maker.new_request(request["name"])
        return {"key": key, "request": made}
    if request["action"] == "check-certificate":
        maker.check_certificate(request["key"], request["certificate"], request["authority"], request["name"])
        return {}
    maker.check_signature(request["authority"], bytes.fromhex(request["document"]), bytes.fromhex(request["signature"]))
    return {}


def main() -> None:
    """Read one request as JSON from stdin and write the answer to stdout: new-request, check-certificate or check-signature."""
    try:
        answer = _answer(json.load(sys.stdin))
    except NotTrusted as error:
        answer = {"refused": str(error)}
    except (BoardfitError, OSError) as error:
        answer = {"unavailable": str(error)}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
