"""`host sweep`: a whole one against a real agent, and one that is stopped, killed and resumed, of many jobs without a board."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from json_schemas import validate
from running_agent import wait_until

from benchmarks.fake_agents import Behaviour, FakeAgents
from host.cli.errors import ExitCode
from host.results.lines import LineFilter, list_lines
from host.results.store import ResultStore

QUICK = '[settings]\nmin-runs = 20\nmin-time = "50ms"\nmax-time = "200ms"\nwarmup-time = "10ms"\n'


@pytest.fixture
def sweep(host: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: host("sweep", *map(str, arguments))


@pytest.fixture
def board(host: Callable[..., Any], agent: Any) -> str:
    assert host("devices", "add", "board", agent.address).code == 0
    return "board"


@pytest.fixture
def write(model: Path, tmp_path: Path) -> Callable[..., Path]:
    def write_one(text: str, *, top: str = "", devices: str = "board", settings: str = QUICK) -> Path:
        file = tmp_path / "night.toml"
        file.write_text(f'artifacts = ["tiny.onnx"]\ndevices = ["{devices}"]\n{top}\n{settings}{text}')
        return file

    return write_one


def test_a_whole_sweep(sweep: Callable[..., Any], board: str, write: Callable[..., Path], tmp_path: Path) -> None:
    file = write('[matrix]\nthreads = [1, 2]\nruntime = ["onnxruntime", "litert"]\n', top="repeats = 2")
    plan = sweep(file, "--dry-run", "--json", "--seed", 5).document
    assert (plan["jobs"], plan["seed"], plan["schema"]) == (4, 5, 1)
    assert plan["notes"] == ["2 combinations are left out: litert does not load .onnx files"]
    assert plan["estimate"]["known_jobs"] == 0
    assert plan["estimate"]["wall_s"] > 0
    assert sweep("--list", "--json").document["sweeps"] == []  # nothing was begun

    log = tmp_path / "log.jsonl"
    ran = sweep(file, "--json", "--seed", 5, "--log", log)
    assert ran.code == 0, ran.err
    document = ran.document
    validate(document, "sweep")
    assert document["jobs"] == {"total": 4, "done": 4, "failed": 0, "skipped": 0, "waiting": 0, "running": 0}
    assert (document["sweep"]["name"], document["sweep"]["seed"]) == ("night", 5)
    assert [(cell["options"]["threads"], cell["done"]) for cell in document["results"]] == [(1, 2), (2, 2)]
    for cell in document["results"]:
        low, high = cell["interval_ns"]
        assert 0 < low <= cell["p50_ns"] <= high
    assert "[4/4] board: tiny.onnx repeat 2: p50" in ran.err
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert [event["event"] for event in events].count("job-done") == 4
    with ResultStore.open() as store:
        lines = list_lines(store, LineFilter(sweep_id=document["sweep"]["id"]))
    assert {line.measurement_id for line in lines} == {
        event["measurement_id"] for event in events if event["event"] == "job-done"
    }
    assert {line.device_name for line in lines} == {"board"}

    # Nothing is repeated, the history knows better, and it can be asked about.
    again = sweep("--resume", "night", "--json").document
    assert again["jobs"]["done"] == 4
    assert again["results"] == document["results"]
    assert sweep(file, "--dry-run", "--json").document["estimate"]["known_jobs"] == 4
    assert sweep("--list", "--json").document["sweeps"][0]["jobs"]["done"] == 4
    status = sweep("--status", "#1")
    assert status.code == 0
    assert "night #1" in status.out
    assert sweep("--resume").code == ExitCode.FAILED
    other = file.rename(tmp_path / "day.toml")
    differ = sweep(other, "--resume", "#1")
    assert differ.code == ExitCode.USAGE
    assert "day.toml is the sweep day, and --resume #1 means night #1" in differ.err


def test_failures_and_devices_that_are_away(
    sweep: Callable[..., Any], board: str, write: Callable[..., Path], agent: Any
) -> None:
    ran = sweep(write("cpus = [99]\n", top="repeats = 3", settings="[settings]\n"), "--json")
    assert ran.code == ExitCode.FAILED, ran.err
    validate(ran.document, "sweep")
    (cell,) = ran.document["results"]
    assert (cell["failed"], cell["skipped"], cell["p50_ns"]) == (1, 2, None)
    assert "99" in cell["errors"][0]
    agent.stop()
    ran = sweep(write('[limits]\nwait-for-device = "0s"\n'))
    assert ran.code == ExitCode.NO_DEVICE, ran.err
    assert "1 job waits: no agent answers" in ran.out
    assert "host sweep --resume '#2'" in ran.out


def test_mistakes(sweep: Callable[..., Any], write: Callable[..., Path], tmp_path: Path) -> None:
    for arguments in ((), ("x.toml", "--list"), ("--resume", "--dry-run")):
        assert sweep(*arguments).code == ExitCode.USAGE
    file = write("[matrix]\nthraeds = [1]\n")
    ran = sweep(file)
    assert ran.code == ExitCode.USAGE
    assert f"{file}:10: [matrix] thraeds: " in ran.err
    assert "did you mean threads?" in ran.err
    assert sweep(write("", devices="pi-9")).code == ExitCode.USAGE
    assert sweep("--resume", "none").code == ExitCode.FAILED


def test_stopped_killed_and_resumed(
    host: Callable[..., Any], sweep: Callable[..., Any], write: Callable[..., Path], tmp_path: Path
) -> None:
    with FakeAgents(1, Behaviour(seconds=0.15)) as agents:
        assert host("devices", "add", "board", agents.addresses[0]).code == 0
        _stop_kill_and_resume(host, sweep, write("[matrix]\nthreads = [1, 2]\n", top="repeats = 10"), tmp_path)


def _stop_kill_and_resume(
    host: Callable[..., Any], sweep: Callable[..., Any], file: Path, tmp_path: Path, jobs: int = 20
) -> None:
    log = tmp_path / "log.jsonl"

    def done() -> list[int]:
        lines = log.read_text().splitlines() if log.exists() else []
        events = [json.loads(line) for line in lines]
        return [event["measurement_id"] for event in events if event["event"] == "job-done"]

    def start(*arguments: object) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "host", "sweep", *map(str, arguments), "--log", str(log)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ))

    first = start(file)
    wait_until(lambda: len(done()) >= 1, "a first job is done")
    first.send_signal(signal.SIGINT)
    assert first.wait(60) == ExitCode.INTERRUPTED
    status = sweep("--status", "night", "--json").document["devices"][0]
    assert (status["running"], status["done"]) == (0, len(done()))
    assert status["waiting"] == jobs - status["done"] > 0

    second = start("--resume", "night")
    stopped_at = len(done())
    wait_until(lambda: len(done()) > stopped_at, "another job is done")
    second.kill()
    second.wait(60)
    acknowledged = done()
    assert len(acknowledged) < jobs
    # A killed host's lease would run out by itself; the test does not wait for that.
    assert host("devices", "release", "board", "--force").code == 0
    ran = sweep("--resume", "--json")
    assert ran.code == 0, ran.err
    assert ran.document["jobs"]["done"] == jobs
    with ResultStore.open() as store:
        lines = list_lines(store, LineFilter(sweep_id=ran.document["sweep"]["id"]))
    assert len(lines) == jobs
    assert len({line.job_key for line in lines}) == jobs
    assert set(acknowledged) <= {line.measurement_id for line in lines}
