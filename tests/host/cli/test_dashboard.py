"""`host dashboard`: its address, who may be asked to listen where, and that it ends."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from host.cli.dashboard import _reached_at

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

#: A bound against a hang.
LONG_S = 120


def test_it_says_where_it_is_answers_there_and_ends_by_ctrl_c(folders: Path) -> None:
    command = [sys.executable, "-m", "host", "dashboard", "--listen", "127.0.0.1:0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("dashboard http://127.0.0.1:")
            url = line.split()[1]
            with urllib.request.urlopen(url + "health", timeout=LONG_S) as answer:
                assert json.load(answer) == {"schema": 1, "devices": 0, "problem": None}
            process.send_signal(signal.SIGINT)
            assert process.wait(LONG_S) in (0, 130)
        finally:
            process.kill()


def test_what_others_type() -> None:
    assert _reached_at("localhost") == "localhost"
    assert _reached_at("192.0.2.7") == "192.0.2.7"
    for anywhere in ("0.0.0.0", "::"):
        assert _reached_at(anywhere) not in ("", "0.0.0.0", "::")


@pytest.mark.parametrize("listen", ["8737", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", "board.example:1", ":1"])
def test_what_is_no_address_is_refused(host: Callable[..., Any], listen: str) -> None:
    failed = host("dashboard", "--listen", listen)
    assert failed.code == 2
    assert "--listen" in failed.err
