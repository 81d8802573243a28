"""TLS between hosts and agents: who may call, what goes wrong in words, renewing and revoking a running agent."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from running_agent import RunningAgent, start_agent
from trust import DEVICE_ID, Fleet

from device_agent.contract.errors import DeviceUnreachable, NotTrusted, TransientError
from device_agent.contract.joining import Role
from device_agent.credentials import FILE_NAME, Credentials, load
from device_agent.wire.v1 import agent_pb2, join_pb2
from host.fleet import channel, identity, renewal
from host.fleet.authority import certificates
from host.fleet.authority.fleet import renew_all, tell_all
from host.fleet.client import AgentClient
from host.fleet.devices import DeviceReplaced, connect, identify, open_device
from host.fleet.inventory import Inventory, RegisteredDevice

NAME = f"{DEVICE_ID}.device.boardfit"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    data = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(data))
        yield Fleet.make(identity.default_folder())


@pytest.fixture(scope="module")
def agent(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    """A real agent that has joined, for all tests here."""
    store = tmp_path_factory.mktemp("board") / "store"
    fleet.device(store)
    running = start_agent(store)
    yield running
    running.stop()


@pytest.fixture
def device(fleet: Fleet, agent: RunningAgent) -> RegisteredDevice:
    ours = identity.fingerprint(fleet.authority.own_credentials().authority_pem)
    return RegisteredDevice(
        name="board", address=agent.address, device_id=DEVICE_ID, tls_name=NAME, tls_ca=ours
    )  # fmt: skip


@pytest.fixture
def inventory(device: RegisteredDevice, tmp_path: Path) -> Inventory:
    made = Inventory(tmp_path / "devices.json")
    made.add(device)
    return made


def test_a_joined_device_is_used_as_any_other(inventory: Inventory, agent: RunningAgent, tmp_path: Path) -> None:
    model = tmp_path / "random.onnx"
    model.write_bytes(b"x" * 3_000_000)
    with open_device("board", inventory=inventory) as device:
        assert device.info.device_id == DEVICE_ID
        assert device.client.push(model).bytes_sent == 3_000_000
        assert [artifact.name for artifact in device.client.list_artifacts()] == ["random.onnx"]


def test_the_supervisor_has_neither_ssl_nor_cryptography(inventory: Inventory, agent: RunningAgent) -> None:
    with open_device("board", inventory=inventory):
        libraries = Path(f"/proc/{agent.process.pid}/maps").read_text()
    assert "grpc" in libraries
    assert not [name for name in ("_ssl.", "_hashlib.", "libssl", "libcrypto", "/cryptography/") if name in libraries]


def test_no_call_is_for_another_board_although_its_authority_is_ours(fleet: Fleet, agent: RunningAgent) -> None:
    """The first is what a board has. The second has what the handshake asks of a host, so every call is tried."""
    board = fleet.member(Role.DEVICE, "other board", "e" * 32)
    with (
        AgentClient(agent.address, peer=fleet.peer(NAME, board)) as client,
        pytest.raises(NotTrusted, match="lets in hosts only"),
    ):
        client.describe()
    stranger = fleet.forged(f"{'e' * 32}.device.boardfit", Role.HOST)
    services = [file.DESCRIPTOR.services_by_name[name] for file, name in ((agent_pb2, "Agent"), (join_pb2, "Trust"))]
    methods = [method for service in services for method in service.methods]
    assert len(methods) > 12
    with closing(channel.open_channel(agent.address, fleet.peer(NAME, stranger))) as opened:
        for method in methods:
            call: Any = opened.stream_stream(f"/{method.containing_service.full_name}/{method.name}")
            with pytest.raises(grpc.RpcError) as caught:
                list(call(iter([b""]), timeout=30))
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED, method.name
            assert "only hosts may drive this device" in caught.value.details()


def test_without_tls_nothing_gets_in_and_the_error_says_why(agent: RunningAgent) -> None:
    with AgentClient(agent.address) as client, pytest.raises(NotTrusted, match=r"speaks TLS.*host devices add NAME"):
        client.describe()


def test_what_to_do_about_an_agent_that_speaks_tls(
    agent: RunningAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = RegisteredDevice(name="t1", address=agent.address)
    with connect(bare) as client, pytest.raises(NotTrusted, match=f"`host devices add t1 {agent.address} --force`"):
        client.describe()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with pytest.raises(NotTrusted, match=r"speaks TLS.*Enroll it: `host enroll --name t1` here") as caught:
        identify(bare)
    assert "devices add" not in str(caught.value), "that is what was typed"


def test_a_device_that_is_added_is_found_to_speak_tls(agent: RunningAgent, device: RegisteredDevice) -> None:
    bare = RegisteredDevice(name="board", address=agent.address)
    found, info = identify(bare)
    assert replace(found, profile=None) == device
    assert found.profile == info.profile
    elsewhere = replace(device, tls_name=f"{'a' * 32}.device.boardfit")
    assert identify(elsewhere)[0].tls_name == NAME


def test_another_device_at_the_address_is_named(device: RegisteredDevice) -> None:
    wanted = replace(device, tls_name=f"{'a' * 32}.device.boardfit")
    with connect(wanted) as client, pytest.raises(NotTrusted, match=f"another device .{NAME}"):
        client.describe()


def test_a_certificate_that_was_copied_to_another_store_is_noticed(
    inventory: Inventory, device: RegisteredDevice
) -> None:
    inventory.add(replace(device, device_id="d" * 32), replace=True)
    with pytest.raises(DeviceReplaced), open_device("board", inventory=inventory):
        pass


def test_a_host_of_another_authority_is_told_so(device: RegisteredDevice, agent: RunningAgent, tmp_path: Path) -> None:
    others = Fleet.make(tmp_path / "other")
    with (
        AgentClient(agent.address, peer=others.peer(NAME)) as client,
        pytest.raises(NotTrusted, match="not of this host's authority"),
    ):
        client.describe()
    with pytest.raises(NotTrusted, match="enrolled with another authority"):
        identity.peer_of(device, others.folder)
    with pytest.raises(NotTrusted, match="this host has no certificate"):
        identity.peer_of(device, tmp_path / "none")


def test_a_renewal_needs_no_restart_and_breaks_no_connection(
    fleet: Fleet, device: RegisteredDevice, agent: RunningAgent
) -> None:
    def shown() -> str:
        host, port = agent.address.split(":")
        return certificates.look_into(ssl.get_server_certificate((host, int(port)), timeout=30)).serial

    before, kept = shown(), load(agent.store / FILE_NAME)
    with connect(device) as client:
        client.describe()
        assert renew_all([device]) == (("board",), {})
        client.describe()
    after = load(agent.store / FILE_NAME)
    assert kept is not None
    assert after is not None
    assert after.key_pem != kept.key_pem
    assert shown() == certificates.look_into(after.certificate_pem).serial != before
    with connect(device) as client:
        client.describe()
    assert [member.serial for member in fleet.authority.members() if member.name == NAME] == [shown()]


def test_no_key_is_made_while_somebody_measures(device: RegisteredDevice, agent: RunningAgent) -> None:
    with connect(device) as client, client.lease("ann", "a long measurement"):
        renewed, failed = renew_all([device])
    assert renewed == ()
    assert "in use" in failed["board"]
    assert renew_all([device]) == (("board",), {})


def test_it_is_renewed_by_itself_in_the_last_third(
    fleet: Fleet, inventory: Inventory, agent: RunningAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = load(agent.store / FILE_NAME)
    with open_device("board", inventory=inventory):
        assert load(agent.store / FILE_NAME) == kept
    monkeypatch.setattr(identity, "RENEW_BEFORE_S", 2 * identity.LIFE_S)
    with open_device("board", inventory=inventory):
        assert load(agent.store / FILE_NAME) != kept


def test_a_revoked_host_is_refused_at_its_next_call(
    fleet: Fleet, inventory: Inventory, agent: RunningAgent, device: RegisteredDevice
) -> None:
    ann = fleet.member(Role.HOST, "ann")
    with AgentClient(agent.address, peer=fleet.peer(NAME, ann)) as client:
        client.describe()
        fleet.authority.revoke("ann")
        assert tell_all(inventory) == (("board",), {})
        with pytest.raises(NotTrusted, match=r"the host ann-[0-9a-f]{8} was revoked"):
            client.describe()
        # Nor can it take the revocation back.
        with pytest.raises(NotTrusted, match="was revoked"):
            client.exchange_revocations(ann.revocations)
    with connect(device) as client:
        client.describe()


def test_a_further_host_learns_of_a_revocation_from_the_agents(
    fleet: Fleet, agent: RunningAgent, device: RegisteredDevice, tmp_path: Path
) -> None:
    from device_agent.credentials import save

    bob = fleet.member(Role.HOST, "bob")
    save(identity.own_path(tmp_path), bob)
    fleet.member(Role.DEVICE, "lost", "c" * 32)
    fleet.authority.revoke("lost")
    with connect(device) as client:
        renewal.exchange_revocations(client)
    with AgentClient(agent.address, peer=fleet.peer(NAME, bob)) as client:
        renewal.tend(client, tmp_path)
    lost = replace(device, name="lost", tls_name=f"{'c' * 32}.device.boardfit")
    with pytest.raises(NotTrusted, match="'lost' was revoked"):
        identity.peer_of(lost, tmp_path)
    with pytest.raises(NotTrusted, match="'lost' was revoked"):
        identity.peer_of(lost)


# What a real agent would only show with a wrong clock or a damaged store is shown by a server without calls.


@pytest.fixture
def showing() -> Iterator[Callable[[Credentials | None], str]]:
    servers: list[Any] = []

    def start(credentials: Credentials | None) -> str:
        server = grpc.server(ThreadPoolExecutor(1))
        if credentials is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            pair = (credentials.key_pem.encode(), credentials.certificate_pem.encode())
            trusted = grpc.ssl_server_credentials([pair], credentials.authority_pem.encode(), True)
            port = server.add_secure_port("127.0.0.1:0", trusted)
        server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.stop(None).wait()


def test_an_agent_without_tls_is_sent_nothing_if_it_had_joined(
    fleet: Fleet, device: RegisteredDevice, showing: Callable[..., str]
) -> None:
    with (
        connect(replace(device, address=showing(None))) as client,
        pytest.raises(NotTrusted, match="does not speak TLS, but this device joined with it"),
    ):
        client.describe()


def test_a_certificate_that_has_ended_is_dated(fleet: Fleet, showing: Callable[..., str]) -> None:
    ended = fleet.forged(NAME, Role.DEVICE, life_s=-3 * 86_400.0)
    with (
        AgentClient(showing(ended), peer=fleet.peer(NAME)) as client,
        pytest.raises(NotTrusted, match=r"ended on \d{4}-\d\d-\d\d, and here it is"),
    ):
        client.describe()


def test_a_host_whose_certificate_has_ended_says_so_before_it_calls(
    fleet: Fleet, device: RegisteredDevice, showing: Callable[..., str], tmp_path: Path
) -> None:
    from device_agent.credentials import save

    ended = fleet.forged("ann-1.host.boardfit", Role.HOST, life_s=-60.0)
    save(identity.own_path(tmp_path), ended)
    with pytest.raises(NotTrusted, match="this host's certificate ended on"):
        identity.peer_of(device, tmp_path)
    # A board whose clock is ahead comes to the same conclusion earlier.
    with (
        AgentClient(showing(fleet.forged(NAME, Role.DEVICE)), peer=fleet.peer(NAME, ended)) as client,
        pytest.raises(NotTrusted, match=r"refuses this host's certificate\. Either the clock"),
    ):
        client.describe()


def test_an_agent_that_joined_elsewhere_since_is_told_apart(
    fleet: Fleet, tmp_path: Path, showing: Callable[..., str]
) -> None:
    """It shows a certificate of ours and takes only those of the other authority."""
    mixed = replace(
        fleet.forged(NAME, Role.DEVICE), authority_pem=Fleet.make(tmp_path / "other").authority.pair().certificate_pem
    )
    with (
        AgentClient(showing(mixed), peer=fleet.peer(NAME)) as client,
        pytest.raises(NotTrusted, match="or it has joined another host's authority since"),
    ):
        client.describe()


def test_silence_and_refusal_are_no_matter_of_trust(device: RegisteredDevice) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"127.0.0.1:{closed.getsockname()[1]}"
    with connect(replace(device, address=address)) as client, pytest.raises(DeviceUnreachable) as caught:
        client.describe()
    assert isinstance(caught.value, TransientError)


def test_an_agent_with_a_damaged_key_does_not_start_without_tls(fleet: Fleet, tmp_path: Path) -> None:
    fleet.device(tmp_path)
    (tmp_path / FILE_NAME).chmod(0o604)
    done = subprocess.run(
        [sys.executable, "-m", "device_agent", "serve", "--listen", "127.0.0.1:0", "--store", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert "mode 0604" in done.stderr
