"""Fixtures for tests that speak to an agent over the wire."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from running_agent import RunningAgent
from wire_client import Connect, WireClient

MODELS = Path(__file__).parents[1] / "fixtures/models"


@pytest.fixture
def tiny_onnx() -> Path:
    return MODELS / "tiny.onnx"


@pytest.fixture
def tiny_tflite() -> Path:
    return MODELS / "tiny.tflite"


@pytest.fixture
def connect() -> Iterator[Connect]:
    clients: list[WireClient] = []

    def connect_one(agent: RunningAgent) -> WireClient:
        clients.append(WireClient(agent.address))
        return clients[-1]

    yield connect_one
    for client in clients:
        client.close()


@pytest.fixture
def client(agent: RunningAgent, connect: Connect) -> WireClient:
    """A client of the running agent."""
    return connect(agent)
