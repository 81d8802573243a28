"""`device-agent join HOST[:PORT] CODE`: the board gets its certificate from a host's authority."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path

from device_agent.contract.errors import InvalidRequest
from device_agent.contract.joining import Role
from device_agent.credentials import FILE_NAME, load
from device_agent.durable import make_folder
from device_agent.join_client import join, split_address
from device_agent.join_code import JoinCode
from device_agent.store import device_id


def join_host(
    host: str, code_words: list[str], *, store: Path, address: str | None, port: int, profile: str | None
) -> None:
    """Join and say what to do next. `code_words` is the code as the shell split it; `address` is where hosts will reach the
    agent.

    Raises what join_client.join does.
    """
    where = split_address(host)
    code = JoinCode.parse(" ".join(code_words))
    make_folder(store)
    path = store / FILE_NAME
    former = load(path) if path.exists() else None
    own = address or f"{_own_address(*where)}:{port}"
    identity, hostname = device_id(store), socket.gethostname()
    joined = join(
        where,
        code,
        path,
        role=Role.DEVICE,
        hostname=hostname,
        device_id=identity,
        own_address=own,
        profile=profile,
    )
    _give_to_owner(store)
    out = sys.stdout.write
    if joined.known_as is None:
        out(f"joined: the certificate is in {path}\n")
        out(f"the host did not answer at the end, so register the board there: host devices add NAME {own}\n")
    else:
        out(f"joined as {joined.known_as}: the certificate is in {path}\n")
    until = time.strftime("%Y-%m-%d", time.gmtime(joined.grant.expires_s))
    out(f"it ends on {until}; hosts renew it before, whenever they use the device\n")
    if former is not None and former.authority_pem != joined.grant.authority_pem:
        out("the board belonged to another host's authority before: restart the agent if it runs\n")
    elif former is None:
        out("an agent that runs already has to be restarted, to use TLS\n")
    out(f"serve with: device-agent serve --listen 0.0.0.0:{own.rpartition(':')[2]}\n")


def _give_to_owner(store: Path) -> None:
    """Leave the files of a store to the user that the agent runs as, where root joins for it."""
    owner = store.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        for name in (FILE_NAME, "device-id"):
            os.chown(store / name, owner.st_uid, owner.st_gid)


def _own_address(host: str, port: int) -> str:
    """Return the address of this board on the way to the host. Nothing is sent: a datagram socket only looks up the route."""
    try:
        family, kind, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(where)
            found = str(probe.getsockname()[0])
    except OSError as error:
        raise InvalidRequest(
            f"there is no way from here to {host}: {error.strerror or error}. Compare the address with what `host enroll` shows."
        ) from None
    return f"[{found}]" if ":" in found else found
