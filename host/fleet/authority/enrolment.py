"""The short time in which a board, or another host, may join: a server for one code."""

from __future__ import annotations

import hmac
import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Any

import grpc

from device_agent.codec import joining
from device_agent.contract.errors import AgentInternalError, BoardfitError, InvalidRequest, NotTrusted, status_of
from device_agent.contract.joining import MAX_PEM_CHARACTERS, Grant, JoinRequest, Role
from device_agent.join_code import JoinCode
from device_agent.wire.v1 import join_pb2 as pb
from device_agent.wire.v1 import join_pb2_grpc
from host.fleet.authority import certificates
from host.fleet.authority.keeper import Authority

#: Wrong codes before the right one is void: a person's slips are caught by its checksum before they get here.
ATTEMPTS = 5
#: A board further ahead than this would take this host's certificates for out of date too soon.
AHEAD_S = 86_400.0
#: Time for the last answer to leave.
_GRACE_S = 2.0

_SERVER_OPTIONS = (
    # Two enrolments must not share a port in silence.
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 4 * MAX_PEM_CHARACTERS),
)

_log = logging.getLogger(__name__)


class End(Enum):
    """How an enrolment ended."""

    JOINED = "joined"
    EXPIRED = "expired"
    VOID = "void"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """`request` and `grant` are those of who joined under the name `known_as`; of who got a certificate and never
    confirmed, if it expired.
    """

    end: End
    known_as: str | None = None
    request: JoinRequest | None = None
    grant: Grant | None = None


class Enrolment:
    """Serves one code until somebody has joined with it, it has expired, or it was guessed at too often.

    `name_for(request)` returns what the joiner will be called and raises InvalidRequest to refuse it; `register(known_as,
    request, grant)` is called once it has its certificate; `complete(grant)` may add to what it gets. They are called one
    at a time.
    """

    def __init__(
        self,
        authority: Authority,
        role: Role,
        *,
        name_for: Callable[[JoinRequest], str],
        register: Callable[[str, JoinRequest, Grant], None],
        complete: Callable[[Grant], Grant] = lambda grant: grant,
        valid_s: float = 900.0,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._authority = authority
        self._role = role
        self._name_for = name_for
        self._register = register
        self._complete = complete
        self._clock = clock
        self._monotonic = monotonic
        self._end_s = monotonic() + valid_s
        self._pair = certificates.new_enrolment()
        self.code = JoinCode.make(ssl.PEM_cert_to_DER_cert(self._pair.certificate_pem))
        self._wrong = 0
        self._given: tuple[str, JoinRequest, Grant] | None = None
        self._outcome: Outcome | None = None
        self._lock = threading.Lock()
        self._done = threading.Event()
        self._server = grpc.server(
            ThreadPoolExecutor(max_workers=4, thread_name_prefix="enrolment"), options=_SERVER_OPTIONS
        )
        join_pb2_grpc.add_EnrolmentServicer_to_server(_Service(self), self._server)

    def start(self, listen: str) -> int:
        """Listen on ADDRESS:PORT and return the port. Raises InvalidRequest if that is not possible."""
        pair = (self._pair.key_pem.encode(), self._pair.certificate_pem.encode())
        try:
            port = self._server.add_secure_port(listen, grpc.ssl_server_credentials([pair]))
        except RuntimeError:
            port = 0
        if not port:
            raise InvalidRequest(
                f"cannot listen on {listen}: the port is in use, or the address is not this machine's; use --listen"
            )
        self._server.start()
        return int(port)

    def __enter__(self) -> Enrolment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.stop(_GRACE_S).wait()

    def wait(self) -> Outcome:
        """Return when it is over, one way or another."""
        while not self._done.wait(max(0.0, min(self._end_s - self._monotonic(), 1.0))):
            if self._monotonic() >= self._end_s:
                break
        with self._lock:
            if self._outcome is None:
                known_as, request, grant = self._given or (None, None, None)
                self._outcome = Outcome(end=End.EXPIRED, known_as=known_as, request=request, grant=grant)
            return self._outcome

    def join(self, request: JoinRequest) -> Grant:
        """Return a certificate. Raises NotTrusted for a wrong or dead code, InvalidRequest for who should not have it."""
        with self._lock:
            self._check(request.secret)
            if request.role is not self._role:
                wanted = (
                    "a board: type `device-agent join`"
                    if self._role is Role.DEVICE
                    else "a host: type `host enroll accept`"
                )
                raise InvalidRequest(f"this code is for {wanted} there")
            if self._given is not None and self._given[1].device_id != request.device_id:
                raise NotTrusted("this code was used already by another board; start `host enroll` again for this one")
            ahead_s = request.clock_s - self._clock()
            if ahead_s > AHEAD_S:
                shown = time.strftime("%Y-%m-%d %H:%M", time.gmtime(request.clock_s))
                raise InvalidRequest(
                    f"the clock there says {shown} UTC, {ahead_s / 86_400:.0f} days ahead of the host's, and would take the "
                    "host's certificate for out of date. Set it (`sudo timedatectl set-ntp true`) and join again with the same "
                    "code."
                )
            known_as = self._name_for(request)
            grant = self._complete(
                self._authority.grant(request.role, request.request_pem, known_as, request.device_id)
            )
            self._given = known_as, request, grant
            return grant

    def confirm(self, secret: str) -> str:
        """Register who joined and return its name. The code is used up."""
        with self._lock:
            self._check(secret)
            if self._given is None:
                raise InvalidRequest("nothing to confirm: no certificate was given with this code yet")
            known_as, request, grant = self._given
            self._register(known_as, request, grant)
            self._outcome = Outcome(end=End.JOINED, known_as=known_as, request=request, grant=grant)
            self._done.set()
            return known_as

    def _check(self, secret: str) -> None:
        if self._monotonic() >= self._end_s:
            raise NotTrusted("this code has expired; start `host enroll` again")
        if self._outcome is not None:
            how = "used already" if self._outcome.end is End.JOINED else f"refused {ATTEMPTS} times and is void"
            raise NotTrusted(f"this code was {how}; start `host enroll` again")
        if not hmac.compare_digest(secret.encode(), self.code.secret.encode()):
            self._wrong += 1
            left = ATTEMPTS - self._wrong
            if left <= 0:
                self._outcome = Outcome(end=End.VOID)
                self._done.set()
            raise NotTrusted(f"the code is wrong; {left} more attempts before it is void")


class _Service(join_pb2_grpc.EnrolmentServicer):  # type: ignore[misc]  # generated code is untyped
    def __init__(self, enrolment: Enrolment) -> None:
        self._enrolment = enrolment

    def Join(self, request: pb.JoinRequest, context: Any) -> pb.Grant:
        with _errors_to(context):
            return joining.grant_to_pb(self._enrolment.join(joining.join_request_from_pb(request)))

    def Confirm(self, request: pb.ConfirmRequest, context: Any) -> pb.ConfirmResponse:
        with _errors_to(context):
            return joining.confirmed_to_pb(self._enrolment.confirm(joining.confirm_from_pb(request)))


@contextmanager
def _errors_to(context: Any) -> Iterator[None]:
    """End the call with the contract's error, if there is one."""
    try:
        yield
        return
    except BoardfitError as error:
        failure = error
    except Exception as error:
        _log.exception("an enrolment failed")
        failure = AgentInternalError(f"the host failed: {type(error).__name__}: {error}")
    status, code = status_of(failure)
    context.set_trailing_metadata((("boardfit-error", code),))
    context.abort(grpc.StatusCode[status], str(failure))
