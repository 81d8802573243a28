"""What a board that has joined keeps: its private key, its certificate, its host's authority, and who was revoked. One
file, so that a crash leaves either the old set or the new one.

No part of this looks into a certificate: gRPC's core does, and brings its own TLS. So the supervisor needs neither ssl nor
cryptography.
"""

from __future__ import annotations

import base64
import json
import logging
import stat
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import grpc

from device_agent.contract.errors import StableError
from device_agent.contract.joining import Revocations, SignedRevocations
from device_agent.durable import make_folder, write_atomically

FILE_NAME = "credentials.json"
_SCHEMA = 1
_TEXTS = ("name", "known_as", "key_pem", "certificate_pem", "authority_pem")

_log = logging.getLogger(__name__)


class CredentialsUnusable(StableError):
    """The file with the private key is damaged, or others may read it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """One side's part. `name` is the one in the certificate, `known_as` what people call its owner.

    `expires_s` is the certificate's end in seconds since 1970. The same form serves a board and a host.
    """

    name: str
    known_as: str
    key_pem: str
    certificate_pem: str
    authority_pem: str
    expires_s: float
    revocations: SignedRevocations

    def __repr__(self) -> str:
        return f"Credentials(name={self.name!r})"  # a private key has no place in a log

    def server_configuration(self) -> Any:
        """Return what a gRPC server needs: key and certificate, and whose certificates it takes."""
        pair = (self.key_pem.encode(), self.certificate_pem.encode())
        return grpc.ssl_server_certificate_configuration([pair], self.authority_pem.encode())

    def channel_credentials(self) -> Any:
        """Return what a gRPC client needs."""
        return grpc.ssl_channel_credentials(
            self.authority_pem.encode(), self.key_pem.encode(), self.certificate_pem.encode()
        )


def load(path: Path) -> Credentials | None:
    """Return what is kept in a file, None if there is none. Raises CredentialsUnusable."""
    advice = "Join again (docs/fleet.md), or delete it to go without TLS."
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise CredentialsUnusable(
            f"cannot read the private key and certificate in {path}: {error}. {advice}"
        ) from error
    if stat.S_IMODE(mode) & 0o077:
        raise CredentialsUnusable(
            f"{path} holds a private key, and others may read or write it (mode {stat.S_IMODE(mode):04o}). If nobody did: "
            f"chmod 600 {path}. Else revoke it (`host enroll revoke`) and join again."
        )
    try:
        document = json.loads(text)
        if document["schema"] != _SCHEMA:
            raise ValueError(f"its schema is {document['schema']!r}, this version reads {_SCHEMA}")
        texts = {key: document[key] for key in _TEXTS}
        if not all(isinstance(value, str) and value for value in texts.values()):
            raise TypeError("a part of it is no text")
        revocations = SignedRevocations(
            document=base64.b64decode(document["revocations"]["document"]),
            signature=base64.b64decode(document["revocations"]["signature"]),
        )
        revocations.read()
        return Credentials(**texts, expires_s=float(document["expires_s"]), revocations=revocations)
    except (ValueError, KeyError, TypeError, StableError) as error:
        raise CredentialsUnusable(f"the credentials in {path} are damaged ({error!r}). {advice}") from error


def save(path: Path, credentials: Credentials) -> None:
    """Replace what is kept, whole or not at all. OSError by the disk; what was there then stays."""
    make_folder(path.parent)
    document = {"schema": _SCHEMA, **asdict(credentials)}
    document["revocations"] = {
        key: base64.b64encode(value).decode() for key, value in asdict(credentials.revocations).items()
    }
    write_atomically(path, json.dumps(document, indent=1).encode(), mode=0o600)


class LiveCredentials:
    """The credentials of a running agent: renewed and told of revocations without a restart.

    A file that another process has replaced (`device-agent join`) is picked up at the next connection, unless it is of another
    authority: connections of the old one's hosts may be open, so that takes a restart.
    """

    def __init__(self, path: Path, credentials: Credentials) -> None:
        self._path = path
        self._seen = _signature(path)
        self.credentials = credentials
        self._revoked = credentials.revocations.read()

    @property
    def revoked(self) -> Revocations:
        """Who is refused."""
        return self._revoked

    def server_credentials(self) -> Any:
        """Return gRPC's server credentials, which ask here at every new connection; clients without a certificate are refused."""
        return grpc.dynamic_ssl_server_credentials(
            self.credentials.server_configuration(), self._configuration, require_client_authentication=True
        )

    def install(self, **changes: Any) -> None:
        """Keep some parts anew, on the disk first. OSError by the disk; nothing has changed then."""
        changed = replace(self.credentials, **changes)
        save(self._path, changed)
        self._use(changed)

    def _use(self, credentials: Credentials) -> None:
        self._seen = _signature(self._path)
        self.credentials = credentials
        self._revoked = credentials.revocations.read()

    def _configuration(self) -> Any:
        # gRPC calls this before every handshake; an error here must not cost the connection.
        try:
            if _signature(self._path) != self._seen:
                self._reload()
            return self.credentials.server_configuration()
        except Exception:
            _log.exception("cannot read %s; the former certificate stays in use", self._path)
            return None

    def _reload(self) -> None:
        self._seen = _signature(self._path)
        found = load(self._path)
        if found is None:
            _log.warning("%s is gone; the former certificate stays in use until a restart", self._path)
        elif found.authority_pem != self.credentials.authority_pem:
            _log.warning("%s is of another host's authority now; restart the agent to serve that one", self._path)
        else:
            self._use(found)


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
