"""The hosts of benchmarks.exclusive_use: they take the lease, measure, and write down what they were promised, until killed."""

from __future__ import annotations

import itertools
import os
import random
import time
from pathlib import Path

from device_agent.contract.errors import BoardfitError
from device_agent.contract.settings import MeasureRequest, Settings, Stopping
from device_agent.worker.process import die_with
from host.fleet.client import AgentClient

TTL_S = 1.0
#: Who works without a lease, and takes the device only where it is free.
BARE = 0


def work(address: str, number: int, life: int, folder: Path, seed: str) -> None:
    """Be host `number` for good: lease, push, measure once to three times, release, again. Host BARE measures without a lease.

    Every line of `hosts.log` is one write, so that a kill leaves none by half:
    `lease TAG ASKED GRANTED`, `done TAG SINCE ASKED` (a measurement succeeded that was asked for then), `error CLASS`.
    """
    die_with(os.getppid())
    rng = random.Random(seed)
    log = os.open(folder / "hosts.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def note(*words: object) -> None:
        os.write(log, f"{' '.join(map(str, words))}\n".encode())

    with AgentClient(address, timeout_s=5.0) as client:
        for turn in itertools.count():
            tag = f"{number}.{life}.{turn}"
            model = folder / f"{number}.onnx"
            model.write_text(f"{tag}\n")
            try:
                if number == BARE:
                    _measure(client, model, rng)
                    note("bare", tag)
                else:
                    asked_ns = time.monotonic_ns()
                    with client.lease(f"host {number}", f"life {life}, turn {turn}", TTL_S, wait_s=60.0):
                        granted_ns = time.monotonic_ns()
                        note("lease", tag, asked_ns, granted_ns)
                        for _ in range(rng.randint(1, 3)):
                            start_ns = _measure(client, model, rng)
                            note("done", tag, granted_ns, start_ns)
                        time.sleep(rng.choice((0.0, 0.0, 0.1)))
            except BoardfitError as error:
                note("error", type(error).__name__)
                time.sleep(rng.uniform(0.02, 0.2))


def _measure(client: AgentClient, model: Path, rng: random.Random) -> int:
    """Push and measure for a random while; return when the measurement was asked for (CLOCK_MONOTONIC, ns)."""
    sha256 = client.push(model).artifact.sha256
    # Now and then longer than the lease of a host that stands still.
    time_s = rng.choice((*[rng.uniform(0.01, 0.3)] * 3, 4 * TTL_S))
    stopping = Stopping(
        warmup_runs=1, warmup_time_s=0, min_runs=5, min_time_s=time_s, max_time_s=time_s + 0.1, precision=None
    )
    request = MeasureRequest(
        artifacts=(sha256,), settings=Settings(runtime="stamping", threads=1), stopping=stopping, idle_s=0.0
    )
    start_ns = time.monotonic_ns()
    client.measure(request)
    return start_ns
