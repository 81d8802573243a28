"""Fixtures for agent and host: a real agent process on loopback."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from running_agent import RunningAgent, StartAgent, start_agent

# Several test processes share the cores: each computes on one, as do the agents that it starts.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell's background job ignores Ctrl-C, and so would every process that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartAgent]:
    """Start agents as processes of their own; all of them are stopped after the test.

    `start(store=DIR, arguments=(...), environment={...})` waits until the agent listens. Without a store it gets its own.
    """
    agents: list[RunningAgent] = []

    def start_one(
        *,
        store: Path | None = None,
        arguments: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
    ) -> RunningAgent:
        folder = store or tmp_path / f"store-{len(agents)}"
        agents.append(start_agent(folder, arguments=arguments, environment=environment))
        return agents[-1]

    yield start_one
    for agent in agents:
        agent.stop()


@pytest.fixture
def agent(start: StartAgent) -> RunningAgent:
    """A running agent with an empty store: `.address`, `.store`, `.process`, `.stop()`."""
    return start()
