"""How a board or a workstation gets a certificate, and what both sides check in one.

A certificate of the host's authority has exactly one subject alternative name, and the name says what its owner may do:
`DEVICE_ID.device.boardfit` may serve as that device, `NAME-NUMBER.host.boardfit` may drive devices. Names, not addresses: a
board's address changes. Certificates begin in 1970, since a board without a clock starts there; they end after a year and
are renewed before.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import Enum

from device_agent.contract.errors import InvalidRequest

DEVICE_SUFFIX = ".device.boardfit"
HOST_SUFFIX = ".host.boardfit"
#: The name in the certificate under which `host enroll` waits.
ENROLMENT_NAME = "enrolment.boardfit"
#: Where `host enroll` listens unless it is told otherwise.
ENROLMENT_PORT = 50052
#: Certificates and requests are about 1 kB; nothing near this is one.
MAX_PEM_CHARACTERS = 16_384
_DEVICE_ID = re.compile(r"[0-9a-f]{32}")
_SCHEMA = 1


class Role(Enum):
    """What a certificate allows."""

    DEVICE = "device"
    HOST = "host"


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinRequest:
    """What a joiner sends: the secret of the code, and a PKCS #10 request for a key that never leaves it.

    `clock_s` is what it takes for the time, in seconds since 1970. `device_id` and `address` (HOST:PORT, where it will
    listen) are a device's, and None for a host.
    """

    role: Role
    secret: str
    request_pem: str
    hostname: str
    version: str
    clock_s: float
    device_id: str | None = None
    address: str | None = None
    profile: str | None = None

    def __post_init__(self) -> None:
        check_pem(self.request_pem, "CERTIFICATE REQUEST")
        if self.role is Role.DEVICE and (self.device_id is None or not _DEVICE_ID.fullmatch(self.device_id)):
            raise InvalidRequest(f"{str(self.device_id)[:80]!r} is no device id: it is 32 digits and letters a to f")
        if self.role is Role.DEVICE and self.address is None:
            raise InvalidRequest("a device that joins has to say where it will listen")


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRevocations:
    """A list of revoked names as it was signed: `document` is JSON, `signature` ECDSA with SHA-256 over these bytes (DER)."""

    document: bytes
    signature: bytes

    def read(self) -> Revocations:
        """Return the list. Says nothing about the signature. Raises InvalidRequest for a document of another form."""
        try:
            document = json.loads(self.document)
            if document["schema"] != _SCHEMA:
                raise InvalidRequest(f"the list of revoked names has schema {document['schema']!r}, not {_SCHEMA}")
            number, names = document["number"], document["names"]
            if not isinstance(number, int) or not all(isinstance(name, str) for name in names):
                raise TypeError("number or names")
            return Revocations(number=number, names=frozenset(names))
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidRequest(f"the list of revoked names has an unexpected form: {error!r}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocations:
    """The names that are refused although their certificates have not ended. Of two lists the one with the higher `number`
    counts.
    """

    number: int
    names: frozenset[str]

    def to_document(self) -> bytes:
        """Return the bytes to be signed."""
        return json.dumps({"schema": _SCHEMA, "number": self.number, "names": sorted(self.names)}).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDevice:
    """A device of the fleet, as one host tells another."""

    name: str
    address: str
    device_id: str | None
    profile: str | None
    tags: tuple[str, ...]
    tls_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What a joiner gets. `expires_s` is the certificate's end in seconds since 1970; `devices` is the fleet, for a host."""

    name: str
    certificate_pem: str
    authority_pem: str
    expires_s: float
    revocations: SignedRevocations
    devices: tuple[KnownDevice, ...] = ()

    def __post_init__(self) -> None:
        check_pem(self.certificate_pem, "CERTIFICATE")
        check_pem(self.authority_pem, "CERTIFICATE")


def check_pem(text: str, label: str) -> str:
    """Return `text`. Raises InvalidRequest unless it is one PEM block of this label."""
    whole = text.strip()
    begin, end = f"-----BEGIN {label}-----", f"-----END {label}-----"
    if len(text) > MAX_PEM_CHARACTERS or not (
        whole.startswith(begin) and whole.endswith(end) and whole.count("-----BEGIN") == 1
    ):
        raise InvalidRequest(f"this is not one PEM block of a {label.lower()}: {text[:40]!r}")
    return text
