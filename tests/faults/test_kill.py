"""Fifty kills (SIGKILL) of agent and host at random moments, while files are pushed and models measured.

After each: no corrupt artifact, no lost result, no orphan process, and the agent starts again on the same store. The moments
are drawn from a seed: a step to wait for and a delay after it, so that every step is hit whatever the machine's speed.
"""

from __future__ import annotations

import hashlib
import random
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import misbehaving_runtime
import pytest
from marked_processes import LINE_S, MarkedProcess, assert_gone, end_all, marked

from device_agent.contract.errors import DeviceBusy, DeviceUnreachable
from device_agent.contract.measurement import MeasureEvent, Phase, Progress
from device_agent.contract.settings import MeasureRequest, Settings, Stopping
from host.fleet.client import AgentClient
from host.results.store import ResultStore

SUPPORT = Path(__file__).parents[1] / "support"
TINY = Path(__file__).parents[1] / "fixtures/models/tiny.onnx"
#: Step of endless_host -> about how long it takes, in seconds.
STEPS = {"pushing": 0.2, "measuring": 0.8, "storing": 0.02}
KILLS = 5
SHORT = Stopping(warmup_runs=1, warmup_time_s=0, min_runs=5, min_time_s=0, max_time_s=1, precision=None)
# A host that waits for a run which takes an hour.
SLEEPING_HOST = """
import sys
from pathlib import Path
from device_agent.contract.measurement import Phase
from device_agent.contract.settings import MeasureRequest, Settings
from host.fleet.client import AgentClient
with AgentClient(sys.argv[1]) as client:
    sha256 = client.push(Path(sys.argv[2])).artifact.sha256
    note = lambda event: print("begun", flush=True) if getattr(event, "phase", None) is Phase.LOADING else None
    client.measure(MeasureRequest(artifacts=(sha256,), settings=Settings(runtime="sleeper")), on_event=note)
"""


class Bench:
    """A folder with its own store, history and XDG folders, and the processes that work in it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.history = f"sqlite:///{root / 'history.sqlite'}"
        self.environment = {f"XDG_{kind}_HOME": str(root / kind) for kind in ("CONFIG", "DATA", "CACHE", "STATE")}
        self.environment["TMPDIR"] = str(root / "tmp")
        self.environment.update(misbehaving_runtime.ENVIRONMENT)
        self.processes: list[MarkedProcess] = []
        self.hosts: list[MarkedProcess] = []
        (root / "tmp").mkdir()

    def start(self, *arguments: str) -> MarkedProcess:
        """Start a Python process with a mark of its own."""
        mark = f"{self.root}-{len(self.processes)}"
        process = MarkedProcess(arguments, mark=mark, log=self.root / "log", environment=self.environment)
        self.processes.append(process)
        return process

    def start_agent(self, port: int) -> MarkedProcess:
        """Start an agent on the store and wait until it listens."""
        where = ("--listen", f"127.0.0.1:{port}", "--store", str(self.root / "store"))
        agent = self.start("-m", "device_agent", "serve", *where)
        agent.wait_for("listening on ")
        return agent

    def address_of(self, agent: MarkedProcess) -> str:
        """Return where an agent listens."""
        return agent.lines[0].removeprefix("listening on ")

    def start_host(self, device: str, seed: int) -> MarkedProcess:
        """Start the endless host on a device."""
        host = self.start(str(SUPPORT / "endless_host.py"), device, str(TINY), str(self.root), self.history, str(seed))
        self.hosts.append(host)
        return host

    def acknowledged(self) -> dict[int, int]:
        """Return measurement id -> number of runs, of every result that a host has said to be stored."""
        lines = [line.split() for host in self.hosts for line in host.lines if line.startswith("stored ")]
        return {int(number): int(runs) for _, number, runs in lines}

    def assert_nothing_lost(self) -> int:
        """Every acknowledged result is in the history with its raw runs; return how many there are."""
        promised = self.acknowledged()
        with ResultStore.open(self.history) as store:
            kept = {number: len(store.get_measurement(number).measurement.runs) for number in promised}
        assert kept == promised
        return len(promised)


def assert_intact(store: Path) -> None:
    """Every file that stands for an artifact hashes to its name."""
    for path in (store / "artifacts").glob("*"):
        if re.fullmatch("[0-9a-f]{64}", path.name):
            assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    for process in made.processes:
        if process.process.poll() is None:
            process.kill()
    for process in made.processes:
        end_all(process.mark)  # what a failed test has found


def moment(generator: random.Random) -> tuple[str, float]:
    """Return a step to wait for and how many seconds to wait after it has begun."""
    step = generator.choice(sorted(STEPS))
    return step, generator.uniform(0, STEPS[step])


@pytest.mark.parametrize("seed", range(5))
def test_kill_the_agent(bench: Bench, seed: int) -> None:
    generator = random.Random(seed)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    agent = bench.start_agent(port)
    host = bench.start_host(f"127.0.0.1:{port}", seed)
    host.wait_for("stored ")
    for _ in range(KILLS):
        step, delay_s = moment(generator)
        host.drain()
        host.wait_for(step)
        time.sleep(delay_s)
        agent.kill()
        assert_gone(agent.mark)
        assert_intact(bench.root / "store")
        agent = bench.start_agent(port)
        host.wait_for("stored ")  # it serves again, and the host went on by itself
    host.kill()
    with AgentClient(f"127.0.0.1:{port}") as client:
        listed = client.list_artifacts()
    for artifact in listed:
        content = (bench.root / "store/artifacts" / artifact.sha256).read_bytes()
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (artifact.sha256, artifact.size_bytes)
    assert {artifact.name for artifact in listed} >= {TINY.name}
    assert bench.assert_nothing_lost() > KILLS
    agent.process.terminate()
    assert agent.finish() == 0
    assert not list((bench.root / "tmp").glob("boardfit-*"))


@pytest.mark.parametrize("seed", range(3))
def test_kill_the_host_and_its_local_agent_ends(bench: Bench, seed: int) -> None:
    generator = random.Random(seed)
    for turn in range(KILLS):
        step, delay_s = moment(generator)
        host = bench.start_host("local", seed * KILLS + turn)
        if turn == 0:
            host.wait_for("stored ")
        host.wait_for(step)
        time.sleep(delay_s)
        assert len(marked(host.mark)) >= 2  # the host and its agent
        host.kill()
        assert_gone(host.mark)
        for store in (bench.root / "CACHE/boardfit/local-agent").glob("*/store"):
            assert_intact(store)
        bench.assert_nothing_lost()
    assert bench.assert_nothing_lost() >= 1


@pytest.mark.parametrize("seed", range(2))
def test_kill_host_bench(bench: Bench, seed: int) -> None:
    generator = random.Random(seed)
    quickly = ("--device", "local", "--threads", "1", "--min-runs", "50", "--min-time", "0.1", "--max-time", "0.5")
    command = ("-m", "host", "bench", str(TINY), *quickly, "--json")
    begin = time.monotonic()
    whole = bench.start(*command)
    assert whole.finish() == 0, whole.log.read_text()
    length_s = time.monotonic() - begin
    told = [whole]
    for _ in range(KILLS):
        host = bench.start(*command)
        time.sleep(generator.uniform(0, length_s))
        host.kill()
        assert_gone(host.mark)
        for store in (bench.root / "CACHE/boardfit/local-agent").glob("*/store"):
            assert_intact(store)
        if any("measurement_id" in line for line in host.lines):  # it may have come to its end before the kill
            told.append(host)
    with ResultStore.open(f"sqlite:///{bench.root / 'DATA/boardfit/history.sqlite'}") as history:
        for host in told:
            [number] = re.findall(r'"measurement_id": (\d+)', "\n".join(host.lines))
            assert history.get_measurement(int(number)).measurement.latencies_ns()


def sleeping_run(client: AgentClient, *, begun: threading.Event) -> None:
    """Measure with a runtime whose first run takes an hour; `begun` is set when the model is being loaded."""
    sha256 = client.push(TINY).artifact.sha256

    def note(event: MeasureEvent) -> None:
        if isinstance(event, Progress) and event.phase is Phase.LOADING:
            begun.set()

    request = MeasureRequest(artifacts=(sha256,), settings=Settings(runtime="sleeper"), stopping=SHORT)
    client.measure(request, on_event=note)


def test_a_worker_in_an_endless_run_ends_with_its_agent(bench: Bench) -> None:
    agent = bench.start_agent(0)
    begun = threading.Event()
    with AgentClient(bench.address_of(agent)) as client, ThreadPoolExecutor(1) as pool:
        job = pool.submit(sleeping_run, client, begun=begun)
        assert begun.wait(LINE_S)
        time.sleep(0.3)  # from loading to the run
        assert len(marked(agent.mark)) == 2  # the agent and its worker
        agent.kill()
        assert_gone(agent.mark)
        with pytest.raises(DeviceUnreachable):
            job.result(LINE_S)


def test_an_endless_run_of_a_killed_host_ends_and_the_device_is_free(bench: Bench) -> None:
    agent = bench.start_agent(0)
    host = bench.start("-c", SLEEPING_HOST, bench.address_of(agent), str(TINY))
    host.wait_for("begun")
    with AgentClient(bench.address_of(agent)) as client:
        sha256 = client.push(TINY).artifact.sha256
        request = MeasureRequest(artifacts=(sha256,), settings=Settings(threads=1), stopping=SHORT)
        with pytest.raises(DeviceBusy):
            client.measure(request)
        host.kill()
        end = time.monotonic() + LINE_S
        while True:
            try:
                measurement = client.measure(request)
                break
            except DeviceBusy:
                assert time.monotonic() < end
                time.sleep(0.1)
    assert len(measurement.latencies_ns()) >= SHORT.min_runs
    assert len(marked(agent.mark)) == 1
