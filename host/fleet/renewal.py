"""What a host does beside its work whenever it opens an agent that has joined: pass on who was revoked, renew what ends soon.

Neither may cost the work itself: a failure is logged, and it is tried again the next time.
"""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

from device_agent.contract.errors import BoardfitError, DeviceBusy
from host.fleet import identity

if TYPE_CHECKING:
    from host.fleet.client import AgentClient

_log = logging.getLogger(__name__)


def tend(client: AgentClient, folder: Path | None = None) -> None:
    """Exchange lists of revoked names with the agent, and renew its certificate if less than a third of its life is left."""
    if client.peer is None:
        return
    try:
        exchange_revocations(client, folder)
    except (BoardfitError, OSError) as error:
        _log.warning("the list of revoked names did not reach %s: %s", client.address, error)
    try:
        renew(client, folder)
    except DeviceBusy as error:
        _log.debug("the certificate of the agent at %s is renewed later: %s", client.address, error)
    except (BoardfitError, OSError) as error:
        _log.warning("the certificate of the agent at %s was not renewed: %s", client.address, error)


def exchange_revocations(client: AgentClient, folder: Path | None = None) -> None:
    """Bring host and agent to the newer of their lists. Raises the contract's errors."""
    own = identity.load_own(folder)
    if own is not None:
        newer = client.exchange_revocations(own.revocations)
        if newer is not None:
            identity.keep_revocations(newer, folder)


def renew(client: AgentClient, folder: Path | None = None, *, always: bool = False) -> bool:
    """Renew the agent's certificate if it is due, or `always`; say whether it was. Only the host with the authority can.

    Raises the contract's errors, AuthorityUnusable.
    """
    folder = folder or identity.default_folder()
    if client.peer is None or not (folder / "authority.json").exists():
        return False
    if not always and not _is_due(client.peer.name, folder):
        return False
    from host.fleet.authority.keeper import Authority

    authority = Authority(folder)
    certificate_pem, expires_s = authority.renewed(client.peer.name, client.request_certificate())
    client.install_certificate(certificate_pem, expires_s)
    authority.note_renewal(client.peer.name, certificate_pem)
    return True


def _is_due(name: str, folder: Path) -> bool:
    """Say whether a member's certificate should be renewed, without loading what makes certificates."""
    try:
        entries = json.loads((folder / "members.json").read_text(encoding="utf-8"))["members"]
        ends = [entry["expires_s"] for entry in entries if entry["name"] == name and entry["revoked_s"] is None]
    except (OSError, ValueError, KeyError, TypeError):
        return True  # the authority says what is wrong with it
    return bool(ends) and ends[-1] - time.time() < identity.RENEW_BEFORE_S
