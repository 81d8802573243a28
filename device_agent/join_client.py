"""The joiner's side of joining, for a board and for a second workstation. Not part of the supervisor: it imports ssl."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc

from device_agent import __version__
from device_agent.codec import joining
from device_agent.contract.errors import (
    BoardfitError,
    DeviceUnreachable,
    InvalidRequest,
    NotTrusted,
    StorageFull,
    error_from,
)
from device_agent.contract.joining import ENROLMENT_NAME, ENROLMENT_PORT, Grant, JoinRequest, Role
from device_agent.credentials import Credentials, save
from device_agent.join_code import JoinCode
from device_agent.keys import key_maker
from device_agent.wire.v1 import join_pb2_grpc

_TIMEOUT_S = 20.0
#: A lost answer costs one more call, with the same code and the same key.
_ATTEMPTS = 3
_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """`known_as` is what people call the joiner, None if the host did not confirm; `grant` what it got."""

    known_as: str | None
    grant: Grant


def split_address(text: str) -> tuple[str, int]:
    """Return host and port of HOST[:PORT]. Raises InvalidRequest."""
    match = re.fullmatch(r"(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[^\s:/\[\]]+)(?::(?P<port>[0-9]{1,5}))?", text)
    port = ENROLMENT_PORT if match is None or match["port"] is None else int(match["port"])
    if match is None or not 1 <= port <= 65535:
        raise InvalidRequest(f"{text!r} is not HOST or HOST:PORT; use what `host enroll` shows")
    return match["host"].strip("[]"), port


def join(
    address: tuple[str, int],
    code: JoinCode,
    path: Path,
    *,
    role: Role,
    hostname: str,
    device_id: str | None = None,
    own_address: str | None = None,
    profile: str | None = None,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> Joined:
    """Get a certificate from the host at `address` and keep it in `path` together with a new private key.

    A device gives its id, the address where it will listen, and its profile if one matches. Whatever fails, the former
    credentials in `path` stay. Raises DeviceUnreachable, NotTrusted, InvalidRequest, RuntimeUnavailable (no way to make a
    key), StorageFull.
    """
    certificate = _certificate_of(*address)
    if not code.fits(ssl.PEM_cert_to_DER_cert(certificate)):
        raise NotTrusted(
            f"{_text(address)} is not the host that made this code, or `host enroll` was started again there since. Nothing was "
            "sent. Compare address and code with what `host enroll` shows now."
        )
    maker = key_maker()
    key_pem, request_pem = maker.new_request(device_id or hostname)
    request = JoinRequest(
        role=role,
        secret=code.secret,
        request_pem=request_pem,
        hostname=hostname,
        version=__version__,
        clock_s=clock(),
        device_id=device_id,
        address=own_address,
        profile=profile,
    )
    options = (("grpc.ssl_target_name_override", ENROLMENT_NAME), ("grpc.enable_http_proxy", 0))
    trusted = grpc.ssl_channel_credentials(certificate.encode())
    with grpc.secure_channel(_text(address), trusted, options=options) as channel:
        stub = join_pb2_grpc.EnrolmentStub(channel)
        message = joining.join_request_to_pb(request)
        grant = joining.grant_from_pb(_call(stub.Join, message, address, sleep))
        maker.check_certificate(key_pem, grant.certificate_pem, grant.authority_pem, grant.name)
        maker.check_signature(grant.authority_pem, grant.revocations.document, grant.revocations.signature)
        credentials = Credentials(
            name=grant.name,
            known_as=hostname,
            key_pem=key_pem,
            certificate_pem=grant.certificate_pem,
            authority_pem=grant.authority_pem,
            expires_s=grant.expires_s,
            revocations=grant.revocations,
        )
        try:
            save(path, credentials)
        except OSError as error:
            raise StorageFull(
                f"cannot write {path}: {error}. The former certificate, if there was one, is untouched. Mend that and join "
                "again; the code is good until it expires."
            ) from error
        try:
            known_as = joining.confirmed_from_pb(
                _call(stub.Confirm, joining.confirm_to_pb(code.secret), address, sleep)
            )
        except BoardfitError:
            return Joined(known_as=None, grant=grant)
    with suppress(OSError):  # the name is for people; the certificate is there
        save(path, replace(credentials, known_as=known_as))
    return Joined(known_as=known_as, grant=grant)


def _certificate_of(host: str, port: int) -> str:
    """Return the certificate that is shown there, unverified."""
    try:
        return ssl.get_server_certificate((host, port), timeout=_TIMEOUT_S)
    except ssl.SSLError as error:
        raise NotTrusted(
            f"{_text((host, port))} does not answer in TLS ({error.reason or error}): is it the port that `host enroll` shows?"
        ) from None
    except OSError as error:
        raise DeviceUnreachable(
            f"no host waits at {_text((host, port))} ({error.strerror or error}). Is `host enroll` still running there, is the "
            "address right, and does a firewall let its port through?"
        ) from None


def _call(method: Any, message: Any, address: tuple[str, int], sleep: Callable[[float], None]) -> Any:
    """Make a call, again where the link broke. Raises the contract's errors."""
    for attempt in range(_ATTEMPTS):
        try:
            return method(message, timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            named = dict(error.trailing_metadata() or ()).get("boardfit-error")
            if named is None and error.code() is grpc.StatusCode.UNAVAILABLE:
                if attempt + 1 < _ATTEMPTS:
                    sleep(_AGAIN_S)
                    continue
                raise DeviceUnreachable(
                    f"the connection to {_text(address)} broke ({error.details()}). Is `host enroll` still running there?"
                ) from None
            raise error_from(error.code().name, named, error.details() or "no details") from None
    raise AssertionError("the loop returns or raises")


def _text(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
