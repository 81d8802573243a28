"""Code that is not run is let go, and comes back when it is."""

from __future__ import annotations

from pathlib import Path

import grpc

from device_agent.pages import GRPC, release_code


def test_code_is_unmapped_and_runs_again() -> None:
    grpc.insecure_channel("127.0.0.1:1").close()
    first = release_code(GRPC)
    assert first > 1_000_000
    assert release_code(GRPC) < first
    grpc.insecure_channel("127.0.0.1:1").close()
    assert release_code(GRPC) > 0


def test_nothing_that_was_written_to_is_touched() -> None:
    assert release_code("no such library") == 0
    assert release_code("[heap]") == 0
    assert Path("/proc/self/smaps").read_text()
