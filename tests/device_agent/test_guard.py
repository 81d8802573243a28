"""What stands around every call."""

from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from device_agent.guard import reports_errors

gone = grpc._cython.cygrpc.ExecuteBatchError


def test_a_line_that_breaks_under_an_answer_is_no_failure_of_the_agent(caplog: pytest.LogCaptureFixture) -> None:
    """A host that is killed in the middle of a measurement left a traceback in the agent's log for each."""

    @reports_errors
    async def measure(self: Any, request: Any, context: Any) -> None:
        raise gone("Failed 'execute_batch'", 0, ())

    with caplog.at_level(logging.INFO), pytest.raises(asyncio.CancelledError):
        asyncio.run(measure(SimpleNamespace(admission=None, stopping=False), None, None))
    assert not caplog.records
