"""A fleet with certificates in a folder: its authority, its host, further hosts, and devices."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from device_agent.contract.joining import Role
from device_agent.credentials import FILE_NAME, Credentials, save
from host.fleet.authority import certificates
from host.fleet.authority.keeper import Authority
from host.fleet.identity import Peer

DEVICE_ID = "0123456789abcdef" * 2


@dataclass
class Fleet:
    """`authority` lies in `folder`, where host.fleet.identity finds it."""

    folder: Path
    authority: Authority

    @classmethod
    def make(cls, folder: Path) -> Fleet:
        authority = Authority(folder)
        authority.create()
        return cls(folder, authority)

    def member(self, role: Role, known_as: str, device_id: str | None = None) -> Credentials:
        """Return what somebody has after joining."""
        key_pem, request_pem = certificates.new_request(known_as)
        grant = self.authority.grant(role, request_pem, known_as, device_id)
        return Credentials(
            name=grant.name,
            known_as=known_as,
            key_pem=key_pem,
            certificate_pem=grant.certificate_pem,
            authority_pem=grant.authority_pem,
            expires_s=grant.expires_s,
            revocations=grant.revocations,
        )

    def device(self, store: Path, device_id: str = DEVICE_ID) -> Credentials:
        """Let the store of an agent have joined; return what it has."""
        store.mkdir(parents=True, exist_ok=True)
        (store / "device-id").write_text(device_id)
        credentials = self.member(Role.DEVICE, f"board-{device_id[:4]}", device_id)
        save(store / FILE_NAME, credentials)
        return credentials

    def forged(self, name: str, role: Role, *, life_s: float = 86_400.0) -> Credentials:
        """Return credentials under any name, for any role and of any age: what the authority would not give."""
        own = self.authority.own_credentials()
        key_pem, request_pem = certificates.new_request(name)
        made = certificates.issue(self.authority.pair(), request_pem, name, role, now_s=time.time(), life_s=life_s)
        return Credentials(
            name=name,
            known_as=name,
            key_pem=key_pem,
            certificate_pem=made,
            authority_pem=own.authority_pem,
            expires_s=time.time() + life_s,
            revocations=own.revocations,
        )

    def peer(self, name: str, credentials: Credentials | None = None) -> Peer:
        """Return what a client needs for the device of that name, as this host or as another."""
        return Peer(name=name, credentials=credentials or self.authority.own_credentials())
