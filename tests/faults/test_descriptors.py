"""An agent that serves for months must not run out of file descriptors."""

from __future__ import annotations

from pathlib import Path

from running_agent import RunningAgent

from device_agent.contract.settings import MeasureRequest, Settings, Stopping
from host.fleet.client import AgentClient

TINY = Path(__file__).parents[1] / "fixtures/models/tiny.onnx"
SHORT = Stopping(warmup_runs=1, warmup_time_s=0, min_runs=5, min_time_s=0, max_time_s=1, precision=None)


def test_calls_leave_no_descriptor_open(agent: RunningAgent) -> None:
    open_files = Path(f"/proc/{agent.process.pid}/fd")
    with AgentClient(agent.address, timeout_s=60) as client:

        def work() -> None:
            sha256 = client.push(TINY).artifact.sha256
            client.measure(MeasureRequest(artifacts=(sha256,), settings=Settings(threads=1), stopping=SHORT))
            client.describe()
            client.delete_artifact(sha256)

        work()
        before = len(list(open_files.iterdir()))
        for _ in range(4):
            work()
        # Pipes of the last worker may be closed a moment after the answer; a leak leaves one or more for each call.
        assert len(list(open_files.iterdir())) < before + 4
