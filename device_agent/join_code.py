"""The code that a person carries from the host to the board: a secret that the board proves itself with, and the
fingerprint of the certificate that the host proves itself with.

    K7Q2M-8XH0T-4ZB1N-W9CRE-5PGDA-3VJ6F-YS2TK

35 characters of Crockford's base 32: no I, L, O and U, which are read as 1, 1, 0 and V; case, spaces and dashes do not
matter. 12 are the secret (60 bits, good for a few guesses in a quarter of an hour), 21 the fingerprint (105 bits of
SHA-256, against somebody in between who makes certificates until one fits), 2 a checksum, so that a slip of the finger is
not taken for the wrong host.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

from device_agent.contract.errors import InvalidRequest

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_READ_AS = str.maketrans({"I": "1", "L": "1", "O": "0", "U": "V", "-": None, " ": None, "\t": None, "_": None})
_SECRET, _FINGERPRINT, _CHECK = 12, 21, 2
_LENGTH = _SECRET + _FINGERPRINT + _CHECK
_GROUP = 5
#: CRC-10 (ITU-T I.610): notices every change of one character or of two neighbours, which a swap is.
_CRC_BITS, _CRC_POLYNOMIAL = 10, 0x633


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinCode:
    """One code. Its parts are characters of the alphabet; neither shows in a repr, and so in no log."""

    secret: str = field(repr=False)
    fingerprint: str = field(repr=False)

    @classmethod
    def make(cls, certificate_der: bytes) -> JoinCode:
        """Return a new code for a host that shows this certificate."""
        secret = "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET))
        return cls(secret=secret, fingerprint=_fingerprint(certificate_der))

    @classmethod
    def parse(cls, text: str) -> JoinCode:
        """Return the code that was typed. Raises InvalidRequest, which never repeats it."""
        characters = text.upper().translate(_READ_AS)
        if len(characters) != _LENGTH:
            raise InvalidRequest(
                f"the code has {len(characters)} characters instead of {_LENGTH}: seven groups of five, as `host enroll` shows it"
            )
        wrong = sorted(set(characters) - set(_ALPHABET))
        if wrong:
            raise InvalidRequest(f"the code cannot contain {' '.join(wrong)}; compare it with what `host enroll` shows")
        body, check = characters[:-_CHECK], characters[-_CHECK:]
        if _checksum(body) != check:
            raise InvalidRequest(
                "the code has a typing error (its last two characters do not fit the others); compare it"
            )
        return cls(secret=body[:_SECRET], fingerprint=body[_SECRET:])

    def fits(self, certificate_der: bytes) -> bool:
        """Say whether the certificate is that of the host which made the code."""
        return hmac.compare_digest(self.fingerprint, _fingerprint(certificate_der))

    def __str__(self) -> str:
        body = self.secret + self.fingerprint
        characters = body + _checksum(body)
        return "-".join(characters[start : start + _GROUP] for start in range(0, _LENGTH, _GROUP))


def _fingerprint(certificate_der: bytes) -> str:
    number = int.from_bytes(hashlib.sha256(certificate_der).digest(), "big") >> (256 - 5 * _FINGERPRINT)
    return _characters(number, _FINGERPRINT)


def _checksum(body: str) -> str:
    register = 0
    for character in body:
        register ^= _ALPHABET.index(character) << (_CRC_BITS - 5)
        for _ in range(5):
            register = (register << 1) ^ (_CRC_POLYNOMIAL if register >> (_CRC_BITS - 1) else 0)
    return _characters(register, _CHECK)


def _characters(number: int, count: int) -> str:
    return "".join(_ALPHABET[number >> 5 * place & 31] for place in reversed(range(count)))
