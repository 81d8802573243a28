"""An x86 host and an agent on a Raspberry Pi 4's processor, by emulation, with the runtimes' own wheels for aarch64.

The figures are the emulator's and prove nothing. What is checked: that it installs, starts, says what board it is, runs both
formats with the right results, and leaves nothing behind.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from boards import golden_of
from emulated_agent import BOARD, ROOT, SITES, WHY_NOT, emulated_agent
from running_agent import RunningAgent, StartAgent, wait_until, workers_of

from device_agent.contract.errors import BoardfitError
from device_agent.contract.measurement import RunKind, VerdictCode
from device_agent.contract.settings import MeasureRequest, Settings, Stopping
from host.fleet.client import AgentClient

pytestmark = [pytest.mark.skipif(not (ROOT and SITES), reason=WHY_NOT), pytest.mark.timeout(900)]

MODELS = Path(__file__).parents[1] / "fixtures/models"
CALL_S = 300.0
#: Relative and absolute: float32 sums in another order. The outputs of this net are about 1.
TOLERANCE = 1e-5
SHORT = Stopping(warmup_runs=2, warmup_time_s=0, min_runs=20, min_time_s=3, max_time_s=60, precision=None)
ENDLESS = Stopping(warmup_runs=1, warmup_time_s=0, min_runs=10**6, min_time_s=0, max_time_s=600, precision=None)
FORMATS = [("tiny.onnx", "onnxruntime"), ("tiny.tflite", "litert")]


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningAgent]:
    with emulated_agent(tmp_path_factory.mktemp("board")) as agent:
        yield agent
        assert agent.stop() == 0, agent.log.read_text()


@pytest.fixture(scope="module")
def pi(board: RunningAgent) -> Iterator[AgentClient]:
    """A host's client of the emulated agent."""
    with AgentClient(board.address, timeout_s=CALL_S) as client:
        yield client


def inputs_of(runtime: str) -> list[dict[str, np.ndarray]]:
    """Return five batches of the net's input, each twice as large, under the name that the format gives it."""
    name = "x" if runtime == "onnxruntime" else "serving_default_args_0"
    generator = np.random.default_rng(0)
    return [{name: (2**n * generator.standard_normal((1, 3, 16, 16))).astype(np.float32)} for n in range(5)]


def infer(client: AgentClient, file: str, runtime: str) -> list[np.ndarray]:
    """Push and run a model, and return its one output for each batch."""
    sha256 = client.push(MODELS / file).artifact.sha256
    found = list(client.infer(sha256, Settings(runtime=runtime, threads=1), inputs_of(runtime)))
    assert [len(outputs) for outputs in found] == [1] * 5
    return [next(iter(outputs.values())) for outputs in found]


def test_it_says_what_it_is(pi: AgentClient) -> None:
    info, wanted = pi.describe(), golden_of(BOARD)
    assert info.architecture == "aarch64"
    assert info.profile == "pi4"
    for name in ("board", "cpu", "memory_bytes", "operating_system", "kernel", "governor"):
        assert getattr(info, name) == wanted["board"][name]
    channels = {channel.name for channel in info.channels}
    assert "thermal.cpu-thermal" in channels
    assert set(wanted["readings"]) <= channels
    assert {one.kind for one in info.missing_sensors} == {one["kind"] for one in wanted["missing"]}
    unavailable = {runtime.name: runtime.unavailable for runtime in info.runtimes}
    assert unavailable["onnxruntime"] is None
    assert unavailable["litert"] is None


@pytest.mark.parametrize(("file", "runtime"), FORMATS)
def test_outputs_are_those_of_this_machine(pi: AgentClient, start: StartAgent, file: str, runtime: str) -> None:
    there = infer(pi, file, runtime)
    with AgentClient(start().address, timeout_s=CALL_S) as here:
        assert here.describe().architecture != "aarch64"
        expected = infer(here, file, runtime)
    for got, wanted in zip(there, expected, strict=True):
        assert got.shape == (1, 10)
        np.testing.assert_allclose(got, wanted, rtol=TOLERANCE, atol=TOLERANCE)
    assert np.abs(np.diff(there, axis=0)).max() > 0.01, "all batches gave the same output"


@pytest.mark.parametrize(("file", "runtime"), FORMATS)
def test_it_measures(pi: AgentClient, file: str, runtime: str) -> None:
    sha256 = pi.push(MODELS / file).artifact.sha256
    request = MeasureRequest(artifacts=(sha256,), settings=Settings(runtime=runtime, threads=1), stopping=SHORT)
    measurement = pi.measure(request)
    assert measurement.result.runtime == runtime
    timed = [run for run in measurement.runs if run.kind is RunKind.TIMED]
    assert len(timed) >= SHORT.min_runs
    assert all(run.latency_ns > 0 for run in timed)
    [artifact] = measurement.result.artifacts
    assert artifact.provider in next(one.providers for one in pi.describe().runtimes if one.name == runtime)
    # The recorded flags say that the board is under-voltage and throttled now.
    assert {VerdictCode.UNDER_VOLTAGE, VerdictCode.THROTTLED} <= {verdict.code for verdict in artifact.verdicts}
    temperatures = {reading.value for reading in measurement.readings if reading.channel == "thermal.cpu-thermal"}
    assert temperatures == {golden_of(BOARD)["readings"]["thermal.cpu-thermal"]}


def test_workers_are_emulated_and_die_with_the_agent(tmp_path: Path) -> None:
    """PR_SET_PDEATHSIG, pipes and process groups pass through the emulator."""
    with emulated_agent(tmp_path) as agent, AgentClient(agent.address, timeout_s=CALL_S) as client:
        sha256 = client.push(MODELS / "tiny.onnx").artifact.sha256
        request = MeasureRequest(artifacts=(sha256,), settings=Settings(threads=1), stopping=ENDLESS)
        timing, failures = threading.Event(), []

        def measure() -> None:
            try:
                client.measure(request, on_event=lambda event: timing.set() if hasattr(event, "runs") else None)
            except BoardfitError as error:
                failures.append(error)

        measuring = threading.Thread(target=measure)
        measuring.start()
        assert timing.wait(CALL_S), agent.log.read_text()
        [worker] = workers_of(agent.process.pid)
        assert Path(f"/proc/{worker}/exe").readlink().name.startswith("qemu-aarch64")
        agent.kill()
        wait_until(lambda: not workers_of(agent.process.pid), "the workers of a killed agent are gone")
        measuring.join(CALL_S)
        assert failures


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    def traces() -> tuple[list[str], list[str]]:
        registered = Path("/proc/sys/fs/binfmt_misc")
        return sorted(Path("/proc/self/mounts").read_text().splitlines()), sorted(
            path.name for path in registered.iterdir()
        )

    before = traces()
    with emulated_agent(tmp_path) as agent:
        assert traces() == before, "the namespaces let something out"
        assert agent.stop() == 0
    assert traces() == before
