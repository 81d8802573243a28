"""The command `device-agent`: start, refusal, end, and what it prints where."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from json_schemas import validate
from running_agent import RunningAgent, StartAgent, wait_until, workers_of
from wire_client import ENDLESS, Connect, WireClient

from device_agent import __version__
from device_agent.contract.errors import InvalidRequest, JobAborted, TransientError
from device_agent.server import ListenAddress

#: Loading any of these in the supervisor would cost the memory that the models need.
HEAVY = ("numpy", "onnxruntime", "ai_edge_litert", "tflite_runtime", "torch", "onnx", "host", "psutil")
#: What `serve` goes without, for 6 MiB together: TLS and libcrypto, exact numbers, random ones, and what brings them.
SPARED = ("ssl", "hashlib", "hmac", "secrets", "random", "decimal", "fractions", "statistics", "tempfile", "platform")
SPARED_EXTENSIONS = ("_ssl", "_hashlib", "_random", "_decimal", "_statistics")


def device_agent(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "device_agent", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
    )


def test_the_supervisor_imports_nothing_heavy() -> None:
    code = (
        "import sys, device_agent.cli, device_agent.server, device_agent.agent, device_agent.report\n"
        "import device_agent.profiles; device_agent.profiles.all_profiles()\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


def test_serving_loads_no_ssl_and_nothing_that_brings_it() -> None:
    code = (
        "import sys, device_agent.cli as cli; before = set(sys.modules); cli._import_asyncio_without_ssl()\n"
        "import device_agent.server, device_agent.store, device_agent.profiles, device_agent.board\n"
        "device_agent.profiles.all_profiles(); device_agent.board.describe_board()\n"
        f"print([name for name in {SPARED!r} if name in sys.modules and name not in before])\n"
        "import ssl; ssl.create_default_context()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


def test_nothing_heavy_is_loaded_after_work_either(agent: RunningAgent, client: WireClient, tiny_onnx: Path) -> None:
    client.describe()
    client.measure(client.put(tiny_onnx))
    libraries = Path(f"/proc/{agent.process.pid}/maps").read_text()
    assert "grpc" in libraries
    assert not [name for name in HEAVY if f"/{name}/" in libraries]
    assert not [name for name in SPARED_EXTENSIONS if f"/{name}." in libraries]


def test_an_idle_agent_is_small(agent: RunningAgent, client: WireClient) -> None:
    client.describe()
    rollup = Path(f"/proc/{agent.process.pid}/smaps_rollup").read_text()
    kib = {line.split(":")[0]: int(line.split()[1]) for line in rollup.splitlines()[1:]}
    assert kib["Rss"] < 45 * 1024
    assert kib["Pss"] < 35 * 1024


def test_describing_a_thousand_times_takes_no_memory(agent: RunningAgent, client: WireClient) -> None:
    def rss_kib() -> int:
        rollup = Path(f"/proc/{agent.process.pid}/smaps_rollup").read_text()
        return int(re.search(r"^Rss:\s+(\d+) kB", rollup, re.MULTILINE)[1])  # type: ignore[index]

    for _ in range(1000):  # buffers that are made once
        client.describe()
    before = rss_kib()
    for _ in range(1000):
        client.describe()
    assert rss_kib() - before < 1024


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(agent: RunningAgent, client: WireClient, number: int) -> None:
    client.describe()
    agent.process.send_signal(number)
    assert agent.process.wait(30) == 0
    assert workers_of(agent.process.pid) == []


def test_a_signal_at_once_leaves_no_child(agent: RunningAgent) -> None:
    # The probe of the runtimes is under way now.
    assert agent.stop() == 0
    assert workers_of(agent.process.pid) == []


def test_a_signal_ends_the_running_job(start: StartAgent, connect: Connect, tiny_onnx: Path, tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    agent = start(environment={"TMPDIR": str(temporary)})
    client = connect(agent)
    running = client.start_measure(client.put(tiny_onnx), stopping=ENDLESS)
    next(running)
    wait_until(lambda: workers_of(agent.process.pid) != [], "a worker runs")
    agent.process.terminate()
    with pytest.raises(JobAborted, match="ended by the agent's shutdown") as caught:
        client.drain(running)
    assert isinstance(caught.value, TransientError)
    assert agent.process.wait(30) == 0
    assert workers_of(agent.process.pid) == []
    assert list(temporary.iterdir()) == []


def test_stdout_has_one_line(agent: RunningAgent, client: WireClient) -> None:
    client.describe()
    agent.process.terminate()
    rest, _ = agent.process.communicate(timeout=30)
    assert rest == ""
    assert re.fullmatch(r"127\.0\.0\.1:[1-9]\d*", agent.address)


def test_beyond_loopback_is_refused(tmp_path: Path) -> None:
    done = device_agent("serve", "--listen", "0.0.0.0:0", "--store", str(tmp_path / "store"))
    assert done.returncode == 2
    assert done.stdout == ""
    assert "device-agent join" in done.stderr
    assert "--insecure" in done.stderr


def test_insecure_warns_and_serves(start: StartAgent) -> None:
    agent = start(arguments=("--listen", "0.0.0.0:0", "--insecure"))
    assert agent.address.startswith("0.0.0.0:")
    assert "is open to everyone on the network" in agent.log.read_text()


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = device_agent("serve", "--listen", address, "--store", str(tmp_path / "store"))
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.strip() == (
        f"device-agent: cannot listen on {address}: the port is in use, or the address is not this machine's;"
        " choose another with --listen"
    )


def test_a_store_in_use(agent: RunningAgent) -> None:
    done = device_agent("serve", "--listen", "127.0.0.1:0", "--store", str(agent.store))
    assert done.returncode == 1
    assert f"another agent (process {agent.process.pid}) serves from {agent.store}" in done.stderr


def test_a_store_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = device_agent("serve", "--listen", "127.0.0.1:0", "--store", str(tmp_path / "file"))
    assert done.returncode == 1
    assert str(tmp_path / "file") in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_profile_names_the_known_ones(tmp_path: Path) -> None:
    done = device_agent("serve", "--listen", "127.0.0.1:0", "--profile", "pi99", "--store", str(tmp_path / "s"))
    assert done.returncode == 2
    assert "pi4" in done.stderr


def test_version() -> None:
    done = device_agent("--version")
    assert (done.returncode, done.stdout) == (0, f"device-agent {__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("dance",),
        ("serve", "--quota", "lots"),
        ("serve", "--quota", "0"),
        ("serve", "--listen", "here"),
        ("bench", "net.onnx", "--cpus", "3-1"),
        ("bench", "net.onnx", "--cpus", "0-4000000000"),
    ],
)
def test_usage(arguments: tuple[str, ...]) -> None:
    done = device_agent(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""


def test_info_says_what_describe_says(agent: RunningAgent, client: WireClient) -> None:
    done = device_agent("info", "--json", "--store", str(agent.store))
    found = json.loads(done.stdout)
    described = client.describe()
    assert found.pop("schema") == 1
    assert found["device_id"] == described.device_id
    assert [runtime["name"] for runtime in found["runtimes"]] == [runtime.name for runtime in described.runtimes]
    assert found["default_threads"] == described.default_threads


def test_bench_measures_without_a_host(tiny_onnx: Path, tmp_path: Path) -> None:
    done = device_agent(
        "bench", str(tiny_onnx), "--json", "--threads", "1", "--min-time", "0.05", "--max-time", "0.1",
        "--store", str(tmp_path / "store"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["latency_ns"]["min"] <= found["latency_ns"]["p50"] <= found["latency_ns"]["p99"]
    assert found["runs"] >= 50
    assert found["threads"] == 1
    assert found["artifact"]["name"] == "tiny.onnx"


def test_bench_of_several_models_compares_them(
    tiny_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    other = tmp_path / "other.onnx"
    other.write_bytes(tiny_onnx.read_bytes())
    command = (
        "bench", str(tiny_onnx), str(other), "--threads", "1", "--cpus", "0", "--min-runs", "20", "--min-time", "50ms",
        "--max-time", "200ms", "--warmup-time", "0", "--store", str(tmp_path / "store"),
    )  # fmt: skip
    done = device_agent(*command, "--json", "--cold-starts", "2")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    validate(found, "compare_bench")
    assert [artifact["name"] for artifact in found["artifacts"]] == ["tiny.onnx", "other.onnx"]
    assert [artifact["cold_starts"]["count"] for artifact in found["artifacts"]] == [2, 2]
    assert found["cpus"] == [0]
    text = device_agent(*command)
    assert text.returncode == 0, text.stderr
    assert re.search(r"^other.onnx +(faster|slower|undecided|no difference of 2 % or more): ", text.stdout, re.M)
    assert max(map(len, text.stdout.splitlines())) <= 100


def test_bench_names_options_as_they_were_typed(tiny_onnx: Path, tmp_path: Path) -> None:
    done = device_agent("bench", str(tiny_onnx), "--cpus", "8000", "--store", str(tmp_path / "store"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "--cpus 8000: this device lets the agent use" in done.stderr
    refused = device_agent("bench", str(tiny_onnx), "--soak", "5s", "--max-time", "1")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "--max-time has no effect with --soak" in refused.stderr


def test_an_interrupted_bench_says_so(tiny_onnx: Path, tmp_path: Path) -> None:
    # Longer than the longest time by default, which gives way to it.
    command = ("bench", str(tiny_onnx), "--min-time", "60", "--threads", "1", "--store", str(tmp_path / "store"))
    process = subprocess.Popen(
        [sys.executable, "-m", "device_agent", *command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    wait_until(lambda: workers_of(process.pid) != [], "the worker runs")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err.strip()) == (130, "", "device-agent: interrupted")


@pytest.mark.parametrize(
    ("name", "code", "says"),
    [
        ("missing.onnx", 2, "is not a file"),
        ("notes.txt", 2, "give an .onnx or .tflite file"),
        ("bad.onnx", 1, "bad.onnx"),
    ],
)
def test_bench_of_what_is_no_model(tmp_path: Path, name: str, code: int, says: str) -> None:
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "bad.onnx").write_text("not a model")
    done = device_agent("bench", str(tmp_path / name), "--store", str(tmp_path / "store"))
    assert done.returncode == code
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "shown", "loopback"),
    [
        ("127.0.0.1:50051", "127.0.0.1:50051", True),
        ("localhost:0", "127.0.0.1:0", True),
        ("[::1]:7", "[::1]:7", True),
        ("192.168.1.4:50051", "192.168.1.4:50051", False),
        ("[::]:1", "[::]:1", False),
    ],
)
def test_addresses(text: str, shown: str, loopback: bool) -> None:
    address = ListenAddress.parse(text)
    assert (str(address), address.is_loopback) == (shown, loopback)


@pytest.mark.parametrize("text", ["", "50051", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "board.local:1", ":1"])
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(InvalidRequest, match="ADDRESS:PORT"):
        ListenAddress.parse(text)
