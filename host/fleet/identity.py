"""Who this host is to an agent with TLS, and whom it expects there. Needs no cryptography: gRPC looks into the certificates."""

from __future__ import annotations

import base64
import hashlib
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from device_agent.contract.errors import NotTrusted
from device_agent.contract.joining import SignedRevocations
from device_agent.credentials import Credentials, load, save

if TYPE_CHECKING:
    from host.fleet.inventory import RegisteredDevice


#: How long a certificate of a device or a host is good.
LIFE_S = 365 * 86_400.0
#: It is renewed when less than a third of that is left.
RENEW_BEFORE_S = LIFE_S / 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """An agent with TLS: the name that its certificate must have, and what this host shows it."""

    name: str
    credentials: Credentials


def default_folder() -> Path:
    """Return where this host keeps its certificate, and its authority if it has one."""
    from platformdirs import user_data_path

    return user_data_path("boardfit") / "authority"


def own_path(folder: Path) -> Path:
    """Return the file with this host's credentials."""
    return folder / "host.json"


def load_own(folder: Path | None = None) -> Credentials | None:
    """Return this host's credentials, None if it has none. Raises CredentialsUnusable."""
    return load(own_path(folder or default_folder()))


def keep_revocations(newer: SignedRevocations, folder: Path | None = None) -> None:
    """Keep a newer list of who was revoked, which an agent passed on. Raises NotTrusted if it was not signed by our authority."""
    from device_agent.keys import key_maker

    folder = folder or default_folder()
    own = load_own(folder)
    if own is not None and newer.read().number > own.revocations.read().number:
        key_maker().check_signature(own.authority_pem, newer.document, newer.signature)
        save(own_path(folder), replace(own, revocations=newer))


def peer_of(device: RegisteredDevice, folder: Path | None = None) -> Peer | None:
    """Return whom to expect at a registered device; None for one that never joined, which is spoken to without TLS.

    Raises NotTrusted for a device that joined and cannot be trusted now: it is never spoken to without TLS.
    """
    if device.tls_name is None:
        return None
    own = load_own(folder)
    again = f"To use it, enroll it again: `host enroll --name {device.name}` here, `device-agent join` on the board."
    if own is None:
        raise NotTrusted(
            f"device {device.name!r} speaks TLS, and this host has no certificate. The host where it was enrolled "
            f"can give it one: `host enroll host NAME` there, `host enroll accept` here. {again}"
        )
    if device.tls_ca is not None and device.tls_ca != fingerprint(own.authority_pem):
        raise NotTrusted(
            f"device {device.name!r} was enrolled with another authority than this host's present one. {again}"
        )
    if device.tls_name in own.revocations.read().names:
        raise NotTrusted(f"device {device.name!r} was revoked. {again}")
    if own.expires_s < time.time():
        ended = time.strftime("%Y-%m-%d", time.gmtime(own.expires_s))
        raise NotTrusted(
            f"this host's certificate ended on {ended}. Get a new one: `host enroll host {own.known_as}` on the host with the "
            "authority, `host enroll accept` here."
        )
    return Peer(name=device.tls_name, credentials=own)


def fingerprint(certificate_pem: str) -> str:
    """Return the sha256 of the certificate's DER form, 64 hexadecimal digits."""
    body = "".join(line for line in certificate_pem.strip().splitlines() if not line.startswith("-----"))
    return hashlib.sha256(base64.b64decode(body)).hexdigest()
