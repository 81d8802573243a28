"""A whole agent on a fake /sys: what a board's files and its vcgencmd say arrives at the host, with the model being timed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from boards import golden_of, unpacked
from running_agent import RunningAgent, start_agent
from wire_client import WireClient

from device_agent.contract.device import Quantity
from device_agent.contract.measurement import ReadingBatch
from device_agent.contract.settings import Stopping
from device_agent.sensors.recording import recorded_output
from host.fleet.client import AgentClient


def can_mount() -> bool:
    """Say whether this process may mount in a namespace of its own."""
    command = ["unshare", "--mount", "--propagation", "private", "true"]
    return shutil.which("unshare") is not None and subprocess.run(command, capture_output=True).returncode == 0


pytestmark = pytest.mark.skipif(not can_mount(), reason="needs the right to mount (root) and unshare of util-linux")


def agent_on(board: str, folder: Path) -> RunningAgent:
    """Start an agent that sees the board's /sys, and its vcgencmd where it has one."""
    root = unpacked(board, folder / "board")
    commands = root / "commands"
    for argument in ("pmic_read_adc", "get_throttled"):
        answer = recorded_output(root, f"vcgencmd {argument}")
        if answer is not None:
            (commands / argument).write_text(answer)
    script = commands / "vcgencmd"
    if (commands / "get_throttled").exists():
        script.write_text(f'#!/bin/sh\nexec cat "{commands}/$1"\n')
        script.chmod(0o755)
    mounted = f'mount --bind "{root}/sys" /sys && exec "{sys.executable}" "$@"'
    return start_agent(
        folder / "store",
        environment={"PATH": f"{commands}:{os.environ['PATH']}"},
        python=("unshare", "--mount", "--propagation", "private", "sh", "-c", mounted, "sh"),
    )


@pytest.mark.parametrize(("board", "rail"), [("jetson-orin-nano", "ina3221.VDD_IN"), ("pi5", "pmic.VDD_CORE")])
def test_power_arrives_while_a_model_is_timed(
    board: str, rail: str, tmp_path: Path, tiny_onnx: Path, connect: Callable[[RunningAgent], WireClient]
) -> None:
    agent = agent_on(board, tmp_path)
    try:
        client = connect(agent)
        info = client.describe()
        files = {name for name in golden_of(board)["readings"] if not name.startswith(("cpu.", "memory.", "io."))}
        assert files <= {channel.name for channel in info.channels}
        assert "power" not in {one.kind for one in info.missing_sensors}
        power = {channel.name for channel in info.channels if channel.quantity is Quantity.POWER}
        with AgentClient(agent.address) as host:
            apart = {one.channel: one.value for one in host.read_sensors()}
        stopping = Stopping(min_time_s=2.0, max_time_s=2.0, precision=None)
        events, result = client.measure(client.put(tiny_onnx), stopping=stopping, idle_s=0.0)
    finally:
        agent.stop()
    warm = {channel.name for channel in info.channels if channel.quantity is Quantity.TEMPERATURE}
    assert warm
    assert {name: apart.get(name) for name in warm} == {name: golden_of(board)["readings"].get(name) for name in warm}
    timed = next(window for window in result.windows if window.kind.value == "timed")
    readings = [one for event in events if isinstance(event, ReadingBatch) for one in event.readings]
    during = [one for one in readings if timed.start_ns <= one.time_ns <= timed.end_ns]
    assert {one.channel for one in during} >= power
    values = {one.value for one in during if one.channel == rail}
    assert values == {golden_of(board)["readings"][rail]}
    assert len([one for one in during if one.channel == rail]) >= 3
