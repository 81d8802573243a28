"""What the client says when there is no agent, an older one, or one that fails."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

from device_agent.contract import errors
from device_agent.contract.settings import MeasureRequest
from device_agent.wire.v1 import agent_pb2 as pb
from device_agent.wire.v1 import agent_pb2_grpc
from host.fleet.channel import check_address
from host.fleet.client import AgentClient
from host.fleet.upload import Retry


@contextmanager
def serving(servicer: Any) -> Iterator[str]:
    """Serve on a free port of loopback and yield the address."""
    server = grpc.server(ThreadPoolExecutor(4))
    agent_pb2_grpc.add_AgentServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def test_nobody_listens() -> None:
    address = f"127.0.0.1:{free_port()}"
    with (
        AgentClient(address) as client,
        pytest.raises(errors.DeviceUnreachable, match=rf"no agent answers at {address}.*device-agent serve"),
    ):
        client.describe()


def test_a_name_that_does_not_resolve() -> None:
    with AgentClient("no-such-board.invalid", timeout_s=5) as client, pytest.raises(errors.DeviceUnreachable):
        client.describe()


def test_somebody_listens_who_never_answers() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with AgentClient(address, timeout_s=0.5) as client, pytest.raises(errors.DeviceUnreachable, match=address):
            client.describe()


def test_an_agent_of_an_older_contract() -> None:
    class Old(agent_pb2_grpc.AgentServicer):
        def Describe(self, request: Any, context: Any) -> pb.DescribeResponse:
            return pb.DescribeResponse(agent_version="0.0.7", contract_version=0)

    with (
        serving(Old()) as address,
        AgentClient(address) as client,
        pytest.raises(
            errors.AgentTooOld,
            match=r"version 0\.0\.7 and speaks contract version 0.*speaks contract version 1.*pip install --upgrade",
        ),
    ):
        client.describe()


def test_an_agent_that_lacks_a_call(tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(b"x")
    calls = {
        "Describe": lambda client: client.describe(),
        "ListArtifacts": lambda client: client.list_artifacts(),
        "QueryArtifact": lambda client: client.push(model),
        "Measure": lambda client: client.measure(MeasureRequest(artifacts=("0" * 64,))),
    }
    with serving(agent_pb2_grpc.AgentServicer()) as address, AgentClient(address) as client:
        for name, call in calls.items():
            with pytest.raises(errors.AgentTooOld, match=rf"does not know the call for {name}.*upgrade"):
                call(client)


@pytest.mark.parametrize(("kind", "status", "code"), errors.ERROR_TABLE)
def test_every_error_comes_back_as_itself(kind: type[errors.BoardfitError], status: str, code: str) -> None:
    class Failing(agent_pb2_grpc.AgentServicer):
        def ListArtifacts(self, request: Any, context: Any) -> None:
            context.set_trailing_metadata((("boardfit-error", code),))
            context.abort(getattr(grpc.StatusCode, status), "what and where")

    with serving(Failing()) as address, AgentClient(address) as client:
        with pytest.raises(kind, match=r"^what and where$") as caught:
            client.list_artifacts()
        assert type(caught.value) is kind


def test_a_transient_error_is_retried_and_a_stable_one_is_not(tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(b"x" * 10)
    waits: list[float] = []
    retry = Retry(attempts=4, sleep=waits.append)

    class Refusing(agent_pb2_grpc.AgentServicer):
        status = grpc.StatusCode.ABORTED
        code = "upload-conflict"
        uploads = 0

        def QueryArtifact(self, request: Any, context: Any) -> pb.QueryArtifactResponse:
            return pb.QueryArtifactResponse(complete=False, offset=3)

        def UploadArtifact(self, requests: Any, context: Any) -> None:
            self.uploads += 1
            list(requests)
            context.set_trailing_metadata((("boardfit-error", self.code),))
            context.abort(self.status, "no")

    servicer = Refusing()
    with serving(servicer) as address, AgentClient(address, retry=retry) as client:
        with pytest.raises(errors.UploadConflict, match=r"sending m\.onnx: no"):
            client.push(model)
        assert servicer.uploads == 4
        assert len(waits) == 3
        assert all(0.1 * 2**number <= wait <= 0.3 * 2**number for number, wait in enumerate(waits))
        servicer.status, servicer.code, servicer.uploads = grpc.StatusCode.RESOURCE_EXHAUSTED, "storage-full", 0
        with pytest.raises(errors.StorageFull):
            client.push(model)
        assert servicer.uploads == 1


def test_a_file_that_cannot_be_pushed(tmp_path: Path) -> None:
    empty = tmp_path / "empty.onnx"
    empty.touch()
    with AgentClient(f"127.0.0.1:{free_port()}") as client:
        with pytest.raises(errors.InvalidRequest, match=r"empty\.onnx is empty"):
            client.push(empty)
        with pytest.raises(errors.InvalidRequest, match=r"cannot read the file .*none\.onnx: No such file"):
            client.push(tmp_path / "none.onnx")
        with pytest.raises(errors.InvalidRequest, match=r"'\.txt' is not one of"):
            client.push(tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("pi4.local", "pi4.local:50051"),
        ("10.0.0.7:1234", "10.0.0.7:1234"),
        ("[::1]:9", "[::1]:9"),
        ("[fe80::1%eth0]", "[fe80::1%eth0]:50051"),
    ],
)
def test_addresses(given: str, meant: str) -> None:
    assert check_address(given) == meant


@pytest.mark.parametrize("text", ["", "a:b", "http://x:1", "x:0", "x:65536", "::1", "a b", "x:1:2", "unix:/tmp/x"])
def test_bad_addresses(text: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="is not an address"):
        check_address(text)
