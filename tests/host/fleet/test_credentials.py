"""The file with the private key, and what the gate does with it."""

from __future__ import annotations

import asyncio
import resource
import signal
import stat
from pathlib import Path

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from trust import DEVICE_ID, Fleet

from device_agent.admission import Admission
from device_agent.codec import joining as codec
from device_agent.contract.errors import InvalidRequest, NotTrusted
from device_agent.contract.joining import Grant, JoinRequest, KnownDevice, Revocations, Role, SignedRevocations
from device_agent.credentials import FILE_NAME, CredentialsUnusable, LiveCredentials, load, save
from host.fleet.authority import certificates


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    return Fleet.make(tmp_path_factory.mktemp("fleet") / "authority")


def test_it_comes_back_and_only_its_owner_reads_it(fleet: Fleet, tmp_path: Path) -> None:
    kept = fleet.device(tmp_path)
    assert load(tmp_path / FILE_NAME) == kept
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600
    assert kept.key_pem not in repr(kept)
    assert load(tmp_path / "nothing") is None


def test_others_may_not_read_it(fleet: Fleet, tmp_path: Path) -> None:
    fleet.device(tmp_path)
    (tmp_path / FILE_NAME).chmod(0o640)
    with pytest.raises(CredentialsUnusable, match=r"mode 0640.*chmod 600"):
        load(tmp_path / FILE_NAME)


@pytest.mark.parametrize("damage", [b"", b"{}", b"[]", b'{"schema": 9}', b"\xff\xfe", b'{"schema": 1, "name": 3}'])
def test_a_damaged_file_is_no_reason_to_go_without(fleet: Fleet, tmp_path: Path, damage: bytes) -> None:
    fleet.device(tmp_path)
    (tmp_path / FILE_NAME).write_bytes(damage)
    with pytest.raises(CredentialsUnusable, match=r"credentials\.json"):
        load(tmp_path / FILE_NAME)


def test_a_full_disk_leaves_the_former(fleet: Fleet, tmp_path: Path) -> None:
    kept = fleet.device(tmp_path)
    newer = fleet.member(Role.DEVICE, "board", DEVICE_ID)
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, before[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            save(tmp_path / FILE_NAME, newer)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert load(tmp_path / FILE_NAME) == kept
    assert sorted(path.name for path in tmp_path.iterdir()) == [FILE_NAME, "device-id"]


def test_what_a_killed_join_left_is_in_nobodys_way(fleet: Fleet, tmp_path: Path) -> None:
    kept = fleet.device(tmp_path)
    (tmp_path / f"{FILE_NAME}.tmp").write_bytes(b"half of it")
    (tmp_path / f"{FILE_NAME}.tmp").chmod(0o666)
    assert load(tmp_path / FILE_NAME) == kept
    save(tmp_path / FILE_NAME, kept)
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600


def gate(fleet: Fleet, store: Path) -> tuple[Admission, LiveCredentials]:
    live = LiveCredentials(store / FILE_NAME, fleet.device(store))
    return Admission(live), live


def names(*found: str) -> dict[str, list[bytes]]:
    return {"x509_subject_alternative_name": [name.encode() for name in found]}


def test_only_hosts_are_let_in(fleet: Fleet, tmp_path: Path) -> None:
    admission, _ = gate(fleet, tmp_path)
    assert admission.check(names("ann-1.host.boardfit")) == "ann-1.host.boardfit"
    refused = (
        {},
        names(),
        names(f"{DEVICE_ID}.device.boardfit"),
        names("host.boardfit"),
        names("ann-1.host.boardfit.evil"),
        names("ann-1.host.boardfit", f"{DEVICE_ID}.device.boardfit"),
    )
    for peer in refused:
        with pytest.raises(NotTrusted, match="only hosts may drive"):
            admission.check(peer)


def test_lists_of_revoked_names_are_exchanged(tmp_path: Path) -> None:
    fleet = Fleet.make(tmp_path / "authority")
    admission, live = gate(fleet, tmp_path / "store")
    ann = fleet.member(Role.HOST, "ann")
    older = fleet.authority.own_credentials().revocations
    assert asyncio.run(admission.exchange(older)) is None
    fleet.authority.revoke("ann")
    newer = fleet.authority.own_credentials().revocations
    forged = SignedRevocations(
        document=Revocations(number=99, names=frozenset()).to_document(), signature=newer.signature
    )
    with pytest.raises(NotTrusted, match="not signed"):
        asyncio.run(admission.exchange(forged))
    assert admission.check(names(ann.name)) == ann.name
    assert asyncio.run(admission.exchange(newer)) is None
    with pytest.raises(NotTrusted, match=r"ann.*was revoked"):
        admission.check(names(ann.name))
    assert asyncio.run(admission.exchange(older)) == newer
    # It outlives the process.
    again = load(tmp_path / "store" / FILE_NAME)
    assert again is not None
    assert again.revocations == newer
    assert live.revoked.names == {ann.name}


def test_a_certificate_that_was_not_asked_for_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    admission, live = gate(fleet, tmp_path)
    other = fleet.member(Role.DEVICE, "board", DEVICE_ID)
    with pytest.raises(InvalidRequest, match="ask again"):
        asyncio.run(admission.install(other.certificate_pem, 1.0))

    async def asked() -> None:
        await admission.new_request()
        with pytest.raises(NotTrusted, match="another private key"):
            await admission.install(other.certificate_pem, 1.0)

    before = live.credentials
    asyncio.run(asked())
    assert live.credentials == before


def test_a_file_of_another_authority_waits_for_a_restart(fleet: Fleet, tmp_path: Path) -> None:
    _, live = gate(fleet, tmp_path / "store")
    joined_again = fleet.device(tmp_path / "store")
    live._configuration()
    assert live.credentials == joined_again
    Fleet.make(tmp_path / "other").device(tmp_path / "store")
    live._configuration()
    assert live.credentials == joined_again
    (tmp_path / "store" / FILE_NAME).write_bytes(b"damaged")
    assert live._configuration() is None
    assert live.credentials == joined_again


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
maybe = st.none() | texts
numbers = st.floats(allow_nan=False)
signed = st.builds(SignedRevocations, document=st.binary(max_size=20), signature=st.binary(max_size=20))
REQUEST = certificates.new_request("x")[1]
AUTHORITY = certificates.new_authority("x").certificate_pem
known = st.builds(
    KnownDevice,
    name=texts,
    address=texts,
    device_id=maybe,
    profile=maybe,
    tags=st.lists(texts, max_size=3).map(tuple),
    tls_name=texts,
)
PAIRS = {
    "join_request": st.builds(
        JoinRequest,
        role=st.sampled_from(Role),
        secret=texts,
        request_pem=st.just(REQUEST),
        hostname=texts,
        version=texts,
        clock_s=numbers,
        device_id=st.text("0123456789abcdef", min_size=32, max_size=32),
        address=texts,
        profile=maybe,
    ),
    "grant": st.builds(
        Grant,
        name=texts,
        certificate_pem=st.just(AUTHORITY),
        authority_pem=st.just(AUTHORITY),
        expires_s=numbers,
        revocations=signed,
        devices=st.lists(known, max_size=3).map(tuple),
    ),
    "known_device": known,
    "revocations": signed,
    "newer": st.none() | signed,
    "confirm": texts,
    "confirmed": texts,
    "certificate_request": st.just(REQUEST),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_value_comes_back_as_it_went(name: str) -> None:
    to_pb, from_pb = getattr(codec, f"{name}_to_pb"), getattr(codec, f"{name}_from_pb")

    @seed(1)
    @settings(max_examples=30, deadline=None, database=None)
    @given(PAIRS[name])
    def round_trip(value: object) -> None:
        message = to_pb(value)
        assert from_pb(type(message).FromString(message.SerializeToString())) == value

    round_trip()


def test_malformed_messages_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="role"):
        codec.join_request_from_pb(codec.pb.JoinRequest(role=77))
    with pytest.raises(InvalidRequest, match="PEM"):
        codec.join_request_from_pb(codec.pb.JoinRequest(role=1, request_pem="x"))
    with pytest.raises(InvalidRequest, match="no device id"):
        codec.join_request_from_pb(codec.pb.JoinRequest(role=1, request_pem=REQUEST, device_id="../x", address="a:1"))
    with pytest.raises(InvalidRequest, match="PEM"):
        codec.install_from_pb(codec.pb.InstallCertificateRequest(certificate_pem=AUTHORITY + AUTHORITY))
    for document in (b"", b"[]", b'{"schema": 2}', b'{"schema": 1, "number": "x", "names": []}'):
        with pytest.raises(InvalidRequest, match="revoked"):
            SignedRevocations(document=document, signature=b"").read()
