"""Keys by the command `openssl` (1.1.1 and newer). Private keys are in a folder of their own, for this user only, while it
runs.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from device_agent.contract.errors import NotTrusted, RuntimeUnavailable
from device_agent.keys import KeyMaker

_TIMEOUT_S = 30.0


class OpensslKeys(KeyMaker):
    """See KeyMaker. `command` is the program's path."""

    def __init__(self, command: str) -> None:
        self._command = command

    def new_request(self, name: str) -> tuple[str, str]:
        with _files() as folder:
            self._must(
                "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(folder / "key")
            )
            subject = "/CN=" + re.sub(r"[^A-Za-z0-9.-]", "-", name[:64])
            # An empty configuration: the system's may ask questions or add extensions.
            configuration = folder / "configuration"
            configuration.write_text("[req]\ndistinguished_name = subject\n[subject]\n")
            paths = ("-config", str(configuration), "-key", str(folder / "key"), "-out", str(folder / "request"))
            self._must("req", "-new", "-sha256", "-subj", subject, *paths)
            return (folder / "key").read_text(), (folder / "request").read_text()

    def check_certificate(self, key: str, certificate: str, authority: str, name: str) -> None:
        with _files(key=key, certificate=certificate, authority=authority) as folder:
            verify = ("verify", "-no_check_time", "-CAfile", str(folder / "authority"), str(folder / "certificate"))
            refused = self._run(*verify)
            if refused.returncode:
                raise NotTrusted(f"the certificate is not one of this authority: {_last(refused)}")
            ours = self._must("pkey", "-in", str(folder / "key"), "-pubout")
            if self._must("x509", "-in", str(folder / "certificate"), "-noout", "-pubkey") != ours:
                raise NotTrusted("the certificate is for another private key than this board's")
            names = self._must("x509", "-in", str(folder / "certificate"), "-noout", "-ext", "subjectAltName")
            found = names.strip().splitlines()[-1].strip() if names.strip() else "no name"
            if found != f"DNS:{name}":
                raise NotTrusted(f"the certificate is not for {name} alone: {found}")

    def check_signature(self, authority: str, document: bytes, signature: bytes) -> None:
        with _files(authority=authority, document=document, signature=signature) as folder:
            public = folder / "public"
            public.write_text(self._must("x509", "-in", str(folder / "authority"), "-noout", "-pubkey"))
            verify = ("-verify", str(public), "-signature", str(folder / "signature"), str(folder / "document"))
            refused = self._run("dgst", "-sha256", *verify)
            if refused.returncode:
                raise NotTrusted(f"the document was not signed by this authority: {_last(refused)}")

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                [self._command, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            raise RuntimeUnavailable(f"openssl {arguments[0]} did not end within {_TIMEOUT_S:g} s") from None

    def _must(self, *arguments: str) -> str:
        done = self._run(*arguments)
        if done.returncode:
            raise RuntimeUnavailable(f"openssl {arguments[0]} failed: {_last(done)}")
        return done.stdout


@contextmanager
def _files(**contents: str | bytes) -> Iterator[Path]:
    # mkdtemp makes a folder that only this user enters, so the files need no care of their own.
    with tempfile.TemporaryDirectory(prefix="boardfit-keys-") as name:
        for file, content in contents.items():
            (Path(name) / file).write_bytes(content.encode() if isinstance(content, str) else content)
        yield Path(name)


def _last(done: subprocess.CompletedProcess[str]) -> str:
    words = (done.stderr or done.stdout).strip().splitlines()
    return words[-1] if words else f"status {done.returncode}"
