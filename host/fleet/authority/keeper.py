"""The authority on disk: its key, what it issued, and whom it revoked. A folder that only its user may enter."""

from __future__ import annotations

import fcntl
import json
import re
import secrets
import socket
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from device_agent.contract.errors import InvalidRequest, NotTrusted, StableError
from device_agent.contract.joining import DEVICE_SUFFIX, HOST_SUFFIX, Grant, Revocations, Role, SignedRevocations
from device_agent.credentials import Credentials, save
from device_agent.durable import make_folder, write_atomically
from host.fleet import identity
from host.fleet.authority import certificates
from host.fleet.authority.certificates import Pair

_SCHEMA = 1
_NOBODY = Revocations(number=-1, names=frozenset())


class AuthorityUnusable(StableError):
    """There is no authority in the folder, it is damaged, or others may read it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """Whom the authority gave a certificate: `name` is in it, `known_as` is what people say. Times in seconds since 1970.

    `revoked_s` is None for one in good standing. A device that is enrolled again after that is a new member.
    """

    name: str
    role: Role
    known_as: str
    device_id: str | None
    serial: str
    expires_s: float
    revoked_s: float | None = None


class Authority:
    """Reads go to the files; writes are atomic and hold a lock."""

    def __init__(self, folder: Path | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder or identity.default_folder()
        self._clock = clock

    @property
    def exists(self) -> bool:
        """Whether this host has an authority, or a damaged one."""
        return self._key_path.exists() or self._members_path.exists()

    def create(self) -> None:
        """Make an authority if there is none, and this host's own certificate. Raises AuthorityUnusable."""
        make_folder(self.folder)
        with self._locked():
            if not self.exists:
                if identity.load_own(self.folder) is not None:
                    raise AuthorityUnusable(
                        f"this host has a certificate of another host's authority (in {self.folder}), so boards are enrolled "
                        f"there. To begin a fleet of its own here, move {self.folder} away."
                    )
                pair = certificates.new_authority(socket.gethostname())
                # Members first: a crash in between leaves a folder without a key, which is made anew next time.
                self._write_members(())
                write_atomically(self._key_path, _json(asdict(pair)), mode=0o600)
            elif not self._key_path.exists() and not self._members():
                write_atomically(
                    self._key_path, _json(asdict(certificates.new_authority(socket.gethostname()))), mode=0o600
                )
        self.members()  # damage is found before a board waits for its certificate
        self.own_credentials()

    def pair(self) -> Pair:
        """Return key and certificate. Raises AuthorityUnusable."""
        document = self._read(self._key_path)
        try:
            pair = Pair(key_pem=document["key_pem"], certificate_pem=document["certificate_pem"])
            certificates.check_pair(pair)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise self._damaged(self._key_path, error) from error
        return pair

    def members(self) -> tuple[Member, ...]:
        """Return everybody who ever got a certificate, in that order. Raises AuthorityUnusable."""
        return self._members()

    def own_credentials(self) -> Credentials:
        """Return this host's own, made or renewed where needed. Raises AuthorityUnusable, CredentialsUnusable."""
        with self._locked():
            pair = self.pair()
            own = identity.load_own(self.folder)
            fits = own is not None and own.authority_pem == pair.certificate_pem
            if own is not None and fits and not self.is_due(own.expires_s):
                return own
            known_as = own.known_as if own is not None and fits else socket.gethostname()
            key_pem, request_pem = certificates.new_request(known_as)
            member, certificate_pem = self._issue(Role.HOST, request_pem, known_as, None)
            made = Credentials(
                name=member.name,
                known_as=known_as,
                key_pem=key_pem,
                certificate_pem=certificate_pem,
                authority_pem=pair.certificate_pem,
                expires_s=member.expires_s,
                revocations=own.revocations if own is not None and fits else self._sign_revocations(_NOBODY),
            )
            save(identity.own_path(self.folder), made)
            return made

    def grant(self, role: Role, request_pem: str, known_as: str, device_id: str | None) -> Grant:
        """Return a certificate and what goes with it.

        Raises AuthorityUnusable, NotTrusted for a bad request, InvalidRequest if a member of another kind has the name.
        """
        own = self.own_credentials()
        others = {one.known_as for one in self._members() if one.role is not role and one.revoked_s is None}
        if known_as in others and known_as != own.known_as:
            kind = "device" if role is Role.HOST else "host"
            raise InvalidRequest(f"a {kind} of the fleet is called {known_as!r} already; choose another name")
        with self._locked():
            member, certificate_pem = self._issue(role, request_pem, known_as, device_id)
        return Grant(
            name=member.name,
            certificate_pem=certificate_pem,
            authority_pem=own.authority_pem,
            expires_s=member.expires_s,
            revocations=own.revocations,
        )

    def renewed(self, name: str, request_pem: str) -> tuple[str, float]:
        """Return (a certificate for a member's new key, its end). Recorded by `note_renewal`, once the member has it.

        Raises NotTrusted for somebody who is no member, or was revoked.
        """
        member = next((one for one in self._members() if one.name == name), None)
        if member is None or member.revoked_s is not None:
            raise NotTrusted(f"{name} has no certificate of this host's authority, or it was revoked")
        made = certificates.issue(self.pair(), request_pem, name, member.role, now_s=self._clock())
        return made, certificates.look_into(made).expires_s

    def note_renewal(self, name: str, certificate_pem: str) -> None:
        """Remember what a member has now."""
        found = certificates.look_into(certificate_pem)
        with self._locked():
            self._write_members(
                replace(one, serial=found.serial, expires_s=found.expires_s) if one.name == name else one
                for one in self._members()
            )

    def revoke(self, name: str) -> tuple[Member, ...]:
        """Revoke whoever goes by a name, or has it in the certificate; return them.

        Raises InvalidRequest if nobody in good standing does, or only this host itself.
        """
        own = self.own_credentials()
        with self._locked():
            members = self._members()
            good = [one for one in members if one.revoked_s is None]
            meant = tuple(one for one in good if name in (one.known_as, one.name) and one.name != own.name)
            if not meant and name in (own.known_as, own.name):
                raise InvalidRequest(
                    f"{name!r} is this host itself, which has the authority. If its key was stolen, so was the authority's: "
                    f"move {self.folder} away and enroll every board again."
                )
            if not meant:
                names = ", ".join(sorted({one.known_as for one in good}))
                raise InvalidRequest(f"{name!r} has no certificate of this host's authority; these have one: {names}")
            now = self._clock()
            self._write_members(replace(one, revoked_s=now) if one in meant else one for one in members)
            signed = self._sign_revocations(own.revocations.read())
            save(identity.own_path(self.folder), replace(own, revocations=signed))
        return meant

    def is_due(self, expires_s: float) -> bool:
        """Say whether a certificate that ends then should be renewed now."""
        return expires_s - self._clock() < identity.RENEW_BEFORE_S

    def _issue(self, role: Role, request_pem: str, known_as: str, device_id: str | None) -> tuple[Member, str]:
        members = self._members()
        former = [
            one
            for one in members
            if one.role is role and (one.device_id == device_id if role is Role.DEVICE else one.known_as == known_as)
        ]
        standing = next((one for one in former if one.revoked_s is None), None)
        if standing is not None:
            # The same name again: whatever is lost on the way, the former certificate goes on to be good.
            name = standing.name
        elif role is Role.DEVICE:
            # A revoked name stays refused for good, so the device gets another.
            name = f"{device_id}{f'-{len(former) + 1}' if former else ''}{DEVICE_SUFFIX}"
        else:
            name = f"{_label(known_as)}-{secrets.token_hex(4)}{HOST_SUFFIX}"
        certificate_pem = certificates.issue(self.pair(), request_pem, name, role, now_s=self._clock())
        found = certificates.look_into(certificate_pem)
        member = Member(
            name=name,
            role=role,
            known_as=known_as,
            device_id=device_id,
            serial=found.serial,
            expires_s=found.expires_s,
        )
        self._write_members([*(one for one in members if one.name != name), member])
        return member, certificate_pem

    def _sign_revocations(self, former: Revocations) -> SignedRevocations:
        """Return a list that counts more than the former, which may have come back from an agent after a loss here."""
        revoked = frozenset(one.name for one in self._members() if one.revoked_s is not None)
        document = Revocations(number=former.number + 1, names=former.names | revoked).to_document()
        return SignedRevocations(document=document, signature=certificates.sign(self.pair(), document))

    @property
    def _key_path(self) -> Path:
        return self.folder / "authority.json"

    @property
    def _members_path(self) -> Path:
        return self.folder / "members.json"

    def _members(self) -> tuple[Member, ...]:
        document = self._read(self._members_path)
        try:
            return tuple(Member(**{**entry, "role": Role(entry["role"])}) for entry in document["members"])
        except (KeyError, ValueError, TypeError) as error:
            raise self._damaged(self._members_path, error) from error

    def _write_members(self, members: Any) -> None:
        entries = [{**asdict(one), "role": one.role.value} for one in members]
        write_atomically(self._members_path, _json({"members": entries}), mode=0o600)

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            folder_mode = stat.S_IMODE(self.folder.stat().st_mode)
            mode = stat.S_IMODE(path.stat().st_mode)
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            if not self.exists:
                raise AuthorityUnusable(self._none) from None
            raise AuthorityUnusable(f"{path} is missing, so this authority cannot go on. {self._advice}") from None
        except (OSError, UnicodeDecodeError) as error:
            raise AuthorityUnusable(f"cannot read {path}: {error}. {self._advice}") from error
        if mode & 0o077 or folder_mode & 0o022:
            raise AuthorityUnusable(
                f"others may read {path} (mode {mode:04o}) or write into its folder (mode {folder_mode:04o}), which lets them "
                f"drive every board. If nobody did: chmod 600 {path}; chmod 700 {self.folder}. Else move {self.folder} away and "
                "enroll every board again."
            )
        try:
            document = json.loads(text)
            if document["schema"] != _SCHEMA:
                raise ValueError(f"its schema is {document['schema']!r}, this version reads {_SCHEMA}")
        except (ValueError, KeyError, TypeError) as error:
            raise self._damaged(path, error) from error
        return dict(document)

    def _damaged(self, path: Path, error: Exception) -> AuthorityUnusable:
        return AuthorityUnusable(f"{path} is damaged ({type(error).__name__}: {error}). {self._advice}")

    @property
    def _none(self) -> str:
        return f"this host has no authority ({self.folder} is empty): `host enroll` makes one with the first board"

    @property
    def _advice(self) -> str:
        return f"Restore {self.folder} from a backup, or move it away and enroll every board again."

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if not self.folder.exists():
            raise AuthorityUnusable(self._none)
        # The lock is a file of its own, since the others are replaced at every write.
        with (self.folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _label(text: str) -> str:
    """Return a text that may stand in a host name, 40 characters at most."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40] or "host"


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps({"schema": _SCHEMA, **document}, indent=1).encode()
