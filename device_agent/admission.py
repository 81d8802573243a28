"""Who may call an agent that has joined: hosts of its authority that were not revoked. Asked at every call, since a connection
outlives a revocation; it costs a lookup in what the handshake left (some 30 us).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping

from device_agent.contract.errors import InvalidRequest, NotTrusted
from device_agent.contract.joining import HOST_SUFFIX, SignedRevocations
from device_agent.credentials import LiveCredentials
from device_agent.keys import in_child

_log = logging.getLogger(__name__)


class Admission:
    """The gate of one agent, and its credentials' renewal. Lives in one event loop."""

    def __init__(self, live: LiveCredentials) -> None:
        self._live = live
        self._key: str | None = (
            None  # made for a renewal that has not come yet; lost with the process, which costs nothing
        )
        self._lock = asyncio.Lock()

    def check(self, peer: Mapping[str, Iterable[bytes]]) -> str:
        """Return the calling host's name; `peer` is gRPC's authentication context. Raises NotTrusted.

        gRPC has verified already that the certificate is our authority's and in date.
        """
        names = [name.decode(errors="replace") for name in peer.get("x509_subject_alternative_name", ())]
        if len(names) != 1 or not names[0].endswith(HOST_SUFFIX):
            shown = ", ".join(names) or "no name"
            raise NotTrusted(
                f"only hosts may drive this device, and the certificate is for {shown}. A workstation gets one with "
                "`host enroll host NAME` on the host that has the authority."
            )
        if names[0] in self._live.revoked.names:
            raise NotTrusted(
                f"the host {names[0].removesuffix(HOST_SUFFIX)} was revoked and may not use this device any more; "
                "the host that has the authority can enroll it again"
            )
        return names[0]

    async def exchange(self, theirs: SignedRevocations) -> SignedRevocations | None:
        """Take their list of revoked names if it is newer, return ours if that is. NotTrusted if it was not signed by our
        authority.
        """
        async with self._lock:
            ours = self._live.credentials.revocations
            number = theirs.read().number
            if number < self._live.revoked.number:
                return ours
            if number > self._live.revoked.number:
                await in_child(
                    "check-signature",
                    authority=self._live.credentials.authority_pem,
                    document=theirs.document.hex(),
                    signature=theirs.signature.hex(),
                )
                self._live.install(revocations=theirs)
                _log.info("revoked by the authority: %s", ", ".join(sorted(self._live.revoked.names)) or "nobody")
            return None

    async def new_request(self) -> str:
        """Make a new private key and return the request for its certificate. RuntimeUnavailable if the board cannot make keys."""
        async with self._lock:
            made = await in_child("new-request", name=self._live.credentials.name)
            self._key = made["key"]
            return made["request"]

    async def install(self, certificate_pem: str, expires_s: float) -> None:
        """Use the certificate for the key that was made last, from the next connection on.

        NotTrusted if it does not fit; InvalidRequest if no key waits for one.
        """
        async with self._lock:
            if self._key is None:
                raise InvalidRequest("no certificate was asked for since the agent started; ask again")
            credentials = self._live.credentials
            await in_child(
                "check-certificate",
                key=self._key,
                certificate=certificate_pem,
                authority=credentials.authority_pem,
                name=credentials.name,
            )
            self._live.install(key_pem=self._key, certificate_pem=certificate_pem, expires_s=expires_s)
            self._key = None
            _log.info("the certificate was renewed")
