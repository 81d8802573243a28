"""Joining, over a real connection on loopback: what gets a certificate, and what does not."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from trust import DEVICE_ID, Fleet

from device_agent.contract.errors import DeviceUnreachable, InvalidRequest, NotTrusted
from device_agent.contract.joining import Role
from device_agent.credentials import FILE_NAME, load
from device_agent.join_client import Joined, join, split_address
from device_agent.join_code import JoinCode
from host.fleet.authority import certificates
from host.fleet.authority.enrolment import ATTEMPTS, End, Enrolment
from host.fleet.authority.fleet import Registrar
from host.fleet.authority.keeper import Authority, AuthorityUnusable
from host.fleet.inventory import Inventory, RegisteredDevice

OTHER_ID = "f" * 32


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet.make(tmp_path / "authority")


@pytest.fixture
def inventory(tmp_path: Path) -> Inventory:
    return Inventory(tmp_path / "devices.json")


class Waiting:
    """An enrolment that waits, and a board that knows its code."""

    def __init__(self, enrolment: Enrolment, store: Path) -> None:
        self.enrolment, self.store = enrolment, store
        self.address = ("127.0.0.1", enrolment.start("127.0.0.1:0"))

    def join(self, code: JoinCode | None = None, **options: Any) -> Joined:
        given = {
            "role": Role.DEVICE,
            "hostname": "raspberrypi",
            "device_id": DEVICE_ID,
            "own_address": "192.0.2.7:50051",
            "profile": "pi4",
            "sleep": lambda _: None,
            **options,
        }
        return join(self.address, code or self.enrolment.code, self.store / FILE_NAME, **given)


Wait = Callable[..., Waiting]


@pytest.fixture
def waiting(fleet: Fleet, inventory: Inventory, tmp_path: Path) -> Iterator[Wait]:
    with ExitStack() as stack:

        def start(*, role: Role = Role.DEVICE, name: str | None = None, force: bool = False, **options: Any) -> Waiting:
            registrar = Registrar(inventory, name=name, force=force)
            callbacks = {"name_for": registrar.name_for, "register": registrar.register, **options}
            enrolment = stack.enter_context(Enrolment(fleet.authority, role, **callbacks))
            return Waiting(enrolment, tmp_path / "store")

        yield start


def test_a_board_joins(waiting: Wait, fleet: Fleet, inventory: Inventory, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    here = waiting()
    joined = here.join(JoinCode.parse(str(here.enrolment.code).lower().replace("-", " ")))
    assert joined.known_as == "raspberrypi"
    outcome = here.enrolment.wait()
    assert (outcome.end, outcome.known_as) == (End.JOINED, "raspberrypi")
    kept = load(here.store / FILE_NAME)
    assert kept is not None
    assert kept.name == f"{DEVICE_ID}.device.boardfit"
    assert inventory.devices() == (
        RegisteredDevice(
            name="raspberrypi",
            address="192.0.2.7:50051",
            device_id=DEVICE_ID,
            profile="pi4",
            tls_name=kept.name,
            tls_ca=certificates.fingerprint(kept.authority_pem),
        ),
    )
    assert kept.key_pem not in (fleet.folder / "members.json").read_text()
    assert here.enrolment.code.secret not in caplog.text
    with pytest.raises(NotTrusted, match="used already"):
        here.join()


def test_a_certificate_is_good_in_1970_and_ends_after_a_year(waiting: Wait) -> None:
    from cryptography import x509

    joined = waiting().join()
    certificate = x509.load_pem_x509_certificate(joined.grant.certificate_pem.encode())
    authority = x509.load_pem_x509_certificate(joined.grant.authority_pem.encode())
    assert certificate.not_valid_before_utc.timestamp() == authority.not_valid_before_utc.timestamp() == 0
    assert authority.not_valid_after_utc.year == 9999
    assert 364 < (joined.grant.expires_s - time.time()) / 86_400 < 366


def test_wrong_codes_make_the_right_one_void(waiting: Wait) -> None:
    here = waiting()
    wrong = replace(here.enrolment.code, secret="0" * 12)
    for left in reversed(range(ATTEMPTS)):
        with pytest.raises(NotTrusted, match=f"the code is wrong; {left} more"):
            here.join(wrong)
    assert here.enrolment.wait().end is End.VOID
    with pytest.raises(NotTrusted, match="is void"):
        here.join()
    assert not (here.store / FILE_NAME).exists()


def test_a_code_expires(waiting: Wait) -> None:
    now = [0.0]
    here = waiting(valid_s=900.0, monotonic=lambda: now[0])
    now[0] = 900.0
    with pytest.raises(NotTrusted, match="has expired"):
        here.join()
    assert here.enrolment.wait().end is End.EXPIRED


def test_another_host_is_not_told_the_secret(waiting: Wait) -> None:
    here, other = waiting(), waiting()
    heard: list[str] = []
    here.enrolment.join = lambda request: heard.append(request.secret)  # type: ignore[method-assign,assignment,func-returns-value]
    with pytest.raises(NotTrusted, match="is not the host that made this code"):
        here.join(other.enrolment.code)
    assert heard == []


def test_a_clock_in_1970_is_fine_and_one_far_ahead_is_not(waiting: Wait) -> None:
    here = waiting()
    with pytest.raises(InvalidRequest, match=r"30 days ahead.*timedatectl"):
        here.join(clock=lambda: time.time() + 30 * 86_400 + 60)
    assert here.join(clock=lambda: 12.0).known_as == "raspberrypi"


def test_a_code_for_a_board_is_not_for_a_host_and_the_reverse(waiting: Wait) -> None:
    with pytest.raises(InvalidRequest, match="device-agent join"):
        waiting().join(role=Role.HOST, device_id=None, own_address=None)
    with pytest.raises(InvalidRequest, match="host enroll accept"):
        waiting(role=Role.HOST).join()


def test_a_lost_answer_costs_nothing(waiting: Wait, fleet: Fleet, inventory: Inventory) -> None:
    here = waiting()
    original = here.enrolment.confirm
    here.enrolment.confirm = lambda _: 1 / 0  # type: ignore[method-assign,assignment,return-value]
    assert here.join().known_as is None
    assert inventory.devices() == ()
    here.enrolment.confirm = original  # type: ignore[method-assign]
    with pytest.raises(NotTrusted, match="another board"):
        here.join(device_id=OTHER_ID)
    assert here.join().known_as == "raspberrypi"
    # The same name, so that either certificate is good.
    assert [member.name for member in fleet.authority.members() if member.role is Role.DEVICE] == [
        f"{DEVICE_ID}.device.boardfit"
    ]


def test_whoever_has_the_name_keeps_it(waiting: Wait, inventory: Inventory) -> None:
    inventory.add(RegisteredDevice(name="raspberrypi", address="192.0.2.1:50051", device_id=OTHER_ID, tags=("lab",)))
    assert waiting().join().known_as == "raspberrypi-2"
    with pytest.raises(InvalidRequest, match=r"another device, at 192\.0\.2\.1"):
        waiting(name="raspberrypi").join()
    with pytest.raises(InvalidRequest, match="registered as 'raspberrypi-2' already"):
        waiting(name="pi4-9").join()
    inventory.add(replace(inventory.get("raspberrypi-2"), name="second"), replace=True)
    assert waiting(name="second").join().known_as == "second", "a board that has two names may keep either"
    assert waiting().join(device_id=OTHER_ID).known_as == "raspberrypi"
    assert inventory.get("raspberrypi").tags == ("lab",)


def test_a_revoked_board_that_joins_again_gets_another_name(waiting: Wait, fleet: Fleet) -> None:
    first = waiting().join().grant
    fleet.authority.revoke("raspberrypi")
    again = waiting().join().grant
    assert again.name == f"{DEVICE_ID}-2.device.boardfit"
    assert again.revocations.read().names == {first.name}


def test_nobody_there(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    code = JoinCode.make(b"x")
    with pytest.raises(DeviceUnreachable, match="Is `host enroll` still running there"):
        join(("127.0.0.1", port), code, tmp_path / FILE_NAME, role=Role.DEVICE, hostname="x", device_id=DEVICE_ID)


@pytest.mark.parametrize("address", ["", "host:", "host:0", "host:70000", "a b", "host:port"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidRequest, match="is not HOST"):
        split_address(address)


def test_addresses() -> None:
    assert split_address("host") == ("host", 50052)
    assert split_address("[fe80::1]:7") == ("fe80::1", 7)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda folder: (folder / "authority.json").write_bytes(b"{"), "is damaged"),
        (lambda folder: (folder / "authority.json").write_bytes(b'{"schema": 1, "key_pem": "x"}'), "is damaged"),
        (lambda folder: (folder / "authority.json").unlink(), "is missing"),
        (lambda folder: (folder / "members.json").write_bytes(b'{"schema": 1, "members": [{}]}'), "is damaged"),
        (lambda folder: (folder / "members.json").unlink(), "is missing"),
        (lambda folder: (folder / "authority.json").chmod(0o644), "mode 0644.*chmod 600"),
        (lambda folder: folder.chmod(0o777), "mode 0777.*chmod 700"),
    ],
)
def test_an_authority_that_cannot_be_trusted_gives_nothing(
    fleet: Fleet, harm: Callable[[Path], object], says: str
) -> None:
    fleet.member(Role.DEVICE, "board", DEVICE_ID)
    harm(fleet.folder)
    with pytest.raises(AuthorityUnusable, match=says):
        fleet.member(Role.DEVICE, "board", DEVICE_ID)
    with pytest.raises(AuthorityUnusable, match=says):
        fleet.authority.create()


def test_no_authority_is_said_in_words(tmp_path: Path) -> None:
    nothing = Authority(tmp_path / "nothing")
    for call in (nothing.members, nothing.own_credentials, lambda: nothing.revoke("x")):
        with pytest.raises(AuthorityUnusable, match="has no authority"):
            call()


def test_the_host_renews_its_own_in_the_last_third(fleet: Fleet) -> None:
    now = [time.time()]
    authority = Authority(fleet.folder, clock=lambda: now[0])
    first = authority.own_credentials()
    now[0] += 240 * 86_400
    assert authority.own_credentials() == first
    now[0] += 10 * 86_400
    second = authority.own_credentials()
    assert second.name == first.name
    assert second.expires_s - first.expires_s == pytest.approx(250 * 86_400, abs=2)


def test_a_bad_request_gets_no_certificate(fleet: Fleet) -> None:
    good = certificates.new_request("x")[1]
    lines = good.splitlines()
    lines[2] = lines[2][:5] + ("A" if lines[2][5] != "A" else "B") + lines[2][6:]
    for request in ("\n".join(lines), "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"):
        with pytest.raises(NotTrusted, match="certificate request"):
            fleet.authority.grant(Role.DEVICE, request, "board", DEVICE_ID)


def test_the_own_host_cannot_be_revoked_and_nobody_by_a_wrong_name(fleet: Fleet) -> None:
    own = fleet.authority.own_credentials()
    with pytest.raises(InvalidRequest, match="this host itself"):
        fleet.authority.revoke(own.known_as)
    with pytest.raises(InvalidRequest, match="these have one"):
        fleet.authority.revoke("nobody")


def test_a_list_that_came_back_from_an_agent_counts_on(fleet: Fleet) -> None:
    fleet.member(Role.HOST, "ann")
    fleet.member(Role.HOST, "bob")
    fleet.authority.revoke("ann")
    first = fleet.authority.own_credentials().revocations.read()
    fleet.authority.revoke("bob")
    second = fleet.authority.own_credentials().revocations.read()
    assert second.number > first.number
    assert second.names > first.names


def test_a_name_means_one_member(fleet: Fleet) -> None:
    own = fleet.authority.own_credentials()
    board = fleet.member(Role.DEVICE, own.known_as, DEVICE_ID)  # a board that is called as the host is
    assert [one.name for one in fleet.authority.revoke(own.known_as)] == [board.name]
    fleet.member(Role.HOST, "ann")
    with pytest.raises(InvalidRequest, match="a host of the fleet is called 'ann'"):
        fleet.member(Role.DEVICE, "ann", OTHER_ID)
    other = fleet.member(Role.DEVICE, "pi4-1", OTHER_ID)
    assert [one.known_as for one in fleet.authority.revoke(other.name)] == ["pi4-1"]


def test_two_enrolments_do_not_share_a_port(waiting: Wait, fleet: Fleet) -> None:
    here = waiting()
    other = Enrolment(fleet.authority, Role.DEVICE, name_for=lambda _: "x", register=lambda *_: None)
    with other, pytest.raises(InvalidRequest, match="cannot listen on"):
        other.start(f"127.0.0.1:{here.address[1]}")
