"""Kill -9 of host and agent at random moments. BOARDFIT_KILLS=50 asks for more of them than the few of every run."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import psutil

from host.fleet.client import AgentClient
from host.fleet.local import local_agent
from host.results.store import ResultStore

KILLS = int(os.environ.get("BOARDFIT_KILLS", "4"))
TINY = Path(__file__).parents[2] / "fixtures/models/tiny.onnx"

HOST = """
import os, sys
from pathlib import Path
from device_agent.contract.settings import MeasureRequest, Settings, Stopping
from host.fleet.client import AgentClient
from host.fleet.local import local_agent
from host.results.store import ResultStore
root, tiny = Path(sys.argv[1]), Path(sys.argv[2])
quick = Stopping(warmup_runs=1, warmup_time_s=0, min_runs=20, min_time_s=0.05, max_time_s=0.2, precision=None)
with ResultStore.open(f"sqlite:///{root}/history.sqlite") as store, local_agent(root / "agents") as address:
    with AgentClient(address) as client:
        info = client.describe()
        print("ready", flush=True)
        while True:
            blob = root / "blob.onnx"
            blob.write_bytes(os.urandom(8 * 2**20))
            client.push(blob)
            sha256 = client.push(tiny).artifact.sha256
            request = MeasureRequest(artifacts=(sha256,), settings=Settings(threads=1), stopping=quick)
            found = client.measure(request)
            number = store.add_measurement(found, device=info, artifact_names=("tiny",))
            print(number, len(found.runs), flush=True)
"""


def test_kills_at_random_moments_lose_nothing_and_leave_nothing(tmp_path: Path) -> None:
    rng = random.Random(0)
    acknowledged: dict[int, int] = {}
    for kill in range(KILLS):
        with (tmp_path / "host.log").open("a") as log:
            host = subprocess.Popen(
                [sys.executable, "-c", HOST, str(tmp_path), str(TINY)],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert host.stdout is not None
        assert host.stdout.readline() == "ready\n", (tmp_path / "host.log").read_text()
        if kill % 2:
            number, runs = map(int, host.stdout.readline().split())
            acknowledged[number] = runs
        time.sleep(rng.uniform(0, 3))
        family = psutil.Process(host.pid).children(recursive=True)
        assert family, "the host has no agent"
        victim = host if kill % 2 else family[0]
        victim.kill()
        out, _ = host.communicate(timeout=60)
        for line in out.splitlines():
            number, runs = map(int, line.split())
            acknowledged[number] = runs
        _, alive = psutil.wait_procs(family, timeout=30)
        assert not alive, f"outlived kill {kill} of the {'host' if kill % 2 else 'agent'}: {alive}"
        for path in (tmp_path / "agents").glob("*/store/artifacts/*"):
            if not path.suffix:
                assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name
    with ResultStore.open(f"sqlite:///{tmp_path}/history.sqlite") as store:
        for number, runs in acknowledged.items():
            assert len(store.get_measurement(number).measurement.runs) == runs
    assert sorted(path.name for path in (tmp_path / "agents").iterdir()) == ["1"]
    with local_agent(tmp_path / "agents") as address, AgentClient(address) as client:
        for artifact in client.list_artifacts():
            assert (tmp_path / "agents/1/store/artifacts" / artifact.sha256).stat().st_size == artifact.size_bytes
