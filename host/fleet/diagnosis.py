"""Why no call reaches an agent although something answers at its address: it speaks TLS or does not, or one side does not
trust the other.

gRPC says little more than "socket closed" then. This asks once more by hand, without sending anything that matters.
"""

from __future__ import annotations

import os
import socket
import ssl
import time
from contextlib import suppress
from dataclasses import dataclass

from device_agent.contract.errors import NotTrusted
from device_agent.contract.joining import DEVICE_SUFFIX, HOST_SUFFIX
from host.fleet import identity
from host.fleet.identity import Peer

_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What answered: its certificate (DER), None if it does not speak TLS; and whether it hung up when it had seen ours."""

    certificate: bytes | None
    refused: bool = False


def ask(address: str, peer: Peer | None, *, timeout_s: float = _TIMEOUT_S) -> Answer | None:
    """Return what answers at HOST:PORT; None if nothing does."""
    host, _, port = address.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Nothing is sent, so nobody needs to be trusted yet; the certificate is looked at afterwards.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    if peer is not None:
        _show(context, peer)
    try:
        plain = socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s)
    except OSError:
        return None
    with plain:
        try:
            with context.wrap_socket(plain, server_hostname=peer.name if peer else "boardfit") as secured:
                certificate = secured.getpeercert(binary_form=True)
                try:
                    # In TLS 1.3 the client is done before the server looks at its certificate. Then a gRPC server speaks
                    # first, or closes without an alert.
                    refused = not secured.recv(1)
                except TimeoutError:
                    refused = False
                except OSError:
                    refused = True
                return Answer(certificate=certificate, refused=refused)
        except ssl.SSLError:
            return Answer(certificate=None)
        except OSError:
            return None


def explain(address: str, peer: Peer | None, name: str | None = None) -> NotTrusted | None:
    """Return the error in words if the two sides disagree about TLS at HOST:PORT; None if that is not it.

    `name` is what the device there is called, or is going to be.
    """
    answer = ask(address, peer)
    if answer is None:
        return None
    if peer is None:
        return None if answer.certificate is None else _unexpected(address, answer.certificate, name)
    again = f"Enroll it again: {_how_to_enroll(name)}."
    if answer.certificate is None:
        return NotTrusted(
            f"the agent at {address} does not speak TLS, but this device joined with it, so nothing is sent. Was the board's "
            f"store replaced, or does something else listen there? {again}"
        )
    return _of_certificate(address, peer, answer, again, name or "NAME")


def _how_to_enroll(name: str | None) -> str:
    return f"`host enroll{f' --name {name}' if name else ''}` here, `device-agent join` on the board"


def _unexpected(address: str, certificate: bytes, name: str | None) -> NotTrusted:
    """Return the error for an agent that was called without TLS and speaks it."""
    own = identity.load_own()
    said = f"the agent at {address} speaks TLS, and this host knows no certificate for it."
    if own is not None:
        from host.fleet.authority import certificates

        if certificates.is_issued_by(certificate, own.authority_pem):
            add = f"host devices add {name or 'NAME'} {address} --force"
            return NotTrusted(f"{said} It joined this host's authority: `{add}`.")
    return NotTrusted(f"{said} Enroll it: {_how_to_enroll(name)}.")


def device_name_at(address: str) -> str | None:
    """Return the name in the certificate of the agent at HOST:PORT, unverified; None if nothing there speaks TLS as a device.

    To be used as the name to expect: a channel then verifies that it is our authority's.
    """
    answer = ask(address, None)
    if answer is None or answer.certificate is None:
        return None
    from host.fleet.authority import certificates

    with suppress(ValueError):
        names = certificates.look_into(answer.certificate).names
        if len(names) == 1 and names[0].endswith(DEVICE_SUFFIX):
            return names[0]
    return None


def _of_certificate(address: str, peer: Peer, answer: Answer, again: str, known_as: str) -> NotTrusted | None:
    from host.fleet.authority import certificates

    assert answer.certificate is not None
    own = peer.credentials
    try:
        found = certificates.look_into(answer.certificate)
    except ValueError as error:
        return NotTrusted(f"the agent at {address} shows a damaged certificate ({error}). {again}")
    if not certificates.is_issued_by(answer.certificate, own.authority_pem):
        return NotTrusted(f"the agent at {address} shows a certificate that is not of this host's authority. {again}")
    if found.names != (peer.name,):
        shown = ", ".join(found.names) or "no name"
        return NotTrusted(
            f"the agent at {address} is another device ({shown}) than the registered one ({peer.name}). If the "
            f"addresses changed: host devices add {known_as} {address} --force"
        )
    if found.expires_s < time.time():
        ended, now = (time.strftime("%Y-%m-%d", time.gmtime(at)) for at in (found.expires_s, time.time()))
        return NotTrusted(f"the certificate of the agent at {address} ended on {ended}, and here it is {now}. {again}")
    if answer.refused and not own.name.endswith(HOST_SUFFIX):
        return NotTrusted(
            f"the agent at {address} lets in hosts only, and the certificate here is for {own.name}. {again}"
        )
    if answer.refused:
        until = time.strftime("%Y-%m-%d", time.gmtime(own.expires_s))
        return NotTrusted(
            f"the agent at {address} refuses this host's certificate. Either the clock of the board is past {until} (look with "
            f"`date` there), or it has joined another host's authority since. {again}"
        )
    return None


def _show(context: ssl.SSLContext, peer: Peer) -> None:
    """Give the context this host's certificate. It takes files only, and a private key must not lie about in one."""
    descriptor = os.memfd_create("boardfit")
    try:
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write((peer.credentials.key_pem + peer.credentials.certificate_pem).encode())
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
