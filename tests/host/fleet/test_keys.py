"""Keys on the board, by the package and by the command alike."""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

import pytest
from trust import DEVICE_ID, Fleet

from device_agent.contract.errors import NotTrusted, RuntimeUnavailable
from device_agent.contract.joining import Role
from device_agent.keys import KeyMaker, in_child, key_maker
from device_agent.keys_cryptography import CryptographyKeys
from device_agent.keys_openssl import OpensslKeys
from host.fleet.authority import certificates

NAME = f"{DEVICE_ID}.device.boardfit"


@pytest.fixture(params=["cryptography", "openssl"])
def maker(request: pytest.FixtureRequest) -> KeyMaker:
    if request.param == "cryptography":
        return CryptographyKeys()
    command = shutil.which("openssl")
    if command is None:
        pytest.skip("this machine has no command openssl")
    return OpensslKeys(command)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    return Fleet.make(tmp_path_factory.mktemp("fleet") / "authority")


def test_a_request_gets_a_certificate_that_fits(maker: KeyMaker, fleet: Fleet, tmp_path: Path) -> None:
    key, request = maker.new_request("a board /CN=x")
    other, _ = maker.new_request("another")
    grant = fleet.authority.grant(Role.DEVICE, request, "board", DEVICE_ID)
    assert grant.name == NAME
    maker.check_certificate(key, grant.certificate_pem, grant.authority_pem, NAME)
    maker.check_signature(grant.authority_pem, grant.revocations.document, grant.revocations.signature)
    with pytest.raises(NotTrusted, match="another private key"):
        maker.check_certificate(other, grant.certificate_pem, grant.authority_pem, NAME)
    with pytest.raises(NotTrusted, match=r"not for other\.device\.boardfit alone"):
        maker.check_certificate(key, grant.certificate_pem, grant.authority_pem, "other.device.boardfit")
    stranger = certificates.new_authority("stranger").certificate_pem
    with pytest.raises(NotTrusted, match="not one of this authority"):
        maker.check_certificate(key, grant.certificate_pem, stranger, NAME)
    with pytest.raises(NotTrusted, match="not signed by this authority"):
        maker.check_signature(stranger, grant.revocations.document, grant.revocations.signature)
    with pytest.raises(NotTrusted, match="not signed by this authority"):
        maker.check_signature(grant.authority_pem, grant.revocations.document + b" ", grant.revocations.signature)


def test_a_wrong_clock_of_the_board_is_no_reason(maker: KeyMaker, fleet: Fleet) -> None:
    ended = fleet.forged(NAME, Role.DEVICE, life_s=-3600.0)
    maker.check_certificate(ended.key_pem, ended.certificate_pem, ended.authority_pem, NAME)


def test_a_process_of_its_own_does_it(fleet: Fleet) -> None:
    made = asyncio.run(in_child("new-request", name=NAME))
    grant = fleet.authority.grant(Role.DEVICE, made["request"], "board", DEVICE_ID)
    fits = {"key": made["key"], "certificate": grant.certificate_pem, "authority": grant.authority_pem}
    asyncio.run(in_child("check-certificate", **fits, name=NAME))
    with pytest.raises(NotTrusted, match="alone"):
        asyncio.run(in_child("check-certificate", **fits, name="x.device.boardfit"))


def test_a_board_without_either_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography", None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(RuntimeUnavailable, match=r"apt install openssl.*boardfit\[join\]"):
        key_maker()
