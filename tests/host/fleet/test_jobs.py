"""Measuring, inference and leases through the client, on a real agent with a real runtime."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from running_agent import when_free

from device_agent.contract import errors
from device_agent.contract.measurement import MeasureEvent, MeasureResult, Phase, Progress, RunKind
from device_agent.contract.settings import MeasureRequest, Settings, Stopping
from host.fleet.client import AgentClient, measure_deadline_s

QUICK = Stopping(warmup_runs=2, warmup_time_s=0, min_runs=20, min_time_s=0.05, max_time_s=1, precision=None)
SETTINGS = Settings(threads=1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    weights = numpy_helper.from_array(np.random.default_rng(0).normal(size=(32, 8)).astype(np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 32])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 8])],
        [weights],
    )
    path = tmp_path_factory.mktemp("model") / "tiny.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def client(agent: Any) -> Iterator[AgentClient]:
    with AgentClient(agent.address) as made:
        yield made


def test_a_measurement_is_all_of_its_events(client: AgentClient, model: Path) -> None:
    artifact = client.push(model).artifact
    events: list[MeasureEvent] = []
    request = MeasureRequest(artifacts=(artifact.sha256,), settings=SETTINGS, stopping=QUICK)
    found = client.measure(request, on_event=events.append)
    assert found.request == request
    assert isinstance(events[-1], MeasureResult)
    assert found.result == events[-1]
    assert any(isinstance(event, Progress) for event in events)
    assert len(found.latencies_ns()) >= 20
    assert sum(run.kind is RunKind.WARM_UP for run in found.runs) >= 2
    assert all(run.latency_ns > 0 for run in found.runs)
    assert found.result.threads == 1
    assert found.result.runtime_version == onnxruntime.__version__
    assert found.result.artifacts[0].peak_memory_bytes is not None


def test_an_error_or_ctrl_c_in_the_host_frees_the_device(client: AgentClient, model: Path) -> None:
    sha256 = client.push(model).artifact.sha256
    long = Stopping(min_time_s=300, max_time_s=300)
    endless = MeasureRequest(artifacts=(sha256,), settings=SETTINGS, stopping=long)

    def interrupt(event: MeasureEvent) -> None:
        if isinstance(event, Progress) and event.phase is Phase.TIMING:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        client.measure(endless, on_event=interrupt)
    found = when_free(lambda: client.measure(MeasureRequest(artifacts=(sha256,), settings=SETTINGS, stopping=QUICK)))
    assert found.result.artifacts[0].sha256 == sha256


def test_a_device_that_falls_silent_is_noticed_long_before_the_deadline(
    agent: Any, client: AgentClient, model: Path
) -> None:
    sha256 = client.push(model).artifact.sha256
    long = Stopping(min_time_s=3000, max_time_s=3000)

    def freeze(event: MeasureEvent) -> None:
        if isinstance(event, Progress) and event.phase is Phase.TIMING:
            agent.process.send_signal(signal.SIGSTOP)

    try:
        with pytest.raises(errors.DeviceUnreachable, match=rf"the connection to the agent at {agent.address} broke"):
            client.measure(MeasureRequest(artifacts=(sha256,), settings=SETTINGS, stopping=long), on_event=freeze)
    finally:
        agent.process.send_signal(signal.SIGCONT)


def test_what_is_not_there_is_named(client: AgentClient, model: Path, tmp_path: Path) -> None:
    with pytest.raises(errors.ArtifactNotFound):
        client.measure(MeasureRequest(artifacts=("0" * 64,)))
    corrupt = tmp_path / "corrupt.onnx"
    corrupt.write_bytes(b"this is no protobuf" * 20)
    sha256 = client.push(corrupt).artifact.sha256
    with pytest.raises(errors.ModelRejected, match="corrupt"):
        client.measure(MeasureRequest(artifacts=(sha256,)))
    assert client.describe().contract_version == 1


def test_outputs_come_back_in_order(client: AgentClient, model: Path) -> None:
    sha256 = client.push(model).artifact.sha256
    rng = np.random.default_rng(1)
    batches = [rng.normal(size=(size, 32)).astype(np.float32) for size in (1, 5, 1, 64, 3)]
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    answers = list(client.infer(sha256, SETTINGS, ({"x": batch} for batch in batches)))
    assert len(answers) == len(batches)
    for batch, answer in zip(batches, answers, strict=True):
        (expected,) = session.run(None, {"x": batch})
        assert list(answer) == ["y"]
        np.testing.assert_allclose(answer["y"], expected, rtol=1e-5)
    assert list(client.infer(sha256, SETTINGS, ())) == []


def test_inputs_are_read_no_faster_than_answers_come(client: AgentClient, model: Path) -> None:
    sha256 = client.push(model).artifact.sha256
    taken = 0

    def batches() -> Iterator[dict[str, np.ndarray]]:
        nonlocal taken
        for batch in repeat({"x": np.zeros((1, 32), np.float32)}):
            taken += 1
            yield batch

    answers = client.infer(sha256, SETTINGS, batches(), in_flight=3)
    for _ in range(10):
        next(answers)
    # Three on their way, one that the next answer's turn has already asked for.
    assert 10 <= taken <= 10 + 3 + 1
    answers.close()
    assert client.describe().contract_version == 1


def test_an_error_of_the_callers_own_batches_comes_back(client: AgentClient, model: Path) -> None:
    sha256 = client.push(model).artifact.sha256

    def batches() -> Iterator[dict[str, np.ndarray]]:
        yield {"x": np.zeros((1, 32), np.float32)}
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        list(client.infer(sha256, SETTINGS, batches()))


def test_a_batch_that_does_not_fit_is_refused(client: AgentClient, model: Path) -> None:
    sha256 = client.push(model).artifact.sha256
    with pytest.raises(errors.BoardfitError, match=r"x|shape|33"):
        list(client.infer(sha256, SETTINGS, [{"x": np.zeros((1, 33), np.float32)}]))


def test_a_lease_keeps_others_out_until_it_is_released(agent: Any, client: AgentClient, model: Path) -> None:
    sha256 = client.push(model).artifact.sha256
    request = MeasureRequest(artifacts=(sha256,), settings=SETTINGS, stopping=QUICK)
    with AgentClient(agent.address) as other:
        with client.lease("ann", "nightly sweep", ttl_s=1.0) as lease:
            assert (lease.holder, lease.reason) == ("ann", "nightly sweep")
            time.sleep(2.0)  # twice the lease's life: only renewing keeps it
            with pytest.raises(errors.DeviceBusy, match="ann"):
                other.measure(request)
            with pytest.raises(errors.DeviceBusy, match="nightly sweep"), other.lease("bob", "debugging"):
                pass
            assert client.measure(request).latencies_ns()
        with other.lease("bob", "debugging"):
            assert other.measure(request).latencies_ns()
    assert not [thread for thread in threading.enumerate() if thread.name == "lease-renewal"]


def test_a_lease_is_void_after_the_agent_restarts(start: Callable[..., Any], tmp_path: Path, model: Path) -> None:
    store = tmp_path / "store"
    first = start(store=store)
    with AgentClient(first.address) as client:
        sha256 = client.push(model).artifact.sha256
        with client.lease("ann", "sweep"):
            first.kill()
            start(store=store, arguments=("--listen", first.address))
            with pytest.raises(errors.LeaseLost):
                _when_connected(lambda: client.measure(MeasureRequest(artifacts=(sha256,), stopping=QUICK)))


def _when_connected(call: Callable[[], Any]) -> Any:
    for _ in range(100):
        try:
            return call()
        except errors.DeviceUnreachable:
            time.sleep(0.1)
    raise AssertionError("the agent did not come back")


def test_the_calls_deadline_is_later_than_the_jobs() -> None:
    request = MeasureRequest(artifacts=("0" * 64,), deadline_s=5)
    assert measure_deadline_s(request) > 5
    long = MeasureRequest(artifacts=("0" * 64,) * 2, stopping=Stopping(min_time_s=900, max_time_s=900))
    assert measure_deadline_s(long) > 2 * 900
